"""Where charts put things, computed by hand."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hsstar.store.read.figures import LevelFlow
from hsstar.web.charts import histogram, plot, stack, thinned
from hsstar.web.flow import HEIGHT, draw_flow


def test_parts_of_a_bar_lie_beside_each_other() -> None:
    parts = [(part.name, part.start, part.width) for part in stack([("a", 1), ("b", 0), ("c", 3)])]
    assert parts == [("a", 0.0, 0.25), ("c", 0.25, 0.75)]
    assert stack([("a", 0)]) == []


def test_a_line_spans_its_box_and_leaves_out_what_is_no_number() -> None:
    drawn = plot({"loss": [(0, 2.0), (1, None), (2, math.nan), (3, math.inf), (4, 1.0)]})
    assert drawn is not None
    (line,) = drawn.lines
    assert (line.points, line.first, line.last) == ("0,0 100,100", 2.0, 1.0)
    assert (drawn.low, drawn.high, drawn.values) == (1.0, 2.0, 2)
    assert plot({"loss": [(0, None)]}) is None


def test_a_constant_and_a_single_point_have_a_place() -> None:
    for points in ([(0, 5.0), (1, 5.0)], [(3, 0.0)], [(3, -2.0)]):
        drawn = plot({"x": points})
        assert drawn is not None
        assert drawn.low < points[0][1] < drawn.high
        assert drawn.lines[0].last_y == 50


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3_000))
def test_a_long_line_keeps_its_ends_and_its_peaks(values: list[float]) -> None:
    points = [*enumerate(values)]
    kept = thinned(points)
    assert len(kept) <= 402
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {min(values), max(values)} <= {y for _, y in kept}
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_a_histogram_stacks_series_and_hangs_others_below_its_axis() -> None:
    one = histogram(["0", "1"], {"a": [1, 0], "b": [3, 2]})
    assert (one.axis, one.total) == (1.0, 6)
    assert [(b.name, b.y, b.height) for b in one.columns[0].blocks] == [("a", 0.75, 0.25), ("b", 0.0, 0.75)]
    two = histogram(["0"], {"correct": [2]}, {"incorrect": [4]})
    assert [(b.name, b.y, b.height) for b in two.columns[0].blocks] == [
        ("correct", 0.25, 0.25), ("incorrect", 0.5, 0.5),
    ]  # fmt: skip
    assert histogram(["0"], {"a": [0]}).columns[0].blocks == []


def test_the_flow_of_an_iteration_stays_in_its_box() -> None:
    levels = [
        LevelFlow("outlier", 77, 0, 0, 0),
        LevelFlow("inlier", 86, 0, 0, 0),
        LevelFlow("boundary", 87, 1250, 274, 60),
    ]
    flow = draw_flow(levels)
    assert flow is not None
    assert [block.level for block in flow.blocks[:3]] == ["inlier", "boundary", "outlier"]
    assert [(block.level, block.number) for block in flow.blocks[6:]] == [
        ("boundary", 1250),
        ("boundary", 274),
    ]
    assert all(round(block.y, 6) >= 0 and round(block.y + block.height, 6) <= HEIGHT for block in flow.blocks)
    assert [band.level for band in flow.bands] == ["inlier", "boundary", "outlier", "boundary", "boundary"]
    assert draw_flow([]) is None
    assert draw_flow([LevelFlow("unlabelled", 3, 0, 0, 0)]) is not None

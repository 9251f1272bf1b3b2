"""The view of a run fits every terminal, says what matters first, and obeys no text in it."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.live import Live

from hsstar.cli.views.bars import level_bar, progress_bar, shares
from hsstar.cli.views.dashboard import Dashboard
from hsstar.cli.views.output import PlainConsole
from hsstar.cli.views.progress_lines import time_left
from hsstar.insights.progress import RunProgress, TimeLeft
from hsstar.insights.watch import RunLook, lost_worker_lines
from hsstar.store.read.overview import WorkerSummary
from tests.unit.test_progress import DONE, MEASURED, NOTHING, QUIET, SAMPLED

NOW = datetime.now(UTC)
BUSY = WorkerSummary(
    "sample-1@box", "box", "sample", "0", "busy", 2, 17, "sample", NOW - timedelta(seconds=75), 3, 12345, NOW,
    None, None,
)  # fmt: skip
LOST = replace(BUSY, worker="score-1@box", state="lost", job=None, since=None, note="\x1b[31mno room\u202e")
OPEN = replace(
    SAMPLED, number=2, drawn=700, verified=600, correct=300, scored=500, inlier=10, boundary=20, outlier=10,
    waves=1, training_steps=40, training_steps_done=10,
)  # fmt: skip
LOOK = RunLook(
    RunProgress([DONE, replace(DONE, number=1), OPEN, replace(NOTHING, number=3), MEASURED], [QUIET]),
    [BUSY, LOST],
    4321.5,
    TimeLeft(90.0, 0.25, 30.0),
    ["3 score jobs failed: [red]it broke"],
    None,
)


def shown(width: int, height: int, view: Dashboard) -> list[str]:
    """What a terminal of this size gets."""
    screen = io.StringIO()
    console = PlainConsole(file=screen, width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as frame:
        console.print(view, end="")
    return frame.get().rstrip("\n").split("\n")


def test_everything_stands_in_a_large_terminal() -> None:
    busy = replace(BUSY, since=datetime.now(UTC) - timedelta(seconds=75))
    text = "\n".join(shown(120, 50, Dashboard("r", replace(LOOK, workers=[busy, LOST]), 65.0)))
    for part in (
        "run r  watched for 1 min 05 s · 4,322 tokens/s in the last 30 s · "
        "about 1 min 30 s left (25% in the last 30 s)",
        "iteration 2  re-sampling  correct 50%  wave 1",
        "  sampled  ",
        "  700/800",
        "  verified ",
        "  600/800",
        "  500/800",
        "  trained  ",
        "  10/40",
        "█ inlier 10  ▓ boundary 20  ░ outlier 10",
        "workers  1 busy, 1 lost",
        "sample-1@box  busy      sample job 17 and 1 more for 1 min 15 s · 12,345 tokens · GPU 0",
        "score-1@box   lost ",
        "\\x1b[31mno room\\u202e",
        "3 score jobs failed: [red]it broke",
        "iteration 3  waiting       waits for iteration 2",
        "M_0 held out  waiting",
        "Ctrl-C ends this view only",
    ):
        assert part in text, (part, text)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 15, 60])
def test_it_fits_any_size(width: int, height: int) -> None:
    for view in (Dashboard("r"), Dashboard("r", LOOK, 65.0, notice="the database is away; waiting for it")):
        lines = shown(width, height, view)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_a_low_terminal_shows_open_rounds_and_warnings_before_workers_and_done_ones() -> None:
    lines = shown(120, 14, Dashboard("r", LOOK, 65.0))
    assert any("it broke" in line for line in lines)
    assert any("iteration 2" in line for line in lines)
    assert not any("iteration 0" in line for line in lines)
    assert any("lines more" in line for line in lines)
    assert lines[-1].startswith("Ctrl-C")


def test_a_notice_stands_above_the_footer() -> None:
    assert shown(80, 20, Dashboard("r", LOOK, notice="the database is away"))[-2] == "the database is away"


def test_warnings_and_notices_are_wrapped_and_not_cut() -> None:
    long = " ".join(f"word{number}" for number in range(20))
    lines = shown(50, 60, Dashboard("r", replace(LOOK, warnings=[long]), notice=f"away: {long}"))
    assert " ".join(line.strip() for line in lines).count("word19") == 2


def test_it_follows_the_size_of_the_terminal() -> None:
    screen = io.StringIO()
    console = PlainConsole(file=screen, width=100, height=30, force_terminal=True, color_system=None)
    view = Dashboard("r", LOOK)
    with Live(view, console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        screen.truncate(0)
        console.size = (50, 12)
        live.refresh()
        frame = screen.getvalue().rpartition("\x1b[H")[2]
    assert len(frame.split("\n")) <= 12
    assert max(map(len, frame.split("\n"))) <= 50


def test_bars_have_their_width_and_the_right_shares() -> None:
    for done, whole, bar in ((0, 4, "····"), (1, 4, "█···"), (4, 4, "████"), (9, 4, "████"), (0, 0, "····")):
        assert progress_bar(done, whole, 4).plain == bar
    assert level_bar((1, 2, 1), 8).plain == "██▓▓▓▓░░"
    assert level_bar((0, 0, 0), 4).plain == "····"
    for counts in ((1, 1, 1), (5, 0, 3), (1, 100, 1), (0, 0, 7)):
        assert sum(shares(counts, 10)) == 10


def test_a_lost_worker_and_an_estimate_are_said_with_what_they_rest_on() -> None:
    (line,) = lost_worker_lines([BUSY, LOST])
    assert line.startswith("worker score-1@box is lost: no heartbeat since ")
    assert time_left(TimeLeft(3600, 0.5, 60)) == "about 1 h 00 min left (50% in the last 1 min 00 s)"

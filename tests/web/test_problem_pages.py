"""Problems, samples, comparisons, allocations by address: what they say and refuse, and what stays text."""

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection
from starlette.testclient import TestClient

from hsstar.domain.verdict import Cause
from hsstar.store import rounds
from hsstar.store.database import Database
from hsstar.store.runs import find_run
from hsstar.web.app import make_app
from tests.store.conftest import MakeDatabase
from tests.store.factory import Drawn, add_problems, add_samples, execute, select
from tests.web.rows import HOSTILE, LONG, fill
from tests.web.test_pages import Structure

BOTH, LEARNT, FORGOTTEN, NEITHER = range(4)


@pytest.fixture(scope="module")
def database(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """What every page has, and held-out problems that two policies have sampled."""
    with make_database(template) as database:
        with database.begin() as connection:
            fill(connection)
            _measure(connection)
        yield database


def _measure(connection: Connection) -> None:
    """M_0 and M_1 on four held-out problems: each cell has one; texts are hostile, and one is a megabyte."""
    ids = add_problems(connection, 4, "heldout")
    statement = f"Solve \\(x^2 = 4\\) {''.join(HOSTILE)}"
    execute(
        connection, "UPDATE problems SET statement = :text WHERE id = :id", text=statement, id=ids[LEARNT]
    )
    run = find_run(connection, "demo")
    _allot(connection)
    solved = ({BOTH, FORGOTTEN}, {BOTH, LEARNT})
    texts = [*HOSTILE[:NEITHER], LONG]
    for number, right in enumerate(solved):
        (round_id,) = select(
            connection,
            "SELECT id FROM rounds WHERE run_id = :run AND kind = 'evaluation' AND number = :number",
            run=run.id,
            number=number,
        )[0]
        rounds.assign_problems(connection, round_id, ids, 1)
        add_samples(connection, round_id, {
            problem: {0: _drawn(place in right, f"policy {number} {texts[place]}")}
            for place, problem in enumerate(ids)
        })  # fmt: skip


def _allot(connection: Connection) -> None:
    """A wave of the first iteration that gave its second problem two samples."""
    execute(
        connection,
        "INSERT INTO allocation_waves (round_id, wave, budget, prior, gains, decided_at) "
        "SELECT min(round_id), 0, 2, '{1}', CAST(:gains AS jsonb), now() FROM difficulty_labels",
        gains=json.dumps([[1, 1, 2, "boundary", [0.5, 0.25]]]),
    )
    execute(
        connection,
        "INSERT INTO allocations (round_id, wave, problem_id, correct, incorrect, drawn, samples) "
        "SELECT min(round_id), 0, min(problem_id) + 1, 1, 1, 2, 2 FROM difficulty_labels",
    )


def _drawn(right: bool, text: str) -> Drawn:
    return Drawn(Cause.CORRECT if right else Cause.INCORRECT, 0.25, f"{text}\n\n\\boxed{{{int(right)}}}")


@pytest.fixture(scope="module")
def ids(database: Database) -> dict[str, int]:
    """The ids of problems by their purpose; `training` has pairs and a sample of a megabyte."""
    with database.begin() as connection:
        held_out = select(
            connection,
            "SELECT problems.id FROM problems JOIN datasets ON datasets.id = dataset_id "
            "WHERE datasets.name = 'heldout' ORDER BY problems.id",
        )
        training = select(connection, "SELECT min(problem_id), min(problem_id) + 1 FROM round_problems")
    (first, second) = training[0]
    places = ("both", "learnt", "forgotten", "neither")
    return {"long": first, "training": second} | dict(zip(places, (row[0] for row in held_out), strict=True))


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    app = make_app(database.url)
    with TestClient(app, base_url="http://localhost") as client:
        yield client
    for opened in (app.state.database, app.state.queries, app.state.verifiers):
        opened.close()


COUPLE = "first=demo/heldout@0&second=demo/heldout@1"
PAGES = [
    ("/runs/demo/problems", ["boundary", "train problem 0", "φ_r", "Text of the statement", "aria-sort"]),
    (
        "/runs/demo/problems?level=inlier&sort=pass&descending=1",
        ['<option value="inlier" selected>', "inlier"],
    ),
    ("/runs/demo/problems?measure=heldout&change=learnt", ["M_0 0.00, M_1 1.00"]),
    ("/runs/demo/problems?text=no+such+words", ["No problem is like that."]),
    ("/runs/resting/problems", ["hsstar iterate resting --watch"]),
    (
        "/runs/demo/problems/{training}",
        [
            "chosen over rejected",
            "hsstar samples redraw demo/0/",
            "wave 0",
            "1 right, 1 wrong",
            "0.500 … 0.250",
        ],
    ),
    ("/runs/demo/problems/{long}", ["more of 1,000,00"]),
    ("/samples/demo/0/{training}/0", ["hsstar samples redraw demo/0/", "all samples of problem"]),
    (
        "/explanations/demo/heldout@1/{both}/0",
        ["boxed", "incorrect (incorrect)", "rule", "the verifier of that time"],
    ),
    (f"/runs/demo/compare?{COUPLE}", ["2 problems differ", "McNemar", "p = <b>1.000</b>", "+1.00", "-1.00"]),
    (f"/runs/demo/compare?{COUPLE}&cell=only_second", ["Only the second solves it", "{learnt}</a>"]),
    (f"/runs/demo/compare/{{learnt}}?{COUPLE}", ["<mark>0</mark>", "<mark>1</mark>", "0.00 → 1.00"]),
    ("/texts?first=demo/0/{training}/0&second=demo/0/{training}/1", ["chosen", "rejected", "<mark>"]),
    ("/runs/demo/allocation", ["data-counts", "boundary", "τ_h", "iteration 1"]),
    (
        "/runs/demo/allocation?iteration=0&tau_low=0.6&tau_high=0.7",
        ["0.60", "as in the recipe: 0.25 and 0.75"],
    ),
    ("/runs/resting/allocation", ["No iteration of this run has labels yet"]),
    ("/runs/demo/allocation/calibration", ["foretold by", "count"]),
    ("/runs/demo/allocation/replay?policy=levels&policy=uniform", ["as here", "uniform", "Imputed"]),
]


@pytest.mark.parametrize(("path", "words"), PAGES, ids=[path for path, _ in PAGES])
def test_a_page_says_what_the_rows_say(
    client: TestClient, ids: dict[str, int], path: str, words: list[str]
) -> None:
    answer = client.get(path.format(**ids))
    assert answer.status_code == 200, answer.text
    missing = [word for word in words if word.format(**ids) not in answer.text]
    assert not missing, re.sub(r"\s+", " ", answer.text)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/runs/nobody/problems", 404, "there is no run &#39;nobody&#39;"),
        ("/runs/demo/problems?preset=boundry", 404, "did you mean &#39;boundary&#39;"),
        ("/runs/demo/problems?measure=held", 404, "has no measure &#39;held&#39;"),
        ("/runs/demo/problems?iteration=9", 404, "has no iteration 9"),
        ("/runs/demo/problems?levle=inlier", 400, "did you mean &#39;level&#39;"),
        ("/runs/demo/problems?level=hard", 400, "level must be one of inlier, boundary, outlier"),
        ("/runs/demo/problems?sort=colour", 400, "sort must be one of"),
        ("/runs/demo/problems?quality_from=nan", 400, "quality_from must be a number from 0 to 1"),
        ("/runs/demo/problems?accuracy_to=1.5", 400, "accuracy_to must be a number from 0 to 1"),
        ("/runs/demo/problems?iteration=²", 400, "iteration must be a whole number"),
        ("/runs/demo/problems?after=x", 400, "is no key of a page of problems"),
        ("/runs/demo/problems/999999", 404, "has no problem 999999"),
        ("/runs/demo/problems/99999999999999999999999", 404, "has no problem"),
        ("/runs/demo/problems/one", 404, "No page has this address."),
        ("/samples/demo/0/1", 400, "is no address of a round"),
        ("/samples/demo/0/999999/0", 404, "there is no sample demo/0/999999/0"),
        ("/explanations/demo/0/999999/0", 404, "there is no sample"),
        ("/runs/demo/compare?first=demo/0&second=demo", 400, "is no address of a round"),
        ("/runs/demo/compare?first=demo/0&second=demo/7", 404, "there is no round demo/7"),
        ("/runs/demo/compare?first=demo/0&second=demo/1", 400, "have no judged samples at a common problem"),
        (f"/runs/demo/compare?{COUPLE}&cell=all", 400, "cell must be one of both"),
        (f"/runs/demo/compare?{COUPLE}&page=0", 400, "page must be a whole number from 1"),
        ("/runs/demo/compare/1", 400, "is no address of a round"),
        ("/texts?first=demo/0/1/0", 400, "is no address of a sample"),
        ("/runs/demo/allocation?iteration=5", 404, "has no iteration 5 with labels"),
        ("/runs/demo/allocation?tau_low=0.8&tau_high=0.2", 400, "tau_low must be less than tau_high"),
        ("/runs/demo/allocation/replay?policy=os:system", 400, "policy must be one of"),
        ("/runs/resting/allocation/replay", 400, "has labels yet"),
        ("/runs/resting/allocation/calibration", 400, "has all its samples yet"),
    ],
)
def test_a_wrong_address_says_in_one_line_what_is_wrong(
    client: TestClient, path: str, status: int, words: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/runs/demo/problems?measure=heldout",
        "/runs/demo/problems/{long}",
        "/runs/demo/problems/{learnt}",
        "/samples/demo/0/{long}/0",
        "/samples/demo/heldout@0/{learnt}/0",
        "/explanations/demo/heldout@0/{neither}/0",
        f"/runs/demo/compare?{COUPLE}",
        f"/runs/demo/compare/{{learnt}}?{COUPLE}",
        f"/runs/demo/compare/{{neither}}?{COUPLE}",
        "/texts?first=demo/heldout@0/{neither}/0&second=demo/heldout@1/{neither}/0",
        "/runs/demo/problems?text=%3C/textarea%3E%3Cscript%3E%E2%80%AE",
    ],
)
def test_what_models_write_stays_text(client: TestClient, ids: dict[str, int], path: str) -> None:
    answer = client.get(path.format(**ids))
    assert answer.status_code == 200, answer.text[:2000]
    structure = Structure(answer.text)
    sources = [value or "" for name, value in structure.attributes if name == "src"]
    assert structure.tags.count("script") == len(sources)
    assert all(source.startswith("/static/") for source in sources)
    assert not {"style", "img", "iframe", "b<", "base"} & {*structure.tags}
    assert not [name for name, _ in structure.attributes if name.startswith("on") or name == "style"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e\u2066-\u2069\ufeff]", answer.text)
    assert len(answer.text) < 8_000_000


def test_a_preset_is_an_address_and_forms_leave_nothing_empty(client: TestClient) -> None:
    answer = client.get("/runs/demo/problems?preset=overrated&measure=iteration", follow_redirects=False)
    wanted = "/runs/demo/problems?disagreement=overrated&sort=overrated&descending=1&measure=iteration"
    assert (answer.status_code, answer.headers["location"]) == (303, wanted)
    answer = client.get("/runs/demo/problems?level=&cause=&text=+", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/demo/problems")
    assert 'aria-current="true">boundary' in client.get("/runs/demo/problems?preset=boundary").text


def test_pages_lead_to_the_next_until_every_problem_has_come_once(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsstar.web.pages.problems.ROWS", 5)
    found: list[str] = []
    path: str | None = "/runs/demo/problems?sort=quality&descending=1"
    while path:
        page = client.get(path).text
        found += re.findall(r'href="/runs/demo/problems/(\d+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert (len(found), len({*found})) == (12, 12)


def test_neighbours_of_a_problem_lead_there_and_back(client: TestClient, ids: dict[str, int]) -> None:
    page = client.get(f"/runs/demo/problems/{ids['training']}").text
    before, after = (re.search(rf'rel="{rel}" href="([^"]+)"', page) for rel in ("prev", "next"))
    assert before and after
    assert f'rel="next" href="/runs/demo/problems/{ids["training"]}"' in client.get(before[1]).text
    assert f'rel="prev" href="/runs/demo/problems/{ids["training"]}"' in client.get(after[1]).text


def test_thresholds_count_as_the_rule_of_levels_does(client: TestClient, database: Database) -> None:
    """All labels of the fixture have φ_a = φ_r = ½, so thresholds move nothing; with others they do."""
    with database.begin() as connection:
        (round_id,) = select(connection, "SELECT min(round_id) FROM difficulty_labels")[0]
        change = "UPDATE difficulty_labels SET accuracy = :accuracy, process_quality = :quality WHERE "
        change += "(round_id, problem_id) = (SELECT round_id, problem_id FROM difficulty_labels "
        change += "WHERE round_id = :round ORDER BY problem_id OFFSET :place LIMIT 1)"
        measured = [(0, 0.29), (0, 0.3), (1, 0.9), (1, 0.56), (0.5, 0.1), (0.5, 0.9)]
        for place, (accuracy, quality) in enumerate(measured):
            execute(connection, change, accuracy=accuracy, quality=quality, round=round_id, place=place)
    page = client.get("/runs/demo/allocation?iteration=0").text
    counts = json.loads(dict(Structure(page).attributes)["data-counts"] or "")["problems"]
    assert counts["all"] == 6
    assert [counts["outlier"][k] for k in (0, 29, 30, 31)] == [0, 0, 1, 2]
    assert [counts["inlier"][k] for k in (55, 56, 89, 90)] == [2, 1, 1, 0]

"""Every page by its address: what it says, also where something is missing, and that text stays text."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from hsstar.domain.errors import DatabaseError, StatementError
from hsstar.store.database import Database
from hsstar.web.app import make_app
from tests.store.conftest import MakeDatabase
from tests.store.factory import add_problems, add_run, execute, select
from tests.web.rows import HOSTILE, fill

PAGES = {
    "runs": ("/", ["demo", "broken", "finished", "0.400 → <b>0.600</b>", "Evaluations", "measured", "0.625"]),
    "runs_live": ("/live?show=paused", ["resting", "hsstar runs resume resting"]),
    "run": (
        "/runs/demo",
        [
            "6 problems",
            "boundary 3",
            "15",
            "M_2",
            "tau_low",
            "dpo in iteration 1",
            "0.453 to 0.747",
            "teacher",
        ],
    ),
    "run_live": ("/runs/broken/live", ["hsstar jobs retry broken", "9 sample jobs failed", "owned"]),
    "run_figures": ("/runs/demo/figures?iteration=0", ["AUC 0.750", "pre-sampling", "Reward margin", "τ_l"]),
    "workers": ("/workers", ["sample-0@box", "5,000", "50.0", "Queues"]),
    "workers_live": ("/workers/live?stopped", ["sample-0@box"]),
    "sql": ("/sql?q=select+run,number+from+runs", ["sample_facts", "process_quality", "column"]),
    "metrics": ("/metrics", ["hsstar_up 1.0", 'hsstar_run_held{reason="paused",run="resting"} 1.0']),
    "sql_csv": ("/sql.csv?q=select+name+from+runs+order+by+id", ["name\r\ndemo\r\n"]),
}
"""Name of each route, an address of it, and what its page says."""
STREAMS = {"events"}
OF_PROBLEMS = {
    "problems", "problem", "sample", "explanation", "compare", "compare_problem", "texts", "allocation",
    "calibration", "replay",
}  # fmt: skip
"""The routes that test_problem_pages.py tries."""
AWAY = "postgresql://nobody@127.0.0.1:1/none"


class Structure(HTMLParser):
    """The tags and the handlers of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def routes(app: Starlette) -> Iterator[str]:
    for route in app.routes:
        if isinstance(route, Route):
            yield route.name


def test_every_route_is_tried(client: TestClient) -> None:
    assert isinstance(client.app, Starlette)
    assert {*routes(client.app)} == PAGES.keys() | STREAMS | OF_PROBLEMS


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_the_rows_say(client: TestClient, name: str) -> None:
    path, words = PAGES[name]
    answer = client.get(path)
    assert answer.status_code in (200, 400), answer.text
    missing = [word for word in words if word not in answer.text]
    assert not missing, re.sub(r"\s+", " ", answer.text)


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"metrics"}))
def test_without_its_database_a_page_says_so_and_comes_back(name: str) -> None:
    with TestClient(make_app(AWAY), base_url="http://localhost") as client:
        answer = client.get(PAGES[name][0])
    assert answer.status_code == 503
    assert "The database is away" in answer.text
    assert answer.headers["retry-after"] == "5"


def test_a_statement_that_the_database_refuses_is_no_absence(
    make_database: MakeDatabase, template: str
) -> None:
    with make_database(template) as database:
        with database.begin() as connection:
            execute(connection, "DROP TABLE workers CASCADE")
        with pytest.raises(StatementError), database.begin() as connection:
            execute(connection, "SELECT 1 +")
        with TestClient(make_app(database.url), base_url="http://localhost") as client:
            answer = client.get("/workers")
    assert answer.status_code == 500
    assert "The page failed" in answer.text
    assert "The database is away</h1>" not in answer.text


def test_without_its_database_a_scrape_says_so() -> None:
    with TestClient(make_app(AWAY), base_url="http://localhost") as client:
        answer = client.get("/metrics")
    assert (answer.status_code, "hsstar_up 0.0" in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nowhere", 404, "No page has this address."),
        ("/runs/demmo", 404, "there is no run &#39;demmo&#39;"),
        ("/runs/demo?iteration=7", 404, "this run has no iteration 7"),
        ("/runs/demo?iteration=%3Cb%3E", 400, "iteration must be a whole number, not &#39;&lt;b&gt;&#39;"),
        ("/sql?q=delete+from+runs", 400, "the statement returns no rows"),
        ("/sql.csv?q=delete+from+runs+returning+id", 400, "hsstar sql is read-only"),
        ("/static/../app.py", 404, "No page has this address."),
    ],
)
def test_an_address_that_leads_nowhere_says_why(
    client: TestClient, path: str, status: int, words: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/runs/broken",
        "/workers",
        "/sql?q=select+response+from+sample_responses",
        "/sql?q=select+error+from+jobs",
        "/sql?q=%3C/textarea%3E%3Cscript%3E%E2%80%AE",
        "/runs/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ],
)
def test_what_models_and_users_write_stays_text(client: TestClient, path: str) -> None:
    page = client.get(path).text
    structure = Structure(page)
    assert structure.tags.count("script") == 1
    assert "style" not in structure.tags
    assert "img" not in structure.tags
    assert not [name for name, _ in structure.attributes if name.startswith("on") or name == "style"]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e\u2066-\u2069\ufeff]", page)
    assert len(page) < 3_000_000


def test_hostile_texts_are_all_there_to_read(client: TestClient) -> None:
    page = client.get("/runs/broken").text
    assert page.count("owned") >= sum("owned" in text for text in HOSTILE)
    assert r"\x1b[2J" in page
    assert r"\u202eto left" in page


def test_a_database_without_runs_and_workers_says_how_to_begin(
    make_database: MakeDatabase, template: str
) -> None:
    with (
        make_database(template) as empty,
        TestClient(make_app(empty.url), base_url="http://localhost") as client,
    ):
        assert "hsstar demo" in client.get("/").text
        assert "hsstar up" in client.get("/workers").text


def test_a_cell_of_a_megabyte_is_cut_on_the_page_and_whole_in_the_file(client: TestClient) -> None:
    query = "q=select+repeat('y',+1000000)+as+long"
    assert "(1,000,000 characters)" in client.get(f"/sql?{query}").text
    assert len(client.get(f"/sql.csv?{query}").text) > 1_000_000


def test_a_query_that_another_site_links_to_is_shown_and_not_run(client: TestClient) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    page = client.get("/sql?q=select+12345678+as+secret", headers=headers).text
    assert "Read it, then run it" in page
    assert "<td" not in page.partition("<aside")[0]


def test_numbers_of_a_query_become_a_chart(client: TestClient) -> None:
    page = client.get("/sql?q=select+n,+n*n+as+square+from+generate_series(1,9)+as+n").text
    assert "square over n: square from 1.000 to 81.000" in page


def test_pages_and_queries_change_nothing(client: TestClient, database: Database) -> None:
    for path, _ in PAGES.values():
        client.get(path)
    read_only: Database = client.app.state.database  # type: ignore[attr-defined]
    with pytest.raises(DatabaseError), read_only.begin() as connection:
        execute(connection, "DELETE FROM runs")
    with read_only.begin() as connection:
        assert select(connection, "SELECT current_user") == [("hsstar_reader",)]
    with database.begin() as connection:
        assert select(connection, "SELECT count(*) FROM runs") == [(5,)]
    assert client.post("/").status_code in (403, 405)


def test_a_run_that_has_no_iteration_says_how_to_start_one(client: TestClient) -> None:
    assert "hsstar iterate resting" in client.get("/runs/resting").text


def test_rows_that_appear_are_shown_without_a_new_start(client: TestClient, database: Database) -> None:
    with database.begin() as connection:
        add_problems(connection, 1, "more")
        add_run(connection, name="later")
    assert "later" in client.get("/").text
    with database.begin() as connection:
        execute(connection, "DELETE FROM runs WHERE name = 'later'")
    assert "later" not in client.get("/").text


def test_a_fork_shows_the_iterations_that_it_shares(make_database: MakeDatabase, template: str) -> None:
    with make_database(template) as database:
        with database.begin() as connection:
            fill(connection)
            fork = add_run(connection, name="fork").id
            share = """
                UPDATE runs SET forked_at = 1, forked_from = (SELECT id FROM runs WHERE name = 'demo')
                WHERE id = :id
            """
            execute(connection, share, id=fork)
        with TestClient(make_app(database.url), base_url="http://localhost") as client:
            page, figures = client.get("/runs/fork").text, client.get("/runs/fork/figures?iteration=0").text
            whole = client.get("/runs/demo?iteration=0").text
    (flow,) = re.findall(r'<section class="flow.*?</section>', page, re.DOTALL)
    assert flow == re.findall(r'<section class="flow.*?</section>', whole, re.DOTALL)[0]
    assert "<td>train</td>" in page  # its jobs
    for words in ("AUC 0.750", "pre-sampling", "Reward margin", "Pairs per problem"):
        assert words in figures, words


def test_pairs_that_teach_a_length_are_a_warning(make_database: MakeDatabase, template: str) -> None:
    with make_database(template) as database:
        with database.begin() as connection:
            fill(connection)
            execute(
                connection,
                "UPDATE samples SET tokens = CASE verdict WHEN 'correct' THEN 900 ELSE 100 END",
            )
        with TestClient(make_app(database.url), base_url="http://localhost") as client:
            assert "so pairs teach a length" in client.get("/runs/demo/figures").text

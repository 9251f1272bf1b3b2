"""The command line starts without heavy imports and explains itself everywhere."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from hsstar.cli.main import COMMANDS, hsstar
from hsstar.cli.options import Format
from hsstar.cli.stack import parse_workers
from hsstar.cli.views.output import duration, ranges, show_list, shown
from hsstar.domain.errors import NotFoundError
from hsstar.local.logs import LogReader, find_logs

HEAVY = ("torch", "transformers", "trl", "sqlalchemy", "celery", "sympy", "pydantic", "rich")


def commands(group: click.Group, *path: str) -> dict[tuple[str, ...], click.Command]:
    """Every command below a group, by its path."""
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[*path, name] = command
        if isinstance(command, click.Group):
            found |= commands(command, *path, name)
    return found


EVERY_COMMAND = commands(hsstar)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from hsstar.cli.main import hsstar\n"
        "assert CliRunner().invoke(hsstar, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_status_shows_needs_no_recipe_and_no_verifier() -> None:
    program = (
        "import sys, hsstar.cli.views.progress_lines, hsstar.insights.iterations, hsstar.insights.lengths\n"
        "import hsstar.insights.models, hsstar.insights.notifications, hsstar.insights.runs\n"
        "heavy = ('hsstar.verifier', 'hsstar.engines', 'hsstar.recipe', 'pydantic', 'alembic')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_says_what_it_does_with_an_example() -> None:
    for path, command in EVERY_COMMAND.items():
        assert command.help, path
        assert re.match("Example:  .*hsstar", command.epilog or "", re.DOTALL), path


def test_no_path_may_be_empty() -> None:
    """`--output "$UNSET"` is no folder: Path("") would be the current one."""
    checked = 0
    for path, command in EVERY_COMMAND.items():
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                checked += 1
                with pytest.raises(click.BadParameter, match="the name is empty"):
                    parameter.type.convert("", parameter, click.Context(command, info_name=path[-1]))
    assert checked > 20


def test_the_command_list_tells_what_each_command_does() -> None:
    said = " ".join(CliRunner().invoke(hsstar, ["-h"]).output.split())
    assert all(f" {name} {purpose}" in said for name, (_, purpose) in COMMANDS.items())
    assert all(purpose.endswith(".") for _, purpose in COMMANDS.values())


def test_a_role_that_up_is_not_told_of_gets_one_worker_unless_one_serves_all() -> None:
    each = {"sample": 1, "score": 1, "verify": 1, "train": 1, "all": 0}
    expected = {
        "": each, "all=0": each, "sample=2,train=0": each | {"sample": 2, "train": 0},
        "sample=3,score": each | {"sample": 3}, "all=2,verify=1": {"all": 2, "verify": 1}, "all": {"all": 1},
    }  # fmt: skip
    context, option = click.Context(hsstar), click.Option(["--workers"])
    assert {text: parse_workers(context, option, text) for text in expected} == expected


def test_slots_are_written_as_ranges() -> None:
    assert [ranges(slots) for slots in ([], [3], [0, 1, 2, 5, 7, 8])] == ["", "3", "0–2, 5, 7–8"]


def test_every_list_is_printed_in_the_same_formats() -> None:
    lists = {"list", "lineage", "status", "workers", "sql", "report", "evaluate", "doctor"}
    found = [command for path, command in EVERY_COMMAND.items() if path[-1] in lists]
    assert len(found) >= len(lists)
    for command in found:
        options = {option.name: option for option in command.params}
        assert isinstance(options["shown_as"].type, click.Choice), command.name
        assert options["shown_as"].type.choices == ("table", "csv", "json", "markdown"), command.name
        assert "--json" in options["as_json"].opts, command.name


@dataclass(frozen=True)
class Fruit:
    name: str
    weight_grams: float | None
    boxes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("shown_as", "fruits", "expected"),
    [
        ("csv", True, 'name,weight_grams,boxes\na|b,1.5,"1, 2"\nc,,\n'),
        ("csv", False, "name,weight_grams,boxes\n"),
        ("json", False, "[]\n"),
        ("markdown", True, "| called | kilograms |\n| --- | --- |\n| a\\|b | 0.0015 |\n| c | – |\n"),
        ("table", True, "called  kilograms\na|b        0.0015\nc               –\n"),
    ],
)
def test_programs_get_every_field_and_people_the_chosen_columns(
    shown_as: Format, fruits: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [Fruit("a|b", 1.5, (1, 2)), Fruit("c", None)] if fruits else []
    columns: dict[str, str | Callable[[Fruit], Any]] = {
        "called": "name",
        "kilograms": lambda fruit: None if fruit.weight_grams is None else fruit.weight_grams / 1000,
    }
    show_list(Fruit, entries, shown_as, columns)
    assert capsys.readouterr().out.replace("\r\n", "\n") == expected


def test_values_are_shown_as_a_person_reads_them() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5).astimezone()
    values = (None, (), (1, "a"), 0.123456, 7, "a b", moment)
    assert [*map(shown, values)] == ["–", "–", "1, a", "0.1235", "7", "a b", "2026-01-02 03:04:05"]


def test_times_are_shown_in_two_units() -> None:
    expected = ["–", "30 s", "1 min 00 s", "12 min 34 s", "1 h 01 min"]
    assert [duration(seconds) for seconds in (None, 29.6, 59.6, 754, 3_700)] == expected


def test_json_keeps_numbers_lists_and_null(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(Fruit, [Fruit("a", None, (1, 2))], "json")
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "weight_grams": None, "boxes": [1, 2]}]


@pytest.mark.parametrize(
    ("call", "meant"),
    [(["statsu"], "Did you mean 'status'?"), (["runs", "creat"], "Did you mean 'create'?"),
     (["status", "--wach"], "--watch")],
)  # fmt: skip
def test_a_mistyped_command_or_option_is_told_with_the_one_that_is_meant(call: list[str], meant: str) -> None:
    said = CliRunner().invoke(hsstar, call)
    assert (said.exit_code, meant in said.output) == (2, True), said.output


def completed(*words: str) -> list[str]:
    """What a shell offers in place of the last word."""
    *before, last = words
    return [item.value for item in ShellComplete(hsstar, {}, "hsstar", "").get_completions(before, last)]


def test_a_shell_completes_commands_options_and_values() -> None:
    assert completed("runs", "cr") == ["create"]
    assert completed("status", "--wa") == ["--watch"]
    assert completed("status", "--format", "c") == ["csv"]


def test_where_no_database_is_a_shell_completes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path))
    monkeypatch.delenv("HSSTAR_DATABASE_URL", raising=False)
    assert completed("status", "d") == completed("models", "export", "d") == completed("logs", "s") == []


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The logs of a home with two workers and a server."""
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path))
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("postgres", "sample-1", "sample-2@box"):
        (folder / f"{name}.log").write_text("".join(f"{name} says {number}\n" for number in range(30)))
    return folder


def test_the_last_lines_of_the_logs_are_printed(logs: Path) -> None:
    def said(*options: str) -> list[str]:
        return CliRunner().invoke(hsstar, ["logs", *options]).output.splitlines()

    assert said("sample-1") == [f"sample-1 says {number}" for number in range(10, 30)]
    assert said("sample-1@box", "-n", "1") == ["sample-1 says 29"]
    assert said("sample-2", "-n", "1") == ["sample-2@box says 29"]
    assert said("-n", "1") == [
        "postgres     | postgres says 29", "sample-1     | sample-1 says 29",
        "sample-2@box | sample-2@box says 29"
    ]  # fmt: skip
    assert completed("logs", "s") == ["sample-1", "sample-2@box"]
    with pytest.raises(NotFoundError, match=r"no log of 'sampel-1' \(.*\); did you mean 'sample-1'\?"):
        find_logs(logs, "sampel-1")
    with pytest.raises(NotFoundError, match="holds no log; hsstar up"):
        find_logs(logs / "elsewhere")


def test_a_followed_log_is_read_by_whole_lines_and_anew_after_it_was_shortened(logs: Path) -> None:
    file = logs / "sample-1.log"
    reader = LogReader(file)
    assert reader.last_lines(1) == ["sample-1 says 29"]
    with file.open("a") as log:
        log.write("half a ")
        log.flush()
        assert [*reader.new_lines()] == []
        log.write("line\nand one more\n")
    assert [*reader.new_lines()] == ["half a line", "and one more"]
    file.write_text("after it was shortened\n")
    assert [*reader.new_lines()] == ["after it was shortened"]
    file.unlink()
    assert [*reader.new_lines()] == []


def test_logs_are_followed_until_ctrl_c(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause(seconds: float) -> None:
        if "later" in (logs / "sample-1.log").read_text():
            raise KeyboardInterrupt
        with (logs / "sample-1.log").open("a") as log:
            log.write("later\n")

    monkeypatch.setattr("hsstar.cli.logs.time", SimpleNamespace(sleep=pause))
    followed = CliRunner().invoke(hsstar, ["logs", "sample-1", "-f", "-n", "0"])
    assert (followed.exit_code, followed.output) == (0, "later\n")

"""The `hsstar` command: its groups, and how errors reach the user."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

import click

from hsstar import __version__
from hsstar.cli.text import say
from hsstar.domain.errors import HeldError, HsstarError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("hsstar.cli.demo:demo", "Run the whole loop on small arithmetic problems, from nothing."),
    "up": ("hsstar.cli.stack:up", "Start Postgres, a broker and workers on this machine."),
    "down": ("hsstar.cli.stack:down", "Stop what `up` started; all data stay."),
    "problems": ("hsstar.cli.problems:problems", "Import and list problems; show those of a run."),
    "models": ("hsstar.cli.models:models", "Register, list, export and prune policy checkpoints."),
    "data": ("hsstar.cli.data:data", "Bring solutions into steps."),
    "train": ("hsstar.cli.train:train", "Make M_0 or a reward model, or train on pairs, in the foreground."),
    "prompts": ("hsstar.cli.prompts:prompts", "Show what a policy is given to continue."),
    "recipe": ("hsstar.cli.recipe:recipe", "Check recipes; print their JSON Schema."),
    "runs": (
        "hsstar.cli.runs:runs",
        "Create, fork, compare, pause, cancel and delete runs.",
    ),
    "plan": ("hsstar.cli.plan:plan", "Say what a recipe will take, before anything runs."),
    "iterate": ("hsstar.cli.iterate:iterate", "Enqueue iterations of a run."),
    "status": ("hsstar.cli.status:status", "Show what is done, in flight, failed and remaining."),
    "show": ("hsstar.cli.show:show", "Show a run on one page."),
    "web": ("hsstar.cli.web:web", "Show runs, workers and queries as pages in a browser."),
    "study": ("hsstar.cli.study:study", "Compare strategies over several seeds, with a table and plots."),
    "allocate": ("hsstar.cli.allocate:allocate", "Replay allocation policies on samples that are there."),
    "calibrate": ("hsstar.cli.calibrate:calibrate", "Say what pre-samples foretell, and what follows."),
    "report": ("hsstar.cli.report:report", "Print the accuracies of a run's policies, as papers do."),
    "evaluate": ("hsstar.cli.evaluate:evaluate", "Measure a policy, or given responses, on benchmarks."),
    "evaluations": ("hsstar.cli.evaluations:evaluations", "List what hsstar evaluate has measured."),
    "benchmarks": ("hsstar.cli.benchmarks:benchmarks", "Import and list benchmarks."),
    "samples": ("hsstar.cli.samples:samples", "Show samples, draw one again; import responses."),
    "verify": ("hsstar.cli.verify:verify", "Grade answers from a file; needs no database."),
    "reverify": ("hsstar.cli.reverify:reverify", "Judge stored samples again, by the present verifier."),
    "rescore": ("hsstar.cli.rescore:rescore", "Score stored samples by another reward model."),
    "verdicts": ("hsstar.cli.verdicts:verdicts", "Correct the verdict of a sample."),
    "export": ("hsstar.cli.export:export", "Write pairs, samples, problems and more, to a file or the hub."),
    "sql": ("hsstar.cli.sql:sql", "Query the statistics, read-only."),
    "track": ("hsstar.cli.track:track", "Send the figures of a run to experiment trackers."),
    "metrics": ("hsstar.cli.metrics:metrics", "Print or serve the figures of all runs for Prometheus."),
    "jobs": ("hsstar.cli.jobs:jobs", "List and retry jobs."),
    "logs": ("hsstar.cli.logs:logs", "Print and follow the logs of this machine's processes."),
    "workers": ("hsstar.cli.workers:workers", "List the workers; let some finish and stop."),
    "worker": ("hsstar.cli.worker:worker", "Run workers in the foreground, each on a GPU of its own."),
    "doctor": ("hsstar.cli.doctor:doctor", "Check servers, schema, engines, GPUs, disk and stuck work."),
    "db": ("hsstar.cli.db:db", "Migrate the schema; say where the database is."),
}
"""Command to module and purpose; the module is imported when the command is called."""


_HELD = 3
"""The exit code of a command whose run is held; 1 is any other error, 2 a wrong command line."""


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`: that of a first day with hsstar."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; raise NoSuchCommand with the commands that may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, None, COMMANDS, ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:  hsstar demo",
)
@click.version_option(__version__, prog_name="hsstar")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def hsstar(debug: bool) -> None:
    """Self-training of reasoning models (HS-STaR) as a job queue over Postgres.

    Settings come from the environment: HSSTAR_HOME (default ~/.hsstar), HSSTAR_DATABASE_URL and
    HSSTAR_BROKER_URL (default: servers embedded by `hsstar up`).
    """


def main() -> None:
    """Run the command line: an error is one line on standard error and a non-zero exit code."""
    debug = "--debug" in sys.argv[1:]
    _set_encoding()
    try:
        with _interrupted_by_signals():
            sys.exit(hsstar.main(standalone_mode=False))
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", 130, debug)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (HsstarError, OSError) as error:
        _fail(str(error), _HELD if isinstance(error, HeldError) else 1, debug)


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and the end of the terminal are Ctrl-C, so that a command stops what it started.

    What the parent ignores stays ignored (`nohup`), and commands that serve set handlers of their own.
    """
    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _set_encoding() -> None:
    """Files and pipes get UTF-8; what a terminal does not know is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        raise  # called while an exception is handled
    say(f"hsstar: {' '.join(message.split())}", err=True)
    sys.exit(code)

"""`hsstar verdicts`: corrections by people."""

from typing import Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import judging
from hsstar.cli.text import say
from hsstar.domain.verdict import Verdict


@click.group(epilog="Example:  hsstar verdicts set 4711 correct --why 'an equal form of the reference'")
def verdicts() -> None:
    """Correct the verdict of a sample."""


@verdicts.command(
    "set", epilog="Example:  hsstar verdicts set 4711 correct --why 'an equal form of the reference'"
)
@click.argument("sample", type=int)
@click.argument("verdict", type=click.Choice([*map(str, Verdict)]))
@click.option("--why", required=True, metavar="TEXT", help="The reason, which is kept with the verdict.")
@judging
def set_(sample: int, verdict: str, why: str, author: str, **options: Any) -> None:
    """Record your verdict on SAMPLE, its `sample_id` in the view sample_facts; no verifier changes it later.

    It comes into force where those of `hsstar reverify` do.
    """
    from hsstar.commands.verdicts import set_verdict
    from hsstar.settings import Settings

    with open_database() as database:
        done = set_verdict(
            database,
            sample,
            Verdict(verdict),
            why,
            author,
            Settings.from_environment(),
            **options,
        )
    place = "in force" if done.in_force else "kept beside the earlier one, which stays in force"
    say(
        f"sample {sample} ({done.round} of {done.run}, problem {done.problem_id}, slot {done.slot}): "
        f"{done.before} → {verdict}, {place}"
    )

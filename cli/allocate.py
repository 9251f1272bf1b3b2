"""`hsstar allocate`: other allocation policies, replayed on samples that are there."""

import click

from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted
from hsstar.domain.errors import BadInputError


@click.command(
    epilog="Example:  hsstar allocate demo --dry-run --policy levels --policy pairs,waves=4,worth=cap"
)
@click.argument("run", type=RUN)
@click.option("--iteration", type=click.IntRange(min=0), help="[default: the last one with all its samples]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="POLICY[,KEY=VALUE]…",
    help="A policy and keys of [allocation]; may be repeated.  [default: every one of ours]",
)
@click.option("--repetitions", type=click.IntRange(1, 1_000), default=20, show_default=True)
@click.option("--dry-run", is_flag=True, help="Needed: the conductor alone gives budgets away for good.")
@formatted
def allocate(
    run: str,
    iteration: int | None,
    policies: tuple[str, ...],
    repetitions: int,
    dry_run: bool,
    shown_as: Format,
) -> None:
    """Say what other policies would have made of an iteration of RUN at the same budget, drawing nothing.

    Samples that a policy wants and nobody has drawn are imputed from what a problem's own samples say.
    """
    from hsstar.cli.environment import open_database
    from hsstar.cli.views.output import show
    from hsstar.insights.allocation import OURS, parse_choice, replay_policies

    if not dry_run:
        raise BadInputError(
            "hsstar allocate only replays: say --dry-run; a run's policy is [allocation] of its recipe"
        )
    choices = [parse_choice(text) for text in policies or OURS]
    with open_database() as database:
        replayed = replay_policies(database, run, iteration, choices, repetitions)
    show(
        ("policy", "pairs", "±", "under the cap", "distinct", "problems with a pair", "imputed"),
        [
            (
                each.name,
                f"{each.replay.pairs:.0f}",
                f"{each.replay.pairs_deviation:.0f}",
                f"{each.replay.capped_pairs:.0f}",
                f"{each.replay.distinct_pairs:.0f}",
                f"{each.replay.problems_with_pair:.0f}",
                f"{each.replay.imputed_share:.0%}",
            )
            for each in replayed
        ],
        title=f"Run {run}",
        shown_as=shown_as,
    )

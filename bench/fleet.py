"""How far one database and one broker carry a fleet: measured costs, a simulation, a check by real runs.

    python -m bench.fleet measure [--problems 7500]
    python -m bench.fleet simulate [--seed 0]
    python -m bench.fleet check [--workers 1,2,64]
    python -m bench.fleet partitions [--rows 200000]

- measure: what jobs, writes, heartbeats, sweeps, ends of rounds and messages cost (five minutes)
- simulate: fleets of 1 to 4,000 workers and rounds of 10^5 to 10^9 samples with these costs, and the plots
- check: rounds of real worker processes, whose engines only wait, beside what the simulation foresees
- partitions: tables of samples, plain and partitioned by round: inserts, pairing, deletion of a round

Each writes its figures to bench/results/DATE-fleet-STEP.json, `simulate` its plots beside them. `simulate`
and `check` read the newest costs there. docs/scale.md says what they mean.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fleet_model import Costs
from bench.fleet_simulation import Simulator
from bench.setup import ROOT, describe_host

RESULTS = ROOT / "bench" / "results"


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all costs."""
    from bench.fleet_costs import measure as measure_costs

    return measure_costs(arguments.problems).to_json()


def simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate every fleet of docs/scale.md, and draw it."""
    from bench.fleet_plots import draw
    from bench.fleet_scenarios import simulate_all

    figures = simulate_all(newest_costs(), arguments.seed)
    draw(figures, RESULTS / f"{_today()}-fleet")
    return figures


def check(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare simulated rounds with real ones."""
    from bench.fleet_check import check as check_fleet

    simulator = Simulator(newest_costs())
    cores = len(os.sched_getaffinity(0))
    numbers = [int(number) for number in arguments.workers.split(",")]
    return {"fleets": [check_fleet(number, cores, simulator) for number in numbers]}


def partitions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare plain tables with partitioned ones."""
    from bench.fleet_partitions import compare

    return compare(arguments.rows)


def newest_costs() -> Costs:
    """Return the costs that were measured last."""
    files = sorted(RESULTS.glob("*-fleet-measure.json"))
    if not files:
        sys.exit(f"no costs in {RESULTS}: run python -m bench.fleet measure")
    return Costs.from_json(json.loads(files[-1].read_text()))


def _today() -> str:
    return time.strftime("%Y-%m-%d")


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "measure": measure,
    "simulate": simulate,
    "check": check,
    "partitions": partitions,
}


def main() -> None:
    """Do one step, print its figures and store them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("measure").add_argument("--problems", type=int, default=7_500)
    steps.add_parser("simulate").add_argument("--seed", type=int, default=0)
    steps.add_parser("check").add_argument("--workers", default="1,2,64")
    steps.add_parser("partitions").add_argument("--rows", type=int, default=200_000)
    arguments = parser.parse_args()
    machine = describe_host()
    figures = {"machine": machine.splitlines()} | STEPS[arguments.step](arguments)
    document = json.dumps(_rounded(figures), indent=1)
    output: Path = RESULTS / f"{_today()}-fleet-{arguments.step}.json"
    output.write_text(document + "\n")
    print(document)


def _rounded(value: Any) -> Any:
    """Return a document whose numbers have six digits that count."""
    match value:
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
        case float():
            return float(f"{value:.6g}")
    return value


if __name__ == "__main__":
    main()

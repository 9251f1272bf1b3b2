"""The simulated fleet of bench/fleet.py: nothing is lost, and its limits are those of known formulas."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from bench.fleet_model import KINDS, Cost, Costs, Engines, Fleet
from bench.fleet_plots import draw
from bench.fleet_scenarios import figures
from bench.fleet_simulation import Log, Simulation, Simulator, Station
from hsstar.domain.lifecycle import JobKind
from hsstar.store.queue import wakeups, workers
from hsstar.workers import background

ENGINES = Engines(
    tokens_per_second=2_560,
    sequence_tokens_per_second=25,
    tokens=400,
    spread=0.6,
    verify_seconds=0.002,
    score_seconds=0.01,
)
STEADY = replace(ENGINES, spread=0.0, sequence_tokens_per_second=2_560)
NOTHING = Costs(
    job=dict.fromkeys(map(str, KINDS), Cost()),
    sample=dict.fromkeys(map(str, KINDS), Cost()),
    write=Cost(),
    beat=Cost(),
    sweep=Cost(),
    claim=Cost(),
    start=Cost(),
    labelled=Cost(),
    paired=Cost(),
    flush_seconds=0.0,
    message_seconds=0.0,
    message_bytes=500.0,
    listening_seconds=0.0,
    storage_bytes=2_500.0,
    connection_bytes=1e7,
)
SOME = replace(
    NOTHING,
    job={str(kind): Cost(0.004, 0.006, 20, 2, 5_000) for kind in KINDS},
    sample={str(kind): Cost(1e-4, 1e-4, 0.01, 0, 900) for kind in KINDS},
    write=Cost(0.001, 0.001, 4, 1, 200),
    beat=Cost(2e-4, 4e-4, 1, 0, 100),
    sweep=Cost(1e-3, 1e-3, 6, 0, 100),
    claim=Cost(3e-4, 4e-4, 1, 0, 0),
    start=Cost(5e-6, 5e-6),
    labelled=Cost(1e-5, 5e-6),
    paired=Cost(1e-5, 5e-6),
    flush_seconds=0.002,
    message_seconds=1e-4,
)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 40, 300])
@pytest.mark.parametrize("samples", [1, 255, 257, 20_000])
def test_every_sample_is_drawn_verified_and_scored_once(number: int, samples: int) -> None:
    totals = Simulation(Fleet(number, samples, STEADY, cores=4), SOME, seed=1).run()
    assert totals.sampling == pytest.approx(samples * 400 / 2_560)
    assert totals.verifying == pytest.approx(samples * 0.002)
    assert totals.scoring == pytest.approx(samples * 0.01)


def test_every_statement_of_a_job_is_counted() -> None:
    costs = replace(
        NOTHING,
        job={str(kind): Cost(statements=20) for kind in KINDS},
        sample={str(kind): Cost(statements=0.5) for kind in KINDS},
    )
    totals = Simulation(Fleet(6, 10_000, STEADY, cores=4, pre_share=0.5), costs, seed=1).run()
    jobs = 2 * 20  # of a kind: 5,000 samples of a phase in jobs of 256
    assert totals.statements == pytest.approx(3 * (20 * jobs + 0.5 * 10_000))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 10, 64, 1_000, 4_000])
def test_all_workers_have_a_role(number: int) -> None:
    groups = Fleet(number, 1, ENGINES, cores=4).groups
    assert sum(groups.values()) == number
    assert {kind for kinds in groups for kind in kinds} == set(KINDS)
    assert all(count > 0 for count in groups.values())


def test_one_worker_takes_as_long_as_its_work() -> None:
    """With engines and costs that are known, a round of one worker is a sum."""
    samples, jobs = 8 * 1_024, 8 * 4
    costs = replace(SOME, beat=Cost(), sweep=Cost(), message_seconds=0.0, claim=Cost())
    fleet = Fleet(1, samples, STEADY, cores=1, pre_share=0.5, write_seconds=1e9, jobs_in_flight=1)
    each = 400 / 2_560 + 0.002 + 0.01
    visits = 3 * jobs * (0.004 + 0.006) + 3 * samples * 2e-4
    commits = 3 * jobs * 2 * costs.flush_seconds
    ends = samples * (5e-6 + 5e-6 + 2 * 1.5e-5)
    totals = Simulation(fleet, costs, seed=1).run()
    assert totals.seconds == pytest.approx(samples * each + visits + commits + ends, rel=1e-9)


def test_the_work_of_many_workers_waits_for_the_cores_of_the_database() -> None:
    costs = replace(NOTHING, sample=dict.fromkeys(map(str, KINDS), Cost(server=0.01)))
    fleet = Fleet(400, 100_000, STEADY, cores=2)
    totals = Simulation(fleet, costs, seed=1).run()
    assert totals.server == pytest.approx(3 * 100_000 * 0.01)
    assert 0.95 < totals.server / totals.seconds / 2 <= 1.0


def test_workers_without_costs_are_always_busy() -> None:
    fleet = Fleet(5, 100_000, STEADY, cores=4, pre_share=1.0)
    totals = Simulation(fleet, NOTHING, seed=1).run()
    assert totals.sampling / totals.seconds / fleet.samplers > 0.95


def test_the_wake_ups_of_a_large_idle_fleet_leave_by_the_heads_of_queues() -> None:
    """Two sweeps a second announce 128 jobs each, and after eight seconds idle workers look themselves."""
    number = 400
    fleet = Fleet(number, number * 2 * 256, STEADY, cores=64, pre_share=1.0)
    engine = 256 * 400 / 2_560
    totals = Simulation(fleet, NOTHING, seed=1).run()
    slots = fleet.samplers * fleet.jobs_in_flight
    sweeps = min(slots / wakeups._HEAD, wakeups.UNSERVED_SECONDS / background._SWEEP_SECONDS)
    latest = sweeps * background._SWEEP_SECONDS + workers.beat_seconds(number)
    rounds_of_jobs = -(-fleet.samples // 256 // fleet.samplers) + 1
    assert totals.seconds < latest + rounds_of_jobs * engine + 256 * 0.012 * 3


def test_equal_seeds_give_equal_rounds() -> None:
    fleet = Fleet(8, 20_000, ENGINES, cores=4)
    first, again, other = (Simulation(fleet, SOME, seed).run() for seed in (1, 1, 2))
    assert first == again
    assert first.seconds != other.seconds
    assert first.seconds == pytest.approx(other.seconds, rel=0.05)


@pytest.mark.parametrize("number", [1, 5])
def test_a_long_round_is_on_the_line_through_two_shorter_ones(number: int) -> None:
    fleet = Fleet(number, 1, ENGINES, cores=2)
    fleet = replace(fleet, samples=2 * fleet.longest)
    line = Simulator(SOME, seed=1).totals(fleet)
    whole = Simulation(fleet, SOME, seed=1).run()
    assert line.samples == whole.samples
    for name in ("seconds", "sampling", "server", "client", "statements", "wal", "ending"):
        assert getattr(line, name) == pytest.approx(getattr(whole, name), rel=0.03), name


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waits_for_one_server_are_those_of_m_d_1(load: float) -> None:
    """Pollaczek and Khinchine: ρ/(2(1−ρ)) of a visit's length."""
    generator, station, now, visits = random.Random(7), Station(1), 0.0, 200_000
    for _ in range(visits):
        now += generator.expovariate(load)
        station.visit(now, 1.0)
    assert station.waited / visits == pytest.approx(load / (2 * (1 - load)), rel=0.05)


def test_waits_for_several_servers_are_those_of_m_m_c() -> None:
    """Erlang's C for two servers: ρ²/(1−ρ²) of a visit's mean length."""
    generator, station, now, visits, load = random.Random(7), Station(2), 0.0, 200_000, 0.7
    for _ in range(visits):
        now += generator.expovariate(2 * load)
        station.visit(now, generator.expovariate(1.0))
    assert station.waited / visits == pytest.approx(load**2 / (1 - load**2), rel=0.05)


def test_commits_that_arrive_during_a_flush_share_the_next() -> None:
    log = Log(1.0)
    ends = [log.visit(now, 1) for now in (0.0, 0.1, 0.9, 1.5, 2.5, 9.0)]
    assert ends == [1.0, 2.0, 2.0, 3.0, 4.0, 10.0]
    assert log.flushes == 5
    assert log.visit(20.0, 3) == 23.0


@pytest.mark.parametrize("samples", [8, 256])
def test_the_lengths_of_a_job_are_those_of_its_responses(samples: int) -> None:
    """The sum and the longest of a job against responses drawn one by one."""
    generator, jobs = random.Random(3), 4_000
    drawn = [ENGINES.sampling_seconds(samples, generator) for _ in range(jobs)]
    single = [
        [400 * generator.lognormvariate(-(0.6**2) / 2, 0.6) for _ in range(samples)] for _ in range(jobs)
    ]
    mean = sum(sum(job) for job in single) / jobs
    longest = sum(max(job) for job in single) / jobs
    assert sum(job[0] for job in drawn) / jobs * 2_560 == pytest.approx(mean, rel=0.02)
    assert sum(job[1] for job in drawn) / jobs * 25 == pytest.approx(longest, rel=0.03)


def test_costs_come_back_from_their_file() -> None:
    document = json.loads(json.dumps({"machine": ["two cores"]} | SOME.to_json()))
    assert Costs.from_json(document) == SOME


def test_a_fleet_of_three_takes_all_kinds() -> None:
    assert Fleet(3, 1, ENGINES, cores=2).groups == {KINDS: 3}
    assert JobKind.TRAIN not in KINDS


def test_equal_figures_give_equal_plots(tmp_path: Path) -> None:
    simulator = Simulator(SOME)
    rows = [
        {"engines": name} | figures(Fleet(number, samples, STEADY, cores=2), SOME, simulator)
        for name in ("one", "another")
        for number in (1, 4)
        for samples in (1_000, 2_000)
    ]
    for folder in ("first", "again"):
        (tmp_path / folder).mkdir()
        draw({"fleets": rows}, tmp_path / folder / "fleet")
    for name in ("fleet.png", "fleet.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()

"""A fleet simulated: workers, one Postgres and one broker during one round, event by event.

The events are jobs and their visits to the database, not samples. A station (the cores of Postgres, its log,
the broker, an engine) serves in the order of arrival, and each visit knows how long it takes when it arrives.
So a station needs no queue of its own: the end of a visit is known at its arrival, which makes it one event.

A round beyond `JOBS_EACH` jobs for each slot is not simulated job by job. In the middle of a long round
nothing changes, so every total grows evenly with the samples. Two rounds, of that length and of half of it,
give the line, start and end included.

Not simulated: failures, network bandwidth, messages that a busy worker holds in advance, caches and indices
that outgrow memory, and training. The caller gives costs as they were measured (`bench.fleet_costs`).
"""

import math
import random
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from heapq import heapify, heapreplace
from itertools import islice
from typing import Any

import simpy

from bench.fleet_model import KINDS, Cost, Costs, Fleet, Totals
from hsstar import conductor
from hsstar.domain.lifecycle import JobKind
from hsstar.stages import sample
from hsstar.store.queue import wakeups, workers
from hsstar.workers import background, runtime

_WRITES_APART = 2  # at most this many visits stand for the writes of one job

Steps = Generator[simpy.Event, Any, Any]


class Station:
    """Servers that take visits in the order of arrival."""

    def __init__(self, servers: int) -> None:
        self._free = [0.0] * servers
        heapify(self._free)
        self.waited = self.busy = 0.0

    @property
    def free_at(self) -> float:
        """When a server is free."""
        return self._free[0]

    def visit(self, now: float, seconds: float) -> float:
        """Return when a visit that arrives now ends."""
        begins = max(now, self._free[0])
        heapreplace(self._free, begins + seconds)
        self.waited += begins - now
        self.busy += seconds
        return begins + seconds


class Log:
    """The write-ahead log: one flush at a time, and who arrives during one waits for the next."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = -math.inf
        self._another = False
        self.flushes = 0

    def visit(self, now: float, commits: int) -> float:
        """Return when commits, of which the first arrives now and each waits for the last, are on the disk.

        A later one finds the flush that follows, as if others had begun it: then it costs none of its own.
        """
        if self._another and now >= self._end:
            self._end += self._seconds
            self._another = False
        later = (commits - 1) * self._seconds
        if now >= self._end:
            self._end = now + self._seconds
            self.flushes += commits
            return self._end + later
        if not self._another:
            self._another = True
            self.flushes += 1
        return self._end + self._seconds + later


@dataclass(slots=True)
class _Job:
    id: int
    kind: JobKind
    samples: int
    available: float
    sent: float | None = None


@dataclass(slots=True)
class _Group:
    """The workers of the same kinds."""

    kinds: tuple[JobKind, ...]
    idle: deque[simpy.Event] = field(default_factory=deque)
    backlog: deque[_Job] = field(default_factory=deque)


class Simulation:
    """One round, from its first job to its last pair; the same seed gives the same totals."""

    def __init__(self, fleet: Fleet, costs: Costs, seed: int) -> None:
        self.fleet = fleet
        self.costs = costs
        self.totals = Totals(samples=fleet.samples)
        self._generator = random.Random(seed)
        self._environment = simpy.Environment()
        self._cores = Station(fleet.cores)
        self._broker = Station(1)
        self._log = Log(costs.flush_seconds)
        self._queues: dict[JobKind, OrderedDict[int, _Job]] = {kind: OrderedDict() for kind in KINDS}
        self._groups = {kinds: _Group(kinds) for kinds in fleet.groups}
        self._group_of = {kind: group for group in self._groups.values() for kind in group.kinds}
        self._numbers = iter(range(1, 1 << 62))
        self._pieces = 0  # of work on samples, until the phase ends
        self._phase = 0
        self._beats = self._polls = 0.0
        self._done = self._environment.event()

    def run(self) -> Totals:
        """Simulate the round."""
        environment = self._environment
        for kinds, count in self.fleet.groups.items():
            for _ in range(count):
                engine = Station(1)
                for _ in range(self.fleet.slots(kinds)):
                    environment.process(self._slot(self._groups[kinds], engine))
        environment.process(self._advance())
        environment.process(self._sweeper())
        environment.run(until=self._done)
        totals = self.totals
        totals.seconds = environment.now
        totals.flushes = self._log.flushes
        totals.waited = self._cores.waited
        totals.broker = self._broker.busy
        return totals

    def _slot(self, group: _Group, engine: Station) -> Steps:
        while True:
            named = yield from self._message(group)
            deadline = self._environment.now + runtime._SECONDS_PER_MESSAGE
            job = yield from self._claim(group, named)
            while job is not None:
                yield from self._work(job, engine)
                if self._environment.now > deadline:
                    break
                job = yield from self._claim(group, None)

    def _message(self, group: _Group) -> Steps:
        if group.backlog:
            return group.backlog.popleft()
        woken = self._environment.event()
        group.idle.append(woken)
        return (yield woken)

    def _claim(self, group: _Group, named: _Job | None) -> Steps:
        """Take this job, or the oldest of the group's kinds; what a claim finds is paid with its job."""
        if named is not None:
            if self._queues[named.kind].pop(named.id, None) is not None:
                return named
            self.totals.stale += 1
            yield from self._visit(self.costs.claim)
        heads = [next(iter(queue)) for kind in group.kinds if (queue := self._queues[kind])]
        if not heads:
            yield from self._visit(self.costs.claim)
            return None
        number = min(heads)
        kind = next(kind for kind in group.kinds if number in self._queues[kind])
        return self._queues[kind].pop(number)

    def _work(self, job: _Job, engine: Station) -> Steps:
        half, rest = self.costs.job[job.kind] * 0.5, self.costs.sample[job.kind] * job.samples
        yield from self._visit(half)
        if job.kind is JobKind.SAMPLE:
            rest = yield from self._sample(job, engine, rest)
        else:
            seconds = self.fleet.engines.seconds(job.kind) * job.samples
            self._count_engine(job.kind, seconds)
            yield self._until(engine.visit(self._environment.now, seconds))
        yield from self._visit(rest + half)
        self._pieces -= job.samples
        if job.kind is JobKind.SAMPLE:
            for kind in KINDS[1:]:
                self._enqueue(kind, job.samples)
            self._send_wakeups()
        if self._pieces == 0:
            yield from self._advance()

    def _sample(self, job: _Job, engine: Station, each: Cost) -> Steps:
        """Draw, and write while others are drawn; return what is written last."""
        seconds, longest = self.fleet.engines.sampling_seconds(job.samples, self._generator)
        self._count_engine(job.kind, seconds)
        now = self._environment.now
        end = engine.visit(now, seconds)
        begin = end - seconds
        end = max(end, begin + longest)
        span = end - begin
        transactions = max(
            math.ceil(job.samples / sample.BATCH_SAMPLES),
            min(job.samples, round(span / self.fleet.write_seconds)),
        )
        visits = min(transactions, _WRITES_APART)
        part = (each + self.costs.write * (transactions - 1)) * (1 / visits)
        for number in range(1, visits):
            yield self._until(begin + number * span / visits)
            self._environment.process(self._visit(part))
        yield self._until(end)
        return part

    def _count_engine(self, kind: JobKind, seconds: float) -> None:
        match kind:
            case JobKind.SAMPLE:
                self.totals.sampling += seconds
            case JobKind.VERIFY:
                self.totals.verifying += seconds
            case _:
                self.totals.scoring += seconds

    def _advance(self) -> Steps:
        """Begin the round, or end a phase: one process works, batch by batch, and then there are new jobs."""
        fleet, costs = self.fleet, self.costs
        before = self._environment.now
        pre = max(1, round(fleet.samples * fleet.pre_share))
        cost, looked_at, added = (
            (costs.start, fleet.samples, pre),
            (costs.labelled, fleet.samples, fleet.samples - pre),
            (costs.paired, fleet.samples, 0),
        )[self._phase]
        for batch in _parts(looked_at, conductor._BATCH_SAMPLES):
            yield from self._visit(cost * batch)
        self.totals.ending += self._environment.now - before
        self._phase += 1
        if not added:
            self._done.succeed()
            return
        self._pieces = added * len(KINDS)
        for size in _parts(added, fleet.job_samples):
            self._enqueue(JobKind.SAMPLE, size)
        self._send_wakeups()

    def _visit(self, cost: Cost) -> Steps:
        """Let a worker send statements, and wait for the disk where they do."""
        totals = self.totals
        totals.visits += 1
        totals.server += cost.server
        totals.client += cost.client
        totals.statements += cost.statements
        totals.commits += cost.commits
        totals.wal += cost.wal
        busy = cost.server + (cost.client if self.fleet.shared else 0.0)
        away = (0.0 if self.fleet.shared else cost.client) + self.fleet.round_trip * cost.statements
        yield self._until(self._cores.visit(self._environment.now, busy) + away)
        if commits := round(cost.commits):
            yield self._until(self._log.visit(self._environment.now, commits))

    def _sweeper(self) -> Steps:
        """Heartbeats of all workers and the sweeps of one, twice a second."""
        fleet, costs = self.fleet, self.costs
        share = background._SWEEP_SECONDS / workers.beat_seconds(fleet.workers)
        listening = fleet.workers * costs.listening_seconds * background._SWEEP_SECONDS
        while True:
            self._beats += fleet.workers * share
            beats = int(self._beats)
            self._beats -= beats
            # no heartbeat waits for another one's commit, nor for the disk
            self._environment.process(self._visit(replace(costs.beat * beats, commits=0.0)))
            self._environment.process(self._visit(costs.sweep))
            if self._broker.free_at <= self._environment.now:  # else its listeners still wait for an answer
                self._broker.visit(self._environment.now, listening)
            self._send_wakeups()
            self._poll_without_broker(share)
            yield self._environment.timeout(background._SWEEP_SECONDS)

    def _poll_without_broker(self, share: float) -> None:
        """Some idle workers hear by their heartbeat that jobs wait without a message."""
        waiting_since = self._environment.now - wakeups.UNSERVED_SECONDS
        for group in self._groups.values():
            heads = [next(iter(queue.values())) for kind in group.kinds if (queue := self._queues[kind])]
            if any(job.available < waiting_since for job in heads):
                self._polls += len(group.idle) * share
                while self._polls >= 1 and group.idle:
                    self._polls -= 1
                    group.idle.popleft().succeed(None)

    def _enqueue(self, kind: JobKind, samples: int) -> None:
        job = _Job(next(self._numbers), kind, samples, self._environment.now)
        self._queues[kind][job.id] = job

    def _send_wakeups(self) -> None:
        """Send the due wake-ups of the head of each queue."""
        now = self._environment.now
        again = now - wakeups._SEND_AGAIN_SECONDS
        for kind, queue in self._queues.items():
            group = self._group_of[kind]
            for job in islice(queue.values(), wakeups._HEAD):
                if job.sent is None or (group.idle and job.sent < again):
                    job.sent = now
                    self.totals.messages += 1
                    arrival = self._until(self._broker.visit(now, self.costs.message_seconds))
                    assert arrival.callbacks is not None
                    arrival.callbacks.append(partial(self._deliver, job))

    def _deliver(self, job: _Job, _: simpy.Event) -> None:
        group = self._group_of[job.kind]
        if group.idle:
            group.idle.popleft().succeed(job)
        else:
            group.backlog.append(job)
            stored = sum(len(group.backlog) for group in self._groups.values())
            self.totals.stored_messages = max(self.totals.stored_messages, stored)

    def _until(self, time: float) -> simpy.Event:
        return self._environment.timeout(max(0.0, time - self._environment.now))


def _parts(total: int, size: int) -> Iterator[int]:
    for begin in range(0, total, size):
        yield min(size, total - begin)


class Simulator:
    """Simulates fleets with the same costs and seed; remembers rounds that several results need."""

    def __init__(self, costs: Costs, seed: int = 0) -> None:
        self._run = lru_cache(maxsize=None)(lambda fleet: Simulation(fleet, costs, seed).run())

    def totals(self, fleet: Fleet) -> Totals:
        """Return the totals of a fleet's round, of a long one by the line through two shorter ones."""
        longest = fleet.longest
        if fleet.samples <= longest:
            return self._run(fleet)
        whole, half = (self._run(replace(fleet, samples=samples)) for samples in (longest, longest // 2))
        return whole.extended(half, fleet.samples)

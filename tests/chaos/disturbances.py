"""What can go wrong, each as a function that does it to a running stack and returns when it is over."""

import contextlib
import errno
import random
import signal
import time
from collections.abc import Callable

import kombu
import psutil
from kombu.exceptions import OperationalError

from hsstar.commands.delete_run import delete_run
from hsstar.commands.run_life import cancel_run, pause_run, resume_run
from hsstar.local import processes
from tests.chaos.stack import LEASE_SECONDS, ChaosStack

Disturbance = Callable[[ChaosStack, random.Random], None]
_PAST_THE_LEASE = 2 * LEASE_SECONDS


def _send(number: signal.Signals, *processes: psutil.Process | None) -> None:
    for process in processes:
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _kill_worker(role: str) -> Disturbance:
    def kill(stack: ChaosStack, generator: random.Random) -> None:
        _send(signal.SIGKILL, *stack.workers(role)[: generator.randint(1, 2)])

    return kill


def kill_conductors(stack: ChaosStack, generator: random.Random) -> None:
    """Every worker conducts, so all of them die at the same moment."""
    _send(signal.SIGKILL, *stack.workers())


def kill_supervisor(stack: ChaosStack, generator: random.Random) -> None:
    """Its workers end with it; whoever runs the machine calls `up` again."""
    _send(signal.SIGKILL, stack.supervisor())
    time.sleep(generator.uniform(0, 1))
    stack.up()


def kill_everything(stack: ChaosStack, generator: random.Random) -> None:
    """The machine goes down: servers, supervisor and workers, all with -9; then `up` again."""
    servers = [server for name in ("postgres", "broker") if (server := stack.server(name))]
    doomed = [processes.identify(each.pid) for each in (stack.supervisor(), *stack.workers(), *servers)]
    processes.kill([identity for identity in doomed if identity is not None])
    stack.up()


def kill_broker(stack: ChaosStack, generator: random.Random) -> None:
    """The broker dies; the supervisor starts it again."""
    _send(signal.SIGKILL, stack.server("broker"))


def flush_broker(stack: ChaosStack, generator: random.Random) -> None:
    """Every message that waits is lost."""
    with contextlib.suppress(OperationalError), kombu.Connection(stack.stack.broker_url) as connection:
        connection.default_channel.client.flushall()


def restart_postgres(stack: ChaosStack, generator: random.Random) -> None:
    """Immediate shutdown: no checkpoint, every connection cut; the next start recovers from the log."""
    _send(signal.SIGQUIT, stack.server("postgres"))


def _freeze_worker(role: str) -> Disturbance:
    def freeze(stack: ChaosStack, generator: random.Random) -> None:
        frozen = stack.workers(role)[:1]
        _send(signal.SIGSTOP, *frozen)
        time.sleep(_PAST_THE_LEASE)
        _send(signal.SIGCONT, *frozen)

    return freeze


def _family(server: psutil.Process | None) -> list[psutil.Process]:
    return [] if server is None else [server, *server.children(recursive=True)]


def freeze_postgres(stack: ChaosStack, generator: random.Random) -> None:
    """The database answers nobody for longer than a lease."""
    frozen = _family(stack.server("postgres"))
    _send(signal.SIGSTOP, *frozen)
    time.sleep(_PAST_THE_LEASE)
    _send(signal.SIGCONT, *frozen)


def suspend(stack: ChaosStack, generator: random.Random) -> None:
    """The lid is closed: every process stands still for longer than a lease."""
    servers = [process for name in ("postgres", "broker") for process in _family(stack.server(name))]
    workers = [process for worker in stack.workers() for process in _family(worker)]
    asleep = [stack.supervisor(), *workers, *servers]
    _send(signal.SIGSTOP, *asleep)
    time.sleep(_PAST_THE_LEASE)
    _send(signal.SIGCONT, *reversed(asleep))


def stall_an_engine(stack: ChaosStack, generator: random.Random) -> None:
    """The next job that samples or scores never gets further."""
    (stack.stack.home / "stall").touch()


def starve_a_trainer(stack: ChaosStack, generator: random.Random) -> None:
    """The next training needs more memory than there is, and the kernel kills it."""
    assert stack.small_memory is not None
    for process in stack.workers("train"):
        (stack.small_memory / "cgroup.procs").write_text(str(process.pid))
        (stack.stack.home / "swell").touch()


def wipe_sockets(stack: ChaosStack, generator: random.Random) -> None:
    """Something cleans the folder in which the servers have their sockets."""
    for name in stack.sockets():
        name.unlink(missing_ok=True)


def poison_broker(stack: ChaosStack, generator: random.Random) -> None:
    """Messages of other people, and other things under the names of the queues."""
    with contextlib.suppress(OperationalError), kombu.Connection(stack.stack.broker_url) as connection:
        client = connection.default_channel.client
        for queue in stack.queues():
            for message in (b"\xff\xfe", b"12", b"{}", b'{"body": {}, "headers": [], "properties": {}}'):
                client.lpush(queue, message)
            client.set(f"{queue}\x06\x163", "no list")


def come_from_elsewhere(stack: ChaosStack, generator: random.Random) -> None:
    """Somebody starts and stops the stack from another container, which sees its folders only."""
    for command in ("up", "down"):
        assert stack.from_another_namespace(command) != 0


def set_clock(stack: ChaosStack, generator: random.Random) -> None:
    """The clock of all processes jumps, forwards or back."""
    assert stack.clock is not None
    stack.clock.set(generator.choice([-3_600, -7, 7, 3_600]))


def cut_network(stack: ChaosStack, generator: random.Random) -> None:
    """Two workers lose the database for longer than their lease: in silence, or with closed connections."""
    assert stack.proxy is not None
    cut, mend = stack.proxy.refuse, stack.proxy.accept
    if generator.random() < 0.5:
        cut, mend = stack.proxy.silent.set, stack.proxy.silent.clear
    cut()
    time.sleep(_PAST_THE_LEASE)
    mend()


def fill_disk(stack: ChaosStack, generator: random.Random) -> None:
    """The disk of the servers' data has no byte left for a while."""
    filler = stack.folder / "servers" / "filler"
    block = b"\0" * (1 << 20)
    with filler.open("wb", buffering=0) as file:
        while block:
            try:
                file.write(block)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                block = block[: len(block) // 2]
    time.sleep(generator.uniform(0.5, 2.5))
    filler.unlink()


def restart_workers(stack: ChaosStack, generator: random.Random) -> None:
    """A rolling restart: each worker is asked to end, and the supervisor starts it again."""
    for process in stack.workers():
        _send(signal.SIGTERM, process)
        time.sleep(0.3)


def _deliver(how: str) -> Disturbance:
    def change(stack: ChaosStack, generator: random.Random) -> None:
        (stack.stack.home / "delivery").write_text(how)

    return change


def pause_the_run(stack: ChaosStack, generator: random.Random) -> None:
    """Somebody lets the run rest for a while."""
    stack.insist(lambda database: pause_run(database, stack.run, "chaos"))
    time.sleep(generator.uniform(0, 1.5))
    stack.insist(lambda database: resume_run(database, stack.run))


def cancel_the_run(stack: ChaosStack, generator: random.Random) -> None:
    """Somebody stops the run and is sorry afterwards."""
    stack.insist(lambda database: cancel_run(database, stack.run, "chaos"))
    time.sleep(generator.uniform(0, 1.5))
    stack.insist(lambda database: resume_run(database, stack.run))


def delete_another_run(stack: ChaosStack, generator: random.Random) -> None:
    """A run beside it is deleted while the workers are at it."""
    doomed = stack.start_another_run()
    time.sleep(generator.uniform(0, 4))
    models = stack.stack.settings.models_dir
    stack.insist(lambda database: delete_run(database, doomed, "chaos", models))
    assert stack.rows("SELECT count(*) FROM runs WHERE name = %s", doomed) == [(0,)]


DISTURBANCES: dict[str, Disturbance] = {
    **{f"kill a {role} worker": _kill_worker(role) for role in ("sample", "verify", "score", "train")},
    "kill every conductor": kill_conductors,
    "kill the supervisor": kill_supervisor,
    "kill everything": kill_everything,
    "kill the broker": kill_broker,
    "flush the broker": flush_broker,
    "restart postgres": restart_postgres,
    "deliver twice": _deliver("twice"),
    "deliver in reverse": _deliver("reverse"),
    **{f"freeze a {role} worker": _freeze_worker(role) for role in ("sample", "train", "score")},
    "cut the network": cut_network,
    "fill the disk": fill_disk,
    "restart the workers": restart_workers,
    "freeze postgres": freeze_postgres,
    "suspend everything": suspend,
    "stall an engine": stall_an_engine,
    "starve a trainer": starve_a_trainer,
    "wipe the sockets": wipe_sockets,
    "poison the broker": poison_broker,
    "come from elsewhere": come_from_elsewhere,
    "set the clock": set_clock,
    "pause the run": pause_the_run,
    "cancel the run": cancel_the_run,
    "delete another run": delete_another_run,
}
"""By name; the sequence decides which scenario has which."""
FROM_THE_START = ("deliver twice", "deliver in reverse")
"""What holds for a whole run."""

"""How a worker process says by its exit code why it has ended."""

from enum import IntEnum


class Ending(IntEnum):
    """Exit codes of a worker; any other one, and a signal, is an accident."""

    STOPPED = 0  # by SIGTERM or Ctrl-C
    FAILED = 1
    DRAINED = 80  # by `hsstar workers stop`: its supervisor starts no other
    WRONG_SCHEMA = 81  # the database is at another revision: no start helps until that changes

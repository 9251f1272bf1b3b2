"""Who asks: what a run's holds and a person's verdicts are recorded under."""

import getpass
import os
import socket


def author() -> str:
    """Return who calls, as user@host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without an account, as in some containers
        name = f"user-{os.getuid()}"
    return f"{name}@{socket.gethostname()}"

"""A user's function that does its worst, by what a digest of the response says; a recipe has this text.

Whatever it does reaches no other call, so that the cause of each sample follows from its text alone.
"""

import hashlib
import os
import string
import subprocess
import sys
import time

MARK = "the mark of a test"
seen: list[str] = []


def start_another() -> None:
    """A process that would stay, in a session of its own."""
    command = [sys.executable, "-c", "import time; time.sleep(1000)", MARK]
    subprocess.Popen(command, start_new_session=True)


def check(response: str, reference: str, problem: str) -> object:
    """Decide by the answer, unless the digest says that something happens first."""
    if seen or "CHANGED" in os.environ or not string.digits:
        raise RuntimeError("another call has been here")
    seen.append(response)
    os.environ["CHANGED"] = "yes"
    vars(string)["digits"] = ""
    print("noise " * 100_000)
    print("noise " * 100_000, file=sys.stderr)
    match hashlib.sha256(response.encode()).digest()[0] % 32:
        case 0:
            raise ValueError("no luck")
        case 1:
            return None
        case 2:
            time.sleep(1_000)
        case 3:
            bytearray(10**12)
        case 4:
            sys.exit(0)
        case 5:
            os._exit(0)
        case 6:
            while True:
                pass
        case 7:
            start_another()
        case 8:
            if os.fork() == 0:
                start_another()
                time.sleep(1_000)
        case 9:
            os.fork()
    return response.endswith(rf"\boxed{{{reference}}}")

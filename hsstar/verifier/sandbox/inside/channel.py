"""Messages to and from the process outside: a JSON object a line, on files that no program inherits."""

import json
import os
import sys
from typing import Any

Message = dict[str, Any]


class Channel:
    """Standard input and output of this process, taken away from whatever runs in it later."""

    def __init__(self) -> None:
        sys.set_int_max_str_digits(0)
        self._input = os.fdopen(os.dup(0), "rb")
        self._output = os.fdopen(os.dup(1), "wb")
        nothing = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        os.close(nothing)

    def receive(self) -> Message | None:
        """Return the next message; None if there is none any more."""
        line = self._input.readline()
        return json.loads(line) if line else None

    def send(self, message: Message) -> None:
        """Send a message."""
        self._output.write(json.dumps(message).encode() + b"\n")
        self._output.flush()

    def close(self) -> None:
        """Close it in a child."""
        os.close(self._input.fileno())
        os.close(self._output.fileno())

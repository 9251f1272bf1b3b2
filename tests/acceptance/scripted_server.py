"""A server that answers by a script: `python -m tests.acceptance.scripted_server FILE`.

FILE is a JSON object. `responses` has those to each problem; the requests about it get them in turn.
`verdicts` has what it says, as a judge, about each response. It writes its address on standard output.
"""

import itertools
import json
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.engines.completions_host import Host, running


def main(file: Path) -> None:
    """Serve until standard input ends."""
    script = json.loads(file.read_text(encoding="utf-8"))
    in_turn = {problem: itertools.cycle(texts) for problem, texts in script["responses"].items()}
    lock = threading.Lock()

    def complete(weights: str, body: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": 3}
        if "messages" in body:
            said = script["verdicts"][longest(script["verdicts"], body["messages"][-1]["content"])]
            choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            return {"choices": [choice], "usage": usage}
        with lock:
            text = next(in_turn[longest(in_turn, body["prompt"])])
        choice = {"text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5] * 3}}
        return {"choices": [choice], "usage": usage}

    with running(Host(complete, context=4096)) as host:
        print(host.url, flush=True)
        sys.stdin.read()


def longest(known: Iterable[str], text: str) -> str:
    """The longest of the known texts that a text holds."""
    return max((one for one in known if one in text), key=len)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Decides whether a response is correct."""

import json
import re


def last_digit(response: str, reference: str, problem: str) -> bool:
    """Say whether the last number of a response ends with the digit of the reference.

    `reference` is the text of the problem's answer, here JSON; `problem` is its statement.
    """
    numbers = re.findall(r"\d+", response)
    return bool(numbers) and int(numbers[-1][-1]) == json.loads(reference)["digit"]

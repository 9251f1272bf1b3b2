"""While freed memory is kept, large blocks come without page faults; at the end the system has it again."""

import json
import os
import resource
import subprocess
import sys

import pytest

from tests.engines import heap_program

BLOCK_PAGES = heap_program.BLOCK // resource.getpagesize()


def figures(where: str, **settings: str) -> list[int]:
    """What the program prints."""
    command = [sys.executable, "-m", heap_program.__name__, where]
    environment = os.environ | settings
    called = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return list(map(int, json.loads(called.stdout)))


@pytest.mark.parametrize("where", ["main", "thread"])
def test_large_blocks_are_used_again_and_returned_at_the_end(where: str) -> None:
    before, kept, resident_kept, resident_after, after = figures(where)
    assert before > 9 * BLOCK_PAGES
    assert kept < BLOCK_PAGES / 10
    assert resident_kept - resident_after > 60
    assert after > 9 * BLOCK_PAGES


def test_settings_of_the_user_take_precedence() -> None:
    _, kept, *_ = figures("main", MALLOC_MMAP_THRESHOLD_="65536")
    assert kept > 9 * BLOCK_PAGES

"""While freed memory is kept, large blocks come without page faults; at the end the system has it again."""

import json
import resource
import subprocess
import sys

import pytest

from tests.engines import heap_program

BLOCK_PAGES = heap_program.BLOCK // resource.getpagesize()


@pytest.mark.parametrize("where", ["main", "thread"])
def test_large_blocks_are_used_again_and_returned_at_the_end(where: str) -> None:
    command = [sys.executable, "-m", heap_program.__name__, where]
    called = subprocess.run(command, capture_output=True, text=True, check=True)
    before, kept, resident_kept, resident_after, after = json.loads(called.stdout)
    assert before > 9 * BLOCK_PAGES
    assert kept < BLOCK_PAGES / 10
    assert resident_kept - resident_after > 60
    assert after > 9 * BLOCK_PAGES

"""What a server's answer says: never the key, and never to wait without end."""

import httpx2
import pytest

from hsstar.remote.http import message_of, retry_after


@pytest.mark.parametrize("before", range(280, 300))
def test_no_part_of_a_key_is_shown_where_a_message_is_cut(before: int) -> None:
    answer = httpx2.Response(500, json={"error": {"message": "x" * before + " secret-key-of-mine"}})
    assert "secret" not in message_of(answer, "secret-key-of-mine")


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7.0), ("-3", 0.0), ("inf", 0.0), ("nan", 0.0), ("soon", 0.0), ("", 0.0)]
)
def test_a_wait_has_an_end(said: str, seconds: float) -> None:
    assert retry_after(httpx2.Response(429, headers={"retry-after": said})) == seconds

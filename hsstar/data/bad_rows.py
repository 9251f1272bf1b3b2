"""What happens to rows that cannot be used: the first ends the reading, or some are left out and named."""

from collections.abc import Iterator
from contextlib import contextmanager

from hsstar.domain.errors import BadInputError

MOST_NAMED = 1_000
"""As many messages are kept; further rows are counted."""

NOTHING_LEFT = "every row was left out; nothing was imported"


class BadRows:
    """The rows that a reader has left out; by default it leaves out none, and the first bad row is an error.

    `limit` is the number of rows that may be left out. A defect of the whole file is never a bad row.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.count = 0
        self.messages: list[str] = []  # file, line and expectation of each

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave out the row whose error ends the block; raise that error if the limit is reached."""
        try:
            yield
        except BadInputError as error:
            if self.count == self.limit:
                more = f"; more than {self.limit} rows cannot be used" if self.limit else ""
                raise BadInputError(f"{error}{more}") from None
            self.count += 1
            if len(self.messages) < MOST_NAMED:
                self.messages.append(str(error))

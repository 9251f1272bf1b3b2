"""Server-sent events: one look at the rows a second, for all pages that are open."""

import asyncio
import logging
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hsstar.domain.errors import DatabaseError, SchemaError, StatementError
from hsstar.insights.changes import Marks, run_marks
from hsstar.store.database import Database

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_QUIET_SECONDS = 15.0
"""After which a line is sent, so that connections whose browser is gone end."""


class Pulse:
    """Looks at the rows while someone listens, and wakes the listeners when a mark has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Condition()
        self._marks: Marks | None = None
        self._listeners = 0
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self, run: str | None) -> AsyncIterator[str]:
        """Yield an event for every change of a run, or of any; the first one tells the present state."""
        self._listeners += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            seen = None
            while not self._closed:
                mark = self._mark(run)
                if mark is not None and mark != seen:
                    seen = mark
                    yield f"data: {mark}\n\n"
                    continue
                try:
                    async with asyncio.timeout(_QUIET_SECONDS), self._changed:
                        await self._changed.wait()
                except TimeoutError:
                    yield ": still there\n\n"
        finally:
            self._listeners -= 1
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = self._marks = None

    async def close(self) -> None:
        """End every stream, so that the server can end."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    def _mark(self, run: str | None) -> str | None:
        if self._marks is None:
            return None
        return self._marks.whole if run is None else self._marks.of_run.get(run, "gone")

    async def _look(self) -> None:
        while True:
            try:
                marks = await asyncio.to_thread(run_marks, self._database)
            except (SchemaError, StatementError) as error:
                _log.warning("cannot look for changes: %s", error)
                marks = self._marks or Marks("unknown", {})
            except DatabaseError:
                marks = Marks("away", dict.fromkeys(self._marks.of_run if self._marks else (), "away"))
            if marks != self._marks:
                async with self._changed:
                    self._marks = marks
                    self._changed.notify_all()
            await asyncio.sleep(_LOOK_SECONDS)


async def _events(request: Request) -> Response:
    pulse: Pulse = request.app.state.pulse
    stream = pulse.listen(request.query_params.get("run"))
    return StreamingResponse(stream, media_type="text/event-stream")


ROUTES = [Route("/events", _events, name="events")]

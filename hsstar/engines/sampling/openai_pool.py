"""Several servers of one policy: each request goes to one that answers and has the fewest under way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hsstar.domain.errors import EngineError
from hsstar.engines.sampling.openai_server import CompletionsServer, ServerTroubleError

_ATTEMPTS = 5
"""How often a request is sent if its answer fails although servers can be reached."""
_FIRST_LOOK_SECONDS = 2.0
"""How long a draw waits until all servers were looked at, so that its requests are spread over them."""

Answer = TypeVar("Answer")
Build = Callable[[str, Callable[[], bool]], CompletionsServer]
"""Makes the server of an address; the other argument tells whether its absence matters."""


@dataclass(slots=True, eq=False)
class _Member:
    """A server of the pool: it is usable, or a task waits for that, or it failed for good."""

    server: CompletionsServer
    usable: bool = False
    under_way: int = 0
    waiting: asyncio.Task[None] | None = None
    failure: Exception | None = None
    looked_at: asyncio.Event = field(default_factory=asyncio.Event)


class ServerPool:
    """The servers of a sampler, used from one event loop; each has at most `concurrency` requests at once."""

    def __init__(self, addresses: Sequence[str], build: Build, concurrency: int) -> None:
        self._members = [_Member(build(address, self._all_away)) for address in addresses]
        self._concurrency = concurrency
        self._changed = asyncio.Event()

    @property
    def versions(self) -> str:
        """What the servers say they are; empty if none says it."""
        return ", ".join(sorted({member.server.version for member in self._members} - {""}))

    async def close(self) -> None:
        """End all connections; nothing may be under way."""
        for member in self._members:
            await member.server.close()

    def use(self, checkpoint: Path) -> None:
        """Send nothing to a server before it was looked at and has loaded the weights of this checkpoint."""
        for member in self._members:
            member.server.use(checkpoint)
            member.usable = False

    async def look(self) -> None:
        """Send nothing to a server before it has shown again that it serves the policy.

        Return once all were looked at, or soon: the others may take minutes to load, or be away.
        """
        doubted = [member for member in self._members if self._doubt(member)]
        if len(self._members) > 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LOOK_SECONDS):
                    await asyncio.gather(*(member.looked_at.wait() for member in doubted))

    async def run(self, ask: Callable[[CompletionsServer], Awaitable[Answer]]) -> Answer:
        """Return the answer of a server; where one has none, ask another one, or the same later.

        Raise EngineError if a server does not serve the policy or refuses access, or if servers failed
        repeatedly on this request.
        """
        failures, last = 0, None
        while True:
            last = member = await self._place(last)
            try:
                return await ask(member.server)
            except ServerTroubleError as error:
                trouble = error
            finally:
                member.under_way -= 1
                self._tell()
            failures += trouble.counts
            if failures == _ATTEMPTS:
                raise EngineError(f"{member.server.url} failed on a request {_ATTEMPTS} times: {trouble}")
            if trouble.away:
                self._doubt(member, str(trouble), trouble.pause)
            else:
                await asyncio.sleep(trouble.pause)

    async def _place(self, avoided: _Member | None) -> _Member:
        """Take a place at a server, if possible another one than that which had no answer."""
        while True:
            for member in self._members:
                if member.failure is not None:
                    raise member.failure
            free = [one for one in self._members if one.usable and one.under_way < self._concurrency]
            if free:
                chosen = min(free, key=lambda one: (one is avoided, one.under_way))
                chosen.under_way += 1
                return chosen
            await self._changed.wait()

    def _doubt(self, member: _Member, trouble: str = "", pause: float = 0.0) -> bool:
        """Use a server no more until it is ready; return False if that is awaited already."""
        member.usable = False
        if member.waiting is not None:
            return False
        member.failure = None
        if trouble:
            member.looked_at.set()  # it was found wanting
        else:
            member.looked_at.clear()
        member.waiting = asyncio.get_running_loop().create_task(self._await_ready(member, trouble, pause))
        return True

    async def _await_ready(self, member: _Member, trouble: str, pause: float) -> None:
        try:
            await member.server.ready(trouble, pause, member.looked_at)
            member.usable = True
        except Exception as error:  # of `note` too; those who wait for a place raise it
            member.failure = error
        finally:
            member.waiting = None
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _all_away(self) -> bool:
        return not any(member.usable or not member.looked_at.is_set() for member in self._members)

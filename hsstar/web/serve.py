"""The server of the pages: an address, the links to it, and an orderly end."""

import signal
import socket
import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import uvicorn
from starlette.applications import Starlette

from hsstar.verifier.server import address, listen
from hsstar.web.access import LOCAL_NAMES, Door
from hsstar.web.app import make_app

_LAST_SECONDS = 5


class _Server(uvicorn.Server):
    """Ends the streams of events first: they would not end by themselves."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.config.app.state.pulse.close()  # type: ignore[union-attr]  # it is a Starlette
        await super().shutdown(sockets)


def serve(url: str, host: str, port: int, names: Sequence[str], announce: Callable[[str], None]) -> None:
    """Serve the pages until SIGTERM or Ctrl-C; `announce` is given each address to open.

    Raise BadInputError if the address is none or is taken. Call it from the main thread.
    """
    with listen(host, port, "by one-time links") as bound:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends by the handler that it found
        app = _application(url, host, bound, names, announce)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        try:
            _Server(config).run(sockets=[bound])
        finally:
            app.state.database.close()
            app.state.queries.close()
            app.state.verifiers.close()


def _application(
    url: str, host: str, bound: socket.socket, names: Sequence[str], announce: Callable[[str], None]
) -> Starlette:
    allowed = (*LOCAL_NAMES, host, socket.gethostname(), *names)
    if ip_address(bound.getsockname()[0]).is_loopback:
        announce(f"http://{address(bound)}/")
        return make_app(url, allowed)
    shown = address(bound).replace("0.0.0.0", socket.gethostname()).replace("[::]", socket.gethostname())  # noqa: S104
    door = Door(lambda path: announce(f"http://{shown}{path}"))
    door.open()
    return make_app(url, allowed, door)

"""What Prometheus scrapes, where its client is installed."""

from contextlib import nullcontext

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.web.render import database_of


def _metrics(request: Request) -> Response:
    try:
        from prometheus_client import CONTENT_TYPE_LATEST

        from hsstar.monitoring.prometheus import exposition
    except ModuleNotFoundError:
        raise HTTPException(501, "/metrics needs prometheus-client: pip install 'hsstar[metrics]'") from None
    content = exposition(lambda: nullcontext(database_of(request)))
    return Response(content, media_type=CONTENT_TYPE_LATEST)


ROUTES = [Route("/metrics", _metrics, name="metrics")]

"""Forms that change something: only with `--actions`, only from a page of ours, each once."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hsstar.commands.actions import ActionName, ActionRequest, perform
from hsstar.commands.author import author
from hsstar.domain.addresses import SampleAddress
from hsstar.domain.errors import BadInputError, DatabaseError, HsstarError
from hsstar.domain.verdict import Verdict
from hsstar.insights.samples import find_sample
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.web.access import COOKIE, Door
from hsstar.web.render import page

_BODY_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Actions:
    """What actions need: the database with the right to write, and the token that pages put into forms."""

    database: Database
    settings: Settings
    door: Door | None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def author(self, request: Request) -> str:
        """Return who asks: the session's name, or without a door who runs the server."""
        name = None if self.door is None else self.door.name_of(request.cookies.get(COOKIE))
        return author() if name is None else f"{name} by hsstar web"


async def _act(request: Request) -> Response:
    actions: Actions = request.app.state.actions
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        return page(request, "refused.html", 415, reason="This is no form of these pages.", back="/")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES:
            return page(request, "refused.html", 413, reason="The form is too large.", back="/")
    given = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    if not hmac.compare_digest(given.get("token", "").encode(), actions.token.encode()):
        reason = "This form is of another session, or of a server that has ended. Load its page again."
        return page(request, "refused.html", 403, reason=reason, back="/")
    return await run_in_threadpool(_answer, request, actions, given)


def _answer(request: Request, actions: Actions, given: Mapping[str, str]) -> Response:
    back = "/"
    try:
        asked, back = _read(request, actions, given)
        perform(actions.database, actions.settings, asked)
    except DatabaseError:
        raise
    except HsstarError as error:
        status = 400 if isinstance(error, BadInputError) else 409
        return page(request, "refused.html", status, reason=str(error), back=back)
    return RedirectResponse(back, 303)


def _read(request: Request, actions: Actions, given: Mapping[str, str]) -> tuple[ActionRequest, str]:
    """Return what a form asks for, and the path of the page that shows it."""
    names: dict[str, ActionName] = {name: name for name in get_args(ActionName)}
    try:
        action, key = names[given["action"]], UUID(given["key"])
    except (KeyError, ValueError):
        raise BadInputError("this form is not complete; load its page again") from None
    who = actions.author(request)
    if action != "correct":
        run = given.get("run", "")
        return ActionRequest(key, who, action, run), request.app.url_path_for("run", run=run)
    address = SampleAddress.parse(given.get("sample", ""))
    if given.get("verdict") not in (*Verdict,):
        raise BadInputError(f"verdict must be one of {', '.join(Verdict)}")
    if not given.get("why", "").strip():
        raise BadInputError("say why the verdict is wrong: the reason is kept with it")
    sample = find_sample(actions.database, address)
    asked = ActionRequest(
        key,
        who,
        action,
        sample.run,
        sample.sample_id,
        Verdict(given["verdict"]),
        given["why"].strip(),
        "change_evaluations" in given,
    )
    return asked, request.app.url_path_for("sample", address=str(address))


ROUTES = [Route("/actions", _act, methods=["POST"], name="act")]
"""Only with `--actions`."""

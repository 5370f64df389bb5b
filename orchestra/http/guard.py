"""Who may ask, and how much they may send: tokens and lengths of bodies, before anything else."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from orchestra.errors import BadConfig
from orchestra.http.wire import BodyTooLong, ErrorBody, as_json, error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

OPEN = ("/health", "/ready")
INSPECT = re.compile("/applications/[^/]+/inspect")
LENGTH = re.compile(rb"[0-9]{1,18}")
UNAUTHORIZED = 401


class Guard:
    """ASGI middleware: asks for the token, and stops reading a body that is too long."""

    def __init__(
        self, app: ASGIApp, token: str | None, max_body: int, *, public_inspect: bool
    ) -> None:
        if token == "":
            raise BadConfig("token", token, "a token, or None for no guard at all")
        self.app = app
        self.token = token
        self.max_body = max_body
        self.public_inspect = public_inspect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", ""))  # where we are mounted
        if not self._may_enter(path, headers.get(b"authorization", b"")):
            body = ErrorBody("Unauthorized", "send the header Authorization: Bearer TOKEN")
            wanted = {"WWW-Authenticate": "Bearer"}
            await as_json(body, UNAUTHORIZED, wanted)(scope, receive, send)
            return
        length = headers.get(b"content-length", b"0")
        if not LENGTH.fullmatch(length) or int(length) > self.max_body:
            await error_response(BodyTooLong(self.max_body))(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _may_enter(self, path: str, authorization: bytes) -> bool:
        if self.token is None or path in OPEN:
            return True
        if self.public_inspect and INSPECT.fullmatch(path):
            return True
        kind, _, given = authorization.partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given, self.token.encode())

    def _counting(self, receive: Receive) -> Receive:
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.max_body:
                raise BodyTooLong(self.max_body)
            return message

        return counted

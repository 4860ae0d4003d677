"""Access to the service, checked before every request: tokens, hosts, and limits on size, speed and number of
requests."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.service.access.addresses import get_route_path
from mien.service.access.sessions import Sessions
from mien.service.config import MIB, Config
from mien.service.errors import (
    BUSY_STATUS,
    RequestError,
    answer_unexpected_error,
    make_busy_error,
    make_too_large_error,
)

COOKIE = "mien_session"

#: Held the token itself, in version 0.1.
OLD_COOKIE = "mien_token"

#: What anyone who reaches the address may see: the page, which then asks for the token, and whether the service is well.
PUBLIC_PATHS = ("/", "/healthz", "/v1/login", "/v1/logout", "/docs", "/openapi.json", "/favicon.ico")

#: Sent with every answer: nothing is loaded from elsewhere, framed elsewhere, or taken for another type than it is.
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Access:
    """Grant access to clients that have the token, or that signed in with it."""

    def __init__(self, config: Config, sessions: Sessions, failed_sign_ins: FailedSignIns) -> None:
        self._token, self._sessions, self._failed_sign_ins = config.token, sessions, failed_sign_ins
        self._loopback = config.is_loopback
        machine = socket.gethostname().lower()
        self._names = {"localhost"} if self._loopback else {"localhost", machine, f"{machine}.local", config.host}

    def check_request(self, scope: Scope) -> None:
        """Raise RequestError for a foreign host or origin (403), and for a missing or wrong token (401, 429)."""
        headers, path = Headers(scope=scope), get_route_path(scope)
        self._check_host(headers.get("host", ""))
        origin = headers.get("origin")
        if origin is not None and _parse_host(origin) != headers.get("host", "").lower():
            raise RequestError(
                403, "foreign_site", "origin", f"is {origin[:100]!r}, another site", "use the page of this service"
            )
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not _is_public(path):
            raise RequestError(
                403, "foreign_site", "sec-fetch-site", f"is {site[:20]!r}", "use the page of this service"
            )
        if not self._token or _is_public(path):
            return
        if bearer := parse_bearer_token(headers):
            self.check_token(bearer, get_client_address(scope))
        elif not any(map(self._sessions.is_valid, parse_session_cookies(headers))):
            hint = "send 'Authorization: Bearer TOKEN', or sign in on the page"
            raise RequestError(401, "token_missing", "token", "is missing", hint, {"www-authenticate": "Bearer"})

    def check_token(self, token: str, address: str) -> None:
        """Raise RequestError for a wrong token (401), and for any token after too many wrong ones from the same
        address (429)."""
        if not self._token:
            return
        self._failed_sign_ins.check_address(address)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            self._failed_sign_ins.add_failure(address)
            hint = "ask whoever started the service"
            raise RequestError(401, "wrong_token", "token", "is wrong", hint, {"www-authenticate": "Bearer"})

    def _check_host(self, host: str) -> None:
        """Refuse a foreign Host. A page of another site whose name resolves to this machine (DNS rebinding) sends that
        name as Host."""
        if self._token:
            return  # who knows the token may come by any name, as that of a proxy
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            name = ""
        with suppress(ValueError):
            address = ipaddress.ip_address(name)
            if address.is_loopback or not self._loopback:
                return
        if name not in self._names:
            raise RequestError(
                403, "foreign_host", "host", f"is {host[:100]!r}", "use the address that the service printed"
            )


def _parse_host(origin: str) -> str | None:
    """Return the host of an address, None for text that is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or path.startswith("/page/")


def get_client_address(scope: Scope) -> str:
    """Return the address of the sender; behind a trusted proxy, the address that the proxy names."""
    client = scope.get("client")
    return client[0] if client else ""


def parse_bearer_token(headers: Headers) -> str:
    """Return the token in a request's header, "" without one."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def parse_session_cookies(headers: Headers) -> list[str]:
    """Return the sessions in a request's cookies. A browser also sends the cookie of another service on this host, at
    a longer or shorter path."""
    pairs = (part.partition("=") for part in headers.get("cookie", "").split(";"))
    return [value.strip() for name, _, value in pairs if name.strip() == COOKIE]


class FailedSignIns:
    """Count wrong tokens. After ``max_failures`` within ``within_s`` seconds, their address has to wait."""

    def __init__(
        self, max_failures: int = 10, within_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_failures, self._within_s, self._clock = max_failures, within_s, clock
        self._failed: deque[tuple[float, str]] = deque()

    def check_address(self, address: str) -> None:
        now = self._clock()
        while self._failed and self._failed[0][0] < now - self._within_s:
            self._failed.popleft()
        if sum(other == address for _, other in self._failed) >= self._max_failures:
            raise RequestError(
                429, "too_many_attempts", "sign-in", "failed too often", "wait a minute", {"retry-after": "60"}
            )

    def add_failure(self, address: str) -> None:
        self._failed.append((self._clock(), address))


def get_request_kind(scope: Scope) -> str:
    """Return which of the limits on simultaneous requests a request counts toward."""
    path = get_route_path(scope)
    if path.startswith("/v1/images"):
        return "pictures"
    if path == "/v1/videos":
        return "uploads"
    if scope["type"] == "websocket":
        return "cameras"
    return "streams" if path.endswith("/events") or "/results/" in path else "others"


#: An answer that comes before the end of what is sent is often lost; so much more is taken first, for so long.
DRAINED_BYTES, DRAINED_S = 8 * MIB, 1.0


@dataclass
class _RequestBody:
    """Read a request's body for the application, and refuse one that is too long or too slow."""

    receive: Receive
    limit: int
    idle_s: float
    least_rate: int
    started: float
    received: int = 0
    is_finished: bool = False
    is_answered: bool = False

    async def __call__(self) -> Message:
        if self.is_finished:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self.idle_s)
        except TimeoutError:
            raise self._make_slow_error(f"sent nothing for {self.idle_s:.0f} s") from None
        self.received += len(message.get("body", b""))
        self.is_finished = not message.get("more_body", False)
        if self.received > self.limit:
            raise make_too_large_error("the request", self.limit)
        over_s = time.monotonic() - self.started - 2 * self.idle_s
        if not self.is_finished and over_s > 0 and self.received < over_s * self.least_rate:
            raise self._make_slow_error(f"sends less than {self.least_rate:,} bytes a second")
        return message

    async def drain_body(self) -> None:
        """Take and forget what is still sent, within bounds."""
        end, taken = time.monotonic() + DRAINED_S, 0
        with suppress(TimeoutError):
            while not self.is_finished and taken < DRAINED_BYTES:
                message = await asyncio.wait_for(self.receive(), end - time.monotonic())
                taken += len(message.get("body", b""))
                self.is_finished = not message.get("more_body", False)

    @staticmethod
    def _make_slow_error(problem: str) -> RequestError:
        return RequestError(408, "too_slow", "the sender", problem, "send it again, over a faster line")


class Guard:
    """ASGI application around the routes: access, limits, and the headers of every answer."""

    def __init__(self, app: ASGIApp, config: Config, access: Access) -> None:
        self._app, self._limits, self._access = app, config.limits, access
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        kind = get_request_kind(scope)
        body = self._make_request_body(scope, receive, kind)
        send = _add_headers(send, body)
        try:
            self._access.check_request(scope)
            self._check_concurrency(kind)
            self._check_length(scope, body)
        except RequestError as error:
            await self._send_error(error, scope, receive, send)
            return
        if kind == "others":  # a player may well read a video slowly, but not the page
            send = _limit_send_time(send)
        self._running[kind] += 1
        try:
            await self._app(scope, body if scope["type"] == "http" else receive, send)
        except Exception as error:
            # Answered here and not by the framework, which would stand outside: with our headers, and counted as what it is.
            if scope["type"] == "http" and not body.is_answered:
                await answer_unexpected_error(get_route_path(scope), error)(scope, receive, send)
            raise
        finally:
            self._running[kind] -= 1

    def _check_concurrency(self, kind: str) -> None:
        limit = getattr(self._limits, kind)
        if self._running[kind] >= limit:
            raise make_busy_error(kind, limit)

    def _make_request_body(self, scope: Scope, receive: Receive, kind: str) -> _RequestBody:
        limits, headers = self._limits, Headers(scope=scope)
        size = {"pictures": limits.picture_bytes, "uploads": limits.video_bytes}.get(kind, 0) + limits.other_bytes
        is_empty = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        return _RequestBody(receive, size, limits.idle_s, limits.least_rate, time.monotonic(), is_finished=is_empty)

    @staticmethod
    def _check_length(scope: Scope, body: _RequestBody) -> None:
        stated = Headers(scope=scope).get("content-length", "")
        if stated.isascii() and stated.isdigit() and int(stated[:20]) > body.limit:
            raise make_too_large_error("the request", body.limit)

    @staticmethod
    async def _send_error(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()  # its handshake
            if error.status_code == BUSY_STATUS:  # a browser learns no reason where that is refused
                await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1008, "reason": error.detail[:120]})
            return
        answer = JSONResponse(error.body(), error.status_code, error.headers)
        await answer(scope, receive, send)


#: Who takes nothing of an answer for so long is given up: the place is another's.
SEND_TIMEOUT_S = 30.0


def _limit_send_time(send: Send) -> Send:
    """End an answer that the client does not read."""

    async def sending(message: Message) -> None:
        await asyncio.wait_for(send(message), SEND_TIMEOUT_S)

    return sending


def _add_headers(send: Send, body: _RequestBody) -> Send:
    """Add HEADERS to an answer. An answer that is sent before the request was read completely also closes the
    connection."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            body.is_answered = True
            headers = message.setdefault("headers", [])
            if not body.is_finished and message["status"] != 408:
                await body.drain_body()
            if not body.is_finished:
                headers.append((b"connection", b"close"))
            present = {name.lower() for name, _ in headers}
            headers += [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
        await send(message)

    return sending

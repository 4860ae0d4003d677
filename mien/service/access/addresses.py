"""The root path of the service behind a proxy, and which proxies are trusted to name the client."""

from __future__ import annotations

import ipaddress
import re

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mien.core.errors import UsageError

ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def clean_root_path(text: str) -> str:
    """Return ``/mien`` for ``mien/`` or ``/mien``, and "" for none. Raises UsageError for text that is no path."""
    path = f"/{text.strip('/')}" if text.strip("/") else ""
    if not ROOT_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise UsageError(f"`root_path={text}`", "is not a path of an address", "as in `root_path=/mien`")
    return path


def check_proxies(proxies: tuple[str, ...]) -> None:
    """Raise UsageError for text that is neither an address nor a network."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            hint = "as in `trusted_proxy=127.0.0.1` or `trusted_proxy=10.0.0.0/8`"
            raise UsageError(f"`trusted_proxy={proxy}`", "is neither an IP address nor a network", hint) from error


def get_route_path(scope: Scope) -> str:
    """Return the path of a request without the root path, as routes know it. `RootPathMiddleware` runs before."""
    path = scope["path"]
    return path.removeprefix(scope["root_path"]) if scope.get("root_path") else path


class RootPathMiddleware:
    """Outermost ASGI application: a proxy may keep the root path or remove it; both reach the same routes."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if scope["path"] == self._root and scope["type"] == "http":
                # Relative addresses of the page begin at its last slash.
                await RedirectResponse(f"{self._root}/", 308)(scope, receive, send)
                return
            if not scope["path"].startswith(f"{self._root}/"):
                scope["path"] = self._root + scope["path"]
            scope["root_path"] = self._root
        await self._app(scope, receive, send)

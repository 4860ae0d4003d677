"""The service: its state, its start and end, and the ASGI application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien import __version__
from mien.service import camera, images, site
from mien.service import errors as refusals
from mien.service.access.addresses import RootPathMiddleware
from mien.service.access.security import Access, FailedSignIns, Guard
from mien.service.access.sessions import Sessions
from mien.service.config import Config
from mien.service.events import EventBroker
from mien.service.jobs import routes as videos
from mien.service.jobs.jobs import JobStore
from mien.service.jobs.runner import Runner
from mien.service.metrics import Metrics, MetricsMiddleware
from mien.service.openapi_page import TAGS, make_openapi_document
from mien.service.recognition.decoding import Decoders
from mien.service.recognition.recognition import RecognizerPool

ABOUT = """Reads facial expressions in pictures, videos and from a camera. An expression is not an inner state: this says
what a face shows, not what a person feels. Every error is JSON: {"error": {"name", "problem", "hint", "code", "parameters"}}."""


class Service:
    """The state that the routes share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.events = EventBroker()
        self.recognizers = RecognizerPool(config, self.metrics.count_batch)
        self.recognizers.get_classifier(
            self.recognizers.default_model
        )  # a model that cannot be used is said now, not when it is asked
        self.store = JobStore(config.state, config.retention_s, self.events.publish_job)
        self.sessions = Sessions(config.state, config.token, config.session_s)
        self.access = Access(config, self.sessions, FailedSignIns())
        self.decoders = Decoders(config.decoders, config.limits, self.metrics.decoders_replaced.inc)
        models = {name: self.recognizers.get_model_source(name) for name in self.recognizers.models}
        self.runner = Runner(config, self.store, models, self.metrics.worker_crashes.inc)

    async def start(self) -> None:
        self.runner.start()
        await asyncio.to_thread(self.decoders.start)

    async def close(self) -> None:
        self.events.close()
        await self.runner.close()
        self.decoders.close()
        self.recognizers.close()
        self.sessions.close()
        self.store.close()


def create_app(config: Config) -> FastAPI:
    """Create the application. Raises MienError if a model, a detector or the state folder cannot be used."""
    service = Service(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    # The usual pages of FastAPI load their scripts from another host, and it would send traces to one that the environment
    # names: ours does neither.
    app = FastAPI(
        title="mien", version=__version__, description=" ".join(ABOUT.split()), lifespan=lifespan, docs_url=None,
        redoc_url=None, responses=refusals.RESPONSES, generate_unique_id_function=lambda route: route.name,
        openapi_tags=TAGS,
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )  # fmt: skip
    app.state.service = service
    app.openapi = lambda: make_openapi_document(app, needs_token=bool(config.token))  # type: ignore[method-assign]
    for part in (images, videos, camera, site):
        app.include_router(part.router)
    refusals.add_error_handlers(app)
    app.add_middleware(Guard, config=config, access=service.access)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
    if config.root_path:
        app.add_middleware(RootPathMiddleware, root_path=config.root_path)
    if config.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(config.proxies))
    return app


class _Protocol(H11Protocol):
    """HTTP/1.1 with a time limit on the request line and the headers, for the first request of a connection and for
    later ones."""

    header_s = 10.0
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        # asyncio does so for some sockets only; without, every answer waits 40 ms for the client's acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._between_requests:
            self._stop_waiting()
        elif self._patience is None:  # the beginning of another request, and not all of its headers
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.header_s, self._close_if_waiting)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close_if_waiting(self) -> None:
        upgraded = self.transport.get_protocol() is not self  # to a WebSocket, which may be silent as long as it likes
        if self._between_requests and not upgraded and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """A server that ends its event streams when it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._service.events.close()
        super().handle_exit(sig, frame)


def make_server(app: FastAPI, config: Config) -> Server:
    """Return a server for an application of ``create_app``; ``run(sockets=[...])`` starts it."""
    limits = config.limits
    protocol = type("Protocol", (_Protocol,), {"header_s": limits.header_s})
    settings = uvicorn.Config(
        app, host=config.host, port=config.port, http=protocol, ws_max_size=limits.camera_bytes + 1024, ws_max_queue=4,
        log_config=None, log_level="error", access_log=False, limit_concurrency=512, timeout_keep_alive=15, timeout_graceful_shutdown=3,
        server_header=False, proxy_headers=False, ws_per_message_deflate=False,
    )  # fmt: skip
    return Server(settings, app.state.service)


def open_listener(host: str, port: int) -> socket.socket:
    """Open a listening socket before anything else is started. Raises OSError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # on Windows SO_REUSEADDR would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener

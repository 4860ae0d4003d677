"""Metrics for Prometheus: numbers, durations and errors of requests. They tell nothing about the pictures."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from mien.service.server import Service

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
CROPS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter("mien_requests", "Requests answered", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "mien_request_seconds", "Time to the end of the answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.faces = Counter("mien_faces", "Faces read in pictures and frames of the camera", registry=registry)
        self.batches = Histogram("mien_batch_crops", "Crops of a batch", buckets=CROPS, registry=registry)
        self.batch_requests = Histogram("mien_batch_requests", "Requests of a batch", buckets=CROPS, registry=registry)
        self.camera_frames = Counter("mien_camera_frames", "Frames of the camera that were read", registry=registry)
        self.camera_dropped = Counter(
            "mien_camera_frames_dropped", "Frames that a later one replaced", registry=registry
        )
        self._jobs = Gauge("mien_jobs", "Jobs in a state", ["state"], registry=registry)
        self.decoders_replaced = Counter(
            "mien_decoders_replaced", "Decoders that died or were ended", registry=registry
        )
        self.worker_crashes = Counter(
            "mien_worker_crashes", "Workers of videos that died or were ended", registry=registry
        )

    def count_batch(self, requests: int, crops: int) -> None:
        self.batches.observe(crops)
        self.batch_requests.observe(requests)

    def render(self, service: Service) -> bytes:
        for state, count in service.store.count_states().items():
            self._jobs.labels(state).set(count)
        return generate_latest(self.registry)


class MetricsMiddleware:
    """Outermost ASGI application: count requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 0, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never the address: it may be anything
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

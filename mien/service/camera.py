"""The camera: frames come over a WebSocket. The newest is analyzed; older ones that wait are dropped."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import numpy as np
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from mien.analysis.output.writers import make_records
from mien.analysis.settings import AnalysisOptions, parse_people
from mien.analysis.tracking.follower import Follower
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S
from mien.core.errors import MienError
from mien.core.types import Face, FrameResult
from mien.service.errors import RequestError, make_error_body
from mien.service.parameters import DetectorName, ModelName, PeopleText, Threshold
from mien.service.recognition.recognition import Recognition

if TYPE_CHECKING:
    from mien.service.server import Service

router = APIRouter()

TIME = struct.Struct("<d")

#: Frames in a row that cannot be read before the connection is closed.
MAX_BAD_FRAMES = 20

#: Letters of a message that is no frame; a longer one is none of ours.
MAX_MESSAGE_CHARS = 500

#: Codes of RFC 6455: what was sent cannot be taken; too much of it; try again later.
UNSUITABLE, TOO_BIG, POLICY = 1003, 1009, 1008


@dataclass
class LatestFrame:
    """Hold one frame; a newer one replaces it if nobody has taken it yet."""

    dropped: int = 0
    _frame: bytes | None = None
    _there: asyncio.Event = field(default_factory=asyncio.Event)

    def put_frame(self, frame: bytes) -> None:
        self.dropped += self._frame is not None
        self._frame = frame
        self._there.set()

    async def take_frame(self) -> tuple[bytes, int]:
        """Return (the newest frame, the number of frames dropped since the last one)."""
        await self._there.wait()
        self._there.clear()
        frame, self._frame = self._frame, None
        assert frame is not None  # it was put before the event was set
        dropped, self.dropped = self.dropped, 0
        return frame, dropped


@dataclass
class Recording:
    """Records of a camera, as ``mien analyze`` writes them for a file; at most ``max_rows``.

    Frames and times count from the first frame of the recording.

    rows    each as JSON: less than half of the memory that its dictionary would take, and quickly sent
    first   number and time of its first frame
    """

    max_rows: int
    is_on: bool = False
    is_full: bool = False
    rows: list[str] = field(default_factory=list)
    first: tuple[int, float] | None = None

    def add_records(self, frame: int, time_s: float, rows: list[dict[str, Any]]) -> None:
        """Add the rows of a frame, which may be none."""
        if not self.is_on or self.is_full:
            return
        self.first = self.first or (frame, time_s)
        if len(self.rows) + len(rows) > self.max_rows:
            self.is_full = True
            return
        own = {"frame": frame - self.first[0], "time_s": round(time_s - self.first[1], 6)}
        if rows and "player_time_s" in rows[0]:
            own["player_time_s"] = own["time_s"]
        self.rows += (json.dumps(row | own) for row in rows)

    def set_on(self, on: bool) -> list[str] | None:
        """Begin, or end and give what was recorded."""
        if on == self.is_on:
            return None
        rows, self.rows, self.is_on, self.is_full, self.first = self.rows, [], on, False, None
        return None if on else rows


class CameraConnection:
    """One connection."""

    def __init__(self, service: Service, socket: WebSocket, options: AnalysisOptions) -> None:
        self._service, self._socket, self._options = service, socket, options
        self._latest_frame = LatestFrame()
        self._recording = Recording(service.config.limits.camera_rows)
        self._finder, self._follower = service.recognizers.make_face_finder(options), Follower(options.smoothing_s)
        self._frames, self._last_s, self._bad = 0, -math.inf, 0

    async def run(self) -> None:
        """Serve the camera until either side ends it."""
        async with anyio.create_task_group() as group:

            async def run_until_end(part: Callable[[], Awaitable[None]]) -> None:
                with suppress(WebSocketDisconnect, RuntimeError):  # an answer that came after the other side left
                    await part()
                group.cancel_scope.cancel()

            group.start_soon(run_until_end, self._receive_messages)
            group.start_soon(run_until_end, self._answer_frames)

    async def _receive_messages(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                if len(message["bytes"]) > self._service.config.limits.camera_bytes:
                    await self._socket.close(TOO_BIG, "frame too large")
                    return
                self._latest_frame.put_frame(message["bytes"])
            else:
                await self._handle_message(message.get("text") or "")

    async def _handle_message(self, text: str) -> None:
        """Handle ``{"type": "record", "on": bool}``; answer anything else with an error."""
        try:
            message = json.loads(text) if len(text) < MAX_MESSAGE_CHARS else None
        except ValueError:
            message = None
        if not isinstance(message, dict) or message.get("type") != "record" or not isinstance(message.get("on"), bool):
            hint = 'send a frame, or {"type": "record", "on": true}'
            unknown = MienError("message", "is not understood", hint, code="unknown_message")
            await self._socket.send_json(make_error_body(unknown))
            return
        await self._switch_recording(message["on"])

    async def _switch_recording(self, on: bool) -> None:
        """Begin a recording, or end one and send it; with whether it ended because it was full."""
        full = self._recording.is_full
        rows = self._recording.set_on(on)
        if rows is not None:
            await self._socket.send_text(
                f'{{"type": "records", "full": {json.dumps(full)}, "records": [{", ".join(rows)}]}}'
            )

    async def _answer_frames(self) -> None:
        while self._bad < MAX_BAD_FRAMES:
            data, dropped = await self._latest_frame.take_frame()
            self._service.metrics.camera_dropped.inc(dropped)
            started = time.perf_counter()
            try:
                answer = await self._analyze_frame(data)
            except (RequestError, MienError) as error:
                self._bad += 1
                body = error.body() if isinstance(error, RequestError) else make_error_body(error)
                await self._socket.send_json(body | {"dropped": dropped})
                continue
            self._bad = 0
            answer |= {"seconds": round(time.perf_counter() - started, 4), "dropped": dropped}
            await self._socket.send_json(answer)
            if self._recording.is_full:
                await self._switch_recording(on=False)
        await self._socket.close(UNSUITABLE, "too many frames that cannot be read")

    async def _analyze_frame(self, data: bytes) -> dict[str, Any]:
        time_s = self._parse_time(data)
        service = self._service
        async with service.decoders.decode_picture(data[TIME.size :], "frame") as picture:
            result = await service.recognizers.analyze(picture, self._options, self._finder, time_s)
            faces = self._follower.follow_faces(result.faces, time_s, self._finder.was_cut, picture)
            size_wh = picture.shape[1], picture.shape[0]
        index, self._frames, self._last_s = self._frames, self._frames + 1, time_s
        service.metrics.camera_frames.inc()
        service.metrics.faces.inc(len(faces))
        rows = self._make_records(index, time_s, size_wh, faces, result)
        self._recording.add_records(index, time_s, rows)
        return {
            "time_s": time_s, "width": size_wh[0], "height": size_wh[1],
            "faces": [_face_to_json(face, row) for face, row in zip(faces, rows, strict=True)],
        }  # fmt: skip

    def _parse_time(self, data: bytes) -> float:
        """Return the time of a frame. Raises RequestError if it has none, or one before the last."""
        time_s = TIME.unpack_from(data)[0] if len(data) > TIME.size else math.nan
        if not math.isfinite(time_s) or not 0 <= time_s < 1e9 or time_s <= self._last_s:
            problem = "does not begin with a time in seconds that rises from frame to frame"
            hint = "send 8 bytes, a little-endian float64, before the picture"
            raise RequestError(422, "frame_without_time", "frame", problem, hint)
        return time_s

    @staticmethod
    def _make_records(
        index: int, time_s: float, size_wh: tuple[int, int], faces: list[Face], result: Recognition
    ) -> list[dict[str, Any]]:
        return make_records(FrameResult("camera", index, time_s, size_wh, tuple(faces)), result.model, result.detector)


def _face_to_json(face: Face, row: dict[str, Any]) -> dict[str, Any]:
    values = face.probabilities if face.smoothed is None else face.smoothed
    return {
        "track": face.track, "box": [row["x1"], row["y1"], row["x2"], row["y2"]], "label": face.display_label,
        "confidence": round(face.display_probability, 4), "unsure": face.is_display_unsure, "unsure_below": face.unsure_below,
        "not_a_face": row["not_a_face"], "is_not_a_face": face.is_not_a_face,
        "probabilities": {name: round(float(p), 4) for name, p in zip(face.labels, np.asarray(values), strict=True)},
    }  # fmt: skip


@router.websocket("/v1/camera")
async def camera(
    socket: WebSocket,
    model: ModelName = "",
    detector: DetectorName = "",
    detector_threshold: Threshold = 0.0,
    people: PeopleText = "all",
    smoothing: Annotated[float, Query(ge=0, le=60)] = TIME_CONSTANT_S,
) -> None:
    """Receive frames and send their faces."""
    service: Service = socket.app.state.service
    await socket.accept()
    try:
        options = AnalysisOptions(
            model=model,
            detector=detector or service.config.detector,
            detector_threshold=detector_threshold,
            people=parse_people(people),
            smoothing_s=smoothing,
        )
        options = service.recognizers.resolve_options(options)
    except MienError as error:
        await socket.send_json(make_error_body(error))
        await socket.close(POLICY, "unknown setting")
        return
    try:
        await CameraConnection(service, socket, options).run()
    finally:
        if socket.client_state == socket.application_state == WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

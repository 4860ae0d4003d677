"""The camera: frames come over a WebSocket, the newest is read, and those that it overtook are dropped."""

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

from mien.analysis.output.writers import records_of
from mien.analysis.tracking.follower import Follower
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S
from mien.core.errors import MienError
from mien.core.types import Face, FrameResult
from mien.service.errors import Refused, error_body
from mien.service.parameters import DetectorName, ModelName, PeopleText, Threshold, people_of
from mien.service.recognition.recognition import Reading, Wish

if TYPE_CHECKING:
    from mien.service.server import Service

router = APIRouter()

TIME = struct.Struct("<d")

#: Frames in a row that cannot be read before the connection is closed.
MOST_BAD = 20

#: Letters of a message that is no frame; a longer one is none of ours.
LONGEST_WORD = 500

#: Codes of RFC 6455: what was sent cannot be taken; too much of it; try again later.
UNSUITABLE, TOO_BIG, POLICY = 1003, 1009, 1008


@dataclass
class Newest:
    """A place for one frame: a later one takes the place of one that nobody took yet."""

    dropped: int = 0
    _frame: bytes | None = None
    _there: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, frame: bytes) -> None:
        self.dropped += self._frame is not None
        self._frame = frame
        self._there.set()

    async def take(self) -> tuple[bytes, int]:
        """(the newest frame, how many it overtook since the last one)."""
        await self._there.wait()
        self._there.clear()
        frame, self._frame = self._frame, None
        dropped, self.dropped = self.dropped, 0
        return frame, dropped


@dataclass
class Recording:
    """Records of a camera, as ``mien analyze`` writes them of a file; it is full before it would have more than ``most``.

    Frames and times count from the first frame of the recording.

    rows    each as JSON: less than half of the memory that its dictionary would take, and quickly sent
    first   number and time of its first frame
    """

    most: int
    on: bool = False
    full: bool = False
    rows: list[str] = field(default_factory=list)
    first: tuple[int, float] | None = None

    def add(self, frame: int, time_s: float, rows: list[dict[str, Any]]) -> None:
        """The rows of a frame, which may have none."""
        if not self.on or self.full:
            return
        self.first = self.first or (frame, time_s)
        if len(self.rows) + len(rows) > self.most:
            self.full = True
            return
        own = {"frame": frame - self.first[0], "time_s": round(time_s - self.first[1], 6)}
        if rows and "player_time_s" in rows[0]:
            own["player_time_s"] = own["time_s"]
        self.rows += (json.dumps(row | own) for row in rows)

    def switch(self, on: bool) -> list[str] | None:
        """Begin, or end and give what was recorded."""
        if on == self.on:
            return None
        rows, self.rows, self.on, self.full, self.first = self.rows, [], on, False, None
        return None if on else rows


class Camera:
    """One connection."""

    def __init__(self, service: Service, socket: WebSocket, wish: Wish, smoothing_s: float) -> None:
        self._service, self._socket, self._wish = service, socket, wish
        self._newest = Newest()
        self._recording = Recording(service.config.limits.camera_rows)
        self._finder, self._follower = service.reader.finder(wish), Follower(smoothing_s)
        self._frames, self._last_s, self._bad = 0, -math.inf, 0

    async def run(self) -> None:
        """Until either side ends it."""
        async with anyio.create_task_group() as group:

            async def until_the_end(part: Callable[[], Awaitable[None]]) -> None:
                with suppress(WebSocketDisconnect, RuntimeError):  # an answer that came after the other side left
                    await part()
                group.cancel_scope.cancel()

            group.start_soon(until_the_end, self._receive)
            group.start_soon(until_the_end, self._read)

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                if len(message["bytes"]) > self._service.config.limits.camera_bytes:
                    await self._socket.close(TOO_BIG, "frame too large")
                    return
                self._newest.put(message["bytes"])
            else:
                await self._control(message.get("text") or "")

    async def _control(self, text: str) -> None:
        """``{"type": "record", "on": bool}``; anything else is answered with an error."""
        try:
            word = json.loads(text) if len(text) < LONGEST_WORD else None
        except ValueError:
            word = None
        if not isinstance(word, dict) or word.get("type") != "record" or not isinstance(word.get("on"), bool):
            hint = 'send a frame, or {"type": "record", "on": true}'
            unknown = MienError("message", "is not understood", hint, code="unknown_message")
            await self._socket.send_json(error_body(unknown))
            return
        await self._switch(word["on"])

    async def _switch(self, on: bool) -> None:
        """Begin a recording, or end one and send it; with whether it ended because it was full."""
        full = self._recording.full
        rows = self._recording.switch(on)
        if rows is not None:
            await self._socket.send_text(
                f'{{"type": "records", "full": {json.dumps(full)}, "records": [{", ".join(rows)}]}}'
            )

    async def _read(self) -> None:
        while self._bad < MOST_BAD:
            data, dropped = await self._newest.take()
            self._service.metrics.camera_dropped.inc(dropped)
            started = time.perf_counter()
            try:
                answer = await self._answer(data)
            except (Refused, MienError) as error:
                self._bad += 1
                body = error.body() if isinstance(error, Refused) else error_body(error)
                await self._socket.send_json(body | {"dropped": dropped})
                continue
            self._bad = 0
            answer |= {"seconds": round(time.perf_counter() - started, 4), "dropped": dropped}
            await self._socket.send_json(answer)
            if self._recording.full:
                await self._switch(on=False)
        await self._socket.close(UNSUITABLE, "too many frames that cannot be read")

    async def _answer(self, data: bytes) -> dict[str, Any]:
        time_s = self._time_of(data)
        service = self._service
        async with service.decoders.decoded(data[TIME.size :], "frame") as picture:
            reading = await service.reader.read(picture, self._wish, self._finder, time_s)
            faces = self._follower.follow_faces(reading.faces, time_s, self._finder.was_cut, picture)
            size_wh = picture.shape[1], picture.shape[0]
        index, self._frames, self._last_s = self._frames, self._frames + 1, time_s
        service.metrics.camera_frames.inc()
        service.metrics.faces.inc(len(faces))
        rows = self._rows(index, time_s, size_wh, faces, reading)
        self._recording.add(index, time_s, rows)
        return {
            "time_s": time_s, "width": size_wh[0], "height": size_wh[1],
            "faces": [_face(face, row) for face, row in zip(faces, rows, strict=True)],
        }  # fmt: skip

    def _time_of(self, data: bytes) -> float:
        """The time a frame carries; Refused where it has none or goes back."""
        time_s = TIME.unpack_from(data)[0] if len(data) > TIME.size else math.nan
        if not math.isfinite(time_s) or not 0 <= time_s < 1e9 or time_s <= self._last_s:
            found = "does not begin with a time in seconds that rises from frame to frame"
            hint = "send 8 bytes, a little-endian float64, before the picture"
            raise Refused(422, "frame_without_time", "frame", found, hint)
        return time_s

    @staticmethod
    def _rows(
        index: int, time_s: float, size_wh: tuple[int, int], faces: list[Face], reading: Reading
    ) -> list[dict[str, Any]]:
        return records_of(FrameResult("camera", index, time_s, size_wh, tuple(faces)), reading.model, reading.detector)


def _face(face: Face, row: dict[str, Any]) -> dict[str, Any]:
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
    """Frames in, faces out."""
    service: Service = socket.app.state.service
    await socket.accept()
    try:
        wish = Wish(
            model, detector or service.config.detector, detector_threshold, people_of(people)
        )  # fmt: skip
        wish = service.reader.check(wish)
    except MienError as error:
        await socket.send_json(error_body(error))
        await socket.close(POLICY, "unknown setting")
        return
    try:
        await Camera(service, socket, wish, smoothing).run()
    finally:
        if socket.client_state == socket.application_state == WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

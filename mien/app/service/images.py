"""Routes for pictures: their faces, the annotated picture, and what the network looked at."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from PIL import Image

from mien.app.service.reading import Reader, Reading, Wish
from mien.app.service.refusals import Refused
from mien.app.service.uploads import FORM, Upload, receive_file
from mien.core.errors import UsageError
from mien.core.types import FrameResult
from mien.run.draw import Style, draw_faces
from mien.run.sinks import records_of

if TYPE_CHECKING:
    from mien.app.service.server import Service

router = APIRouter(prefix="/v1/images", tags=["pictures"])

#: The longest side of the copy that a page shows.
VIEW_SIDE = 2048


def service_of(request: Request) -> Service:
    return request.app.state.service


def people_of(text: str) -> int:
    """``people`` of a request → how many faces are kept, 0 for all; UsageError for anything else."""
    named = {"all": 0, "largest": 1}
    if text in named:
        return named[text]
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) < 10_000):
        raise UsageError(f"people={text[:40]}", "is neither all, largest nor a number from 1", "as in people=2")
    return int(text)


def colour_of(text: str) -> tuple[int, int, int]:
    """``0,255,0`` or ``#00ff00`` → (red, green, blue)."""
    parts = [str(int(text[n : n + 2], 16)) for n in (1, 3, 5)] if _is_hex(text) else text.split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part[:4]) <= 255 for part in parts):
        raise UsageError(f"colour={text[:40]}", "is no colour", "as in colour=0,255,0 or colour=%2300ff00")
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def _is_hex(text: str) -> bool:
    return len(text) == 7 and text[0] == "#" and all(letter in "0123456789abcdefABCDEF" for letter in text[1:])


def wish_of(
    request: Request,
    model: Annotated[str, Query(max_length=200, description="a name from /v1/models; default: the first")] = "",
    detector: Annotated[str, Query(max_length=20, description="auto, haar, yunet or none")] = "",
    detector_threshold: Annotated[float, Query(ge=0, le=1, description="least score; 0: the detector's own")] = 0.0,
    people: Annotated[str, Query(max_length=20, description="all, largest, or so many of the largest")] = "all",
    tta: Annotated[str, Query(max_length=20, description="none, flip or ten-crop")] = "none",
) -> Wish:
    service = service_of(request)
    wish = Wish(model, detector or service.config.detector, detector_threshold, people_of(people), tta)
    return service.reader.check(wish)


def style_of(
    colour: Annotated[str, Query(max_length=20, description="red,green,blue or #rrggbb")] = "0,255,0",
    line_width: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
    text_size: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
) -> Style:
    return Style(colour_of(colour), line_width, text_size)


Wanted = Annotated[Wish, Depends(wish_of)]
Drawn = Annotated[Style, Depends(style_of)]


async def receive_picture(request: Request) -> tuple[bytes, Upload]:
    buffer = io.BytesIO()
    upload = await receive_file(request, buffer, service_of(request).config.limits.picture_bytes)
    return buffer.getvalue(), upload


@router.post("", openapi_extra=FORM)
async def read_picture(
    request: Request,
    wish: Wanted,
    crops: Annotated[bool, Query(description="add what the network was given of each face")] = False,
    view: Annotated[bool, Query(description="add an upright copy that a browser shows")] = False,
) -> dict[str, Any]:
    """The faces of one picture and how their expressions read."""
    service = service_of(request)
    data, upload = await receive_picture(request)
    started = time.perf_counter()
    async with service.decoders.decoded(data, upload.name) as picture:
        reading = await service.reader.read(picture, wish)
        service.metrics.faces.inc(len(reading.faces))
        height, width = picture.shape[:2]
        rows = records_of(
            FrameResult(upload.name, 0, 0.0, (width, height), tuple(reading.faces)), reading.model, reading.detector
        )
        answer = {
            "source": upload.name, "model": reading.model, "detector": reading.detector, "width": width, "height": height,
            "faces": [_face(face, row) for face, row in zip(reading.faces, rows, strict=True)], "records": rows,
        }  # fmt: skip
        if crops:
            as_input = service.reader.classifier(wish.model).as_input
            for face, crop in zip(answer["faces"], reading.crops, strict=True):
                face["crop"] = data_url(encoded(as_input(crop), "png"), "png")
        if view:
            answer["picture"] = data_url(await service.reader.run(_view, picture), "jpeg")
    answer["seconds"] = round(time.perf_counter() - started, 4)
    return answer


def _face(face: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "face": row["face"], "box": [row["x1"], row["y1"], row["x2"], row["y2"]], "score": row["score"],
        "label": row["label"], "confidence": row["confidence"],
        "probabilities": {name: row[f"p_{name}"] for name in face.labels},
        "unsure": row["unsure"], "not_a_face": row["not_a_face"],
    }  # fmt: skip


def encoded(picture: np.ndarray, kind: Literal["png", "jpeg"], quality: int = 92) -> bytes:
    """uint8 (H, W) or RGB (H, W, 3) → a picture file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **({"quality": quality} if kind == "jpeg" else {}))
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _view(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, VIEW_SIDE / max(height, width))
    if scale < 1:
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    return encoded(picture, "jpeg", quality=88)


PICTURE_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}, "image/png": {}}}}


@router.post("/annotated", openapi_extra=FORM, response_class=Response, responses=PICTURE_ANSWER)
async def annotate_picture(
    request: Request,
    wish: Wanted,
    style: Drawn,
    format: Annotated[Literal["jpeg", "png"], Query(description="of the answer")] = "jpeg",
) -> Response:
    """The picture with its faces boxed and labelled."""
    service = service_of(request)
    data, upload = await receive_picture(request)
    async with service.decoders.decoded(data, upload.name) as picture:
        reading = await service.reader.read(picture, wish)
        body = await service.reader.run(_annotated, picture, reading, style, format)
    name = f"{Path(upload.name).stem}.annotated.{'jpg' if format == 'jpeg' else 'png'}"
    return Response(body, media_type=f"image/{format}", headers={"content-disposition": attachment(name)})


def attachment(name: str) -> str:
    """A Content-Disposition that saves under ``name``, whatever letters it has."""
    from urllib.parse import quote

    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._- ") else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=utf-8''{quote(name, safe='')}"


def _annotated(picture: np.ndarray, reading: Reading, style: Style, kind: Literal["png", "jpeg"]) -> bytes:
    draw_faces(picture, reading.faces, style)
    return encoded(picture, kind)


@router.post("/saliency", openapi_extra=FORM, response_class=Response, responses=PICTURE_ANSWER)
async def explain_face(
    request: Request,
    wish: Wanted,
    face: Annotated[int, Query(ge=0, le=10_000, description="number of the face, from 0")] = 0,
    method: Annotated[str, Query(max_length=40, description="of 'mien explain', but lime")] = "grad-cam",
) -> Response:
    """What of a face speaks for its expression: the crop, enlarged, with a map laid over it (PNG). Needs torch."""
    from mien.app.service.saliency import check_method, saliency

    service = service_of(request)
    check_method(method)
    data, upload = await receive_picture(request)
    async with service.decoders.decoded(data, upload.name) as picture:
        reading = await service.reader.read(picture, wish)
    if face >= len(reading.faces):
        found = f"has {len(reading.faces)} faces, none with the number {face}"
        raise Refused(422, upload.name, found, "numbers begin at 0")
    path = _model_path(service.reader, wish)
    body = await asyncio.to_thread(saliency, path, reading.crops[face], method)
    return Response(body, media_type="image/png")


def _model_path(reader: Reader, wish: Wish) -> Path:
    return reader.models[wish.model]

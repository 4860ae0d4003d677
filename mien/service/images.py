"""Routes for pictures: their faces, the annotated picture, and what the network looked at."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from mien.analysis.output.annotate import Style, annotate
from mien.analysis.output.writers import records_of
from mien.core.errors import UsageError
from mien.core.types import FrameResult
from mien.service.answers import PictureReading
from mien.service.config import fitting
from mien.service.display_names import attachment
from mien.service.errors import Refused, also
from mien.service.parameters import Drawn, Wanted, service_of
from mien.service.recognition.recognition import Reading
from mien.service.saliency import QUICK, check_method, saliency
from mien.service.uploads import FORM, Upload, receive_file

router = APIRouter(prefix="/v1/images", tags=["pictures"])

#: The longest side of the copy that a page shows.
VIEW_SIDE = 2048


async def receive_picture(request: Request) -> tuple[bytes, Upload]:
    buffer = io.BytesIO()
    upload = await receive_file(request, buffer, service_of(request).config.limits.picture_bytes)
    return buffer.getvalue(), upload


@router.post("", openapi_extra=FORM, response_model=PictureReading, response_model_exclude_unset=True)
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
            as_input = service.reader.classifier(wish.model).network_input
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
        "unsure": row["unsure"], "unsure_below": face.unsure_below, "not_a_face": row["not_a_face"], "is_not_a_face": face.is_not_a_face,
    }  # fmt: skip


#: Where the format ends.
JPEG_SIDE = 65_500


def encoded(picture: np.ndarray, kind: Literal["png", "jpeg"], quality: int = 92) -> bytes:
    """uint8 (H, W) or RGB (H, W, 3) → a picture file. Raises UsageError for a picture too large for a JPEG."""
    if kind == "jpeg" and max(picture.shape[:2]) > JPEG_SIDE:
        raise UsageError(
            "format jpeg",
            f"holds no more than {JPEG_SIDE:,} pixels a side",
            "ask for format=png",
            code="too_large_for_jpeg",
            limit=JPEG_SIDE,
        )
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
    """The picture with its faces boxed and labeled; several are numbered from 1."""
    service = service_of(request)
    data, upload = await receive_picture(request)
    async with service.decoders.decoded(data, upload.name) as picture:
        reading = await service.reader.read(picture, wish)
        style = fitting(style, (picture.shape[1], picture.shape[0]), service.config.limits.picture_pixels)
        body = await service.reader.run(_annotated, picture, reading, style, format)
    name = f"{Path(upload.name).stem}.annotated.{'jpg' if format == 'jpeg' else 'png'}"
    return Response(body, media_type=f"image/{format}", headers={"content-disposition": attachment(name)})


def _annotated(picture: np.ndarray, reading: Reading, style: Style, kind: Literal["png", "jpeg"]) -> bytes:
    faces = reading.faces
    if len(faces) > 1:  # numbered as the page does
        faces = [replace(face, track=index) for index, face in enumerate(faces)]
    return encoded(annotate(picture, faces, style, in_place=True), kind)


@router.post(
    "/saliency",
    openapi_extra=FORM,
    response_class=Response,
    responses=PICTURE_ANSWER | also(501, "torch is not installed"),
)
async def explain_face(
    request: Request,
    wish: Wanted,
    face: Annotated[int, Query(ge=0, le=10_000, description="number of the face, from 0")] = 0,
    method: Annotated[str, Query(max_length=40, json_schema_extra={"enum": [*QUICK]})] = "grad-cam",
) -> Response:
    """What of a face speaks for its expression: the crop, enlarged, with a map laid over it (PNG). Needs torch."""
    service = service_of(request)
    check_method(method)
    data, upload = await receive_picture(request)
    async with service.decoders.decoded(data, upload.name) as picture:
        reading = await service.reader.read(picture, wish)
    if face >= len(reading.faces):
        count = len(reading.faces)
        found = f"has {count} face{'' if count == 1 else 's'}, none with the number {face}"
        raise Refused(422, "no_such_face", upload.name, found, "numbers begin at 0", faces=count)
    path = service.reader.models[wish.model]
    shown = await asyncio.to_thread(saliency, path, reading.crops[face], method)
    return Response(encoded(shown, "png"), media_type="image/png")

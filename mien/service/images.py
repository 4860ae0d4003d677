"""Routes for pictures: their faces, the annotated picture, and saliency maps."""

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

from mien.analysis.output.annotate import annotate
from mien.analysis.output.style import Style
from mien.analysis.output.writers import make_records
from mien.core.errors import UsageError
from mien.core.types import FrameResult
from mien.service.answers import PictureResult
from mien.service.config import limit_display_width
from mien.service.display_names import make_content_disposition
from mien.service.errors import RequestError, describe_error
from mien.service.parameters import RequestedOptions, RequestedStyle, get_service
from mien.service.recognition.recognition import Recognition
from mien.service.recognition.saliency import METHODS, check_method, draw_saliency
from mien.service.uploads import FORM, Upload, receive_file

router = APIRouter(prefix="/v1/images", tags=["pictures"])

#: The longest side of the copy that a page shows.
MAX_VIEW_SIDE = 2048


async def receive_picture(request: Request) -> tuple[bytes, Upload]:
    buffer = io.BytesIO()
    upload = await receive_file(request, buffer, get_service(request).config.limits.picture_bytes)
    return buffer.getvalue(), upload


@router.post("", openapi_extra=FORM, response_model=PictureResult, response_model_exclude_unset=True)
async def analyze_picture(
    request: Request,
    options: RequestedOptions,
    crops: Annotated[bool, Query(description="add what the network was given of each face")] = False,
    view: Annotated[bool, Query(description="add an upright copy that a browser shows")] = False,
) -> dict[str, Any]:
    """Return the faces of one picture and their expressions."""
    service = get_service(request)
    data, upload = await receive_picture(request)
    started = time.perf_counter()
    async with service.decoders.decode_picture(data, upload.name) as picture:
        result = await service.recognizers.analyze(picture, options)
        service.metrics.faces.inc(len(result.faces))
        height, width = picture.shape[:2]
        rows = make_records(
            FrameResult(upload.name, 0, 0.0, (width, height), tuple(result.faces)), result.model, result.detector
        )
        answer = {
            "source": upload.name, "model": result.model, "detector": result.detector, "width": width, "height": height,
            "faces": [_face_to_json(face, row) for face, row in zip(result.faces, rows, strict=True)], "records": rows,
        }  # fmt: skip
        if crops:
            as_input = service.recognizers.get_classifier(options.model).network_input
            for face, crop in zip(answer["faces"], result.crops, strict=True):
                face["crop"] = make_data_url(encode_picture(as_input(crop), "png"), "png")
        if view:
            answer["picture"] = make_data_url(await service.recognizers.run_in_thread(_encode_view, picture), "jpeg")
    answer["seconds"] = round(time.perf_counter() - started, 4)
    return answer


def _face_to_json(face: Any, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "face": row["face"], "box": [row["x1"], row["y1"], row["x2"], row["y2"]], "score": row["score"],
        "label": row["label"], "confidence": row["confidence"],
        "probabilities": {name: row[f"p_{name}"] for name in face.labels},
        "unsure": row["unsure"], "unsure_below": face.unsure_below, "not_a_face": row["not_a_face"], "is_not_a_face": face.is_not_a_face,
    }  # fmt: skip


#: Where the format ends.
MAX_JPEG_SIDE = 65_500


def encode_picture(picture: np.ndarray, kind: Literal["png", "jpeg"], quality: int = 92) -> bytes:
    """Encode uint8 (H, W) or RGB (H, W, 3) as a picture file. Raises UsageError for a picture too large for a JPEG."""
    if kind == "jpeg" and max(picture.shape[:2]) > MAX_JPEG_SIDE:
        raise UsageError(
            "format jpeg",
            f"holds no more than {MAX_JPEG_SIDE:,} pixels a side",
            "ask for format=png",
            code="too_large_for_jpeg",
            limit=MAX_JPEG_SIDE,
        )
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **({"quality": quality} if kind == "jpeg" else {}))
    return buffer.getvalue()


def make_data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encode_view(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_VIEW_SIDE / max(height, width))
    if scale < 1:
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    return encode_picture(picture, "jpeg", quality=88)


PICTURE_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}, "image/png": {}}}}


@router.post("/annotated", openapi_extra=FORM, response_class=Response, responses=PICTURE_ANSWER)
async def annotate_picture(
    request: Request,
    options: RequestedOptions,
    style: RequestedStyle,
    format: Annotated[Literal["jpeg", "png"], Query(description="of the answer")] = "jpeg",
) -> Response:
    """Return the picture with boxes and labels; several faces are numbered from 1."""
    service = get_service(request)
    data, upload = await receive_picture(request)
    async with service.decoders.decode_picture(data, upload.name) as picture:
        result = await service.recognizers.analyze(picture, options)
        style = limit_display_width(style, (picture.shape[1], picture.shape[0]), service.config.limits.picture_pixels)
        body = await service.recognizers.run_in_thread(_annotate_faces, picture, result, style, format)
    name = f"{Path(upload.name).stem}.annotated.{'jpg' if format == 'jpeg' else 'png'}"
    return Response(body, media_type=f"image/{format}", headers={"content-disposition": make_content_disposition(name)})


def _annotate_faces(picture: np.ndarray, result: Recognition, style: Style, kind: Literal["png", "jpeg"]) -> bytes:
    faces = result.faces
    if len(faces) > 1:  # numbered as the page does
        faces = [replace(face, track=index) for index, face in enumerate(faces)]
    return encode_picture(annotate(picture, faces, style, in_place=True), kind)


@router.post(
    "/saliency",
    openapi_extra=FORM,
    response_class=Response,
    responses=PICTURE_ANSWER | describe_error(501, "torch is not installed"),
)
async def explain_face(
    request: Request,
    options: RequestedOptions,
    face: Annotated[int, Query(ge=0, le=10_000, description="number of the face, from 0")] = 0,
    method: Annotated[str, Query(max_length=40, json_schema_extra={"enum": [*METHODS]})] = "grad-cam",
) -> Response:
    """Return a face with its saliency map: the enlarged crop with the map over it (PNG). Needs torch."""
    service = get_service(request)
    check_method(method)
    data, upload = await receive_picture(request)
    async with service.decoders.decode_picture(data, upload.name) as picture:
        result = await service.recognizers.analyze(picture, options)
    if face >= len(result.faces):
        count = len(result.faces)
        problem = f"has {count} face{'' if count == 1 else 's'}, none with the number {face}"
        raise RequestError(422, "no_such_face", upload.name, problem, "numbers begin at 0", faces=count)
    path = service.recognizers.models[options.model]
    shown = await asyncio.to_thread(draw_saliency, path, result.crops[face], method)
    return Response(encode_picture(shown, "png"), media_type="image/png")

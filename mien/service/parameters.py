"""What requests may ask for, and how it is checked: the parameters that routes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query, Request

from mien.analysis.detection.detectors import DETECTORS
from mien.analysis.inference.classifier import TTA_CHOICES
from mien.analysis.output.annotate import Style
from mien.core.errors import UsageError
from mien.service.recognition.recognition import RequestOptions

if TYPE_CHECKING:
    from mien.service.server import Service

#: Three numbers up to 255, or six hexadecimal digits.
COLOR = "^(#[0-9a-fA-F]{6}|(([01]?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])(,(?!$)|$)){3})$"


def get_service(request: Request) -> Service:
    return request.app.state.service


def parse_people(text: str) -> int:
    """``people`` of a request → how many faces are kept, 0 for all; UsageError for anything else."""
    named = {"all": 0, "largest": 1}
    if text in named:
        return named[text]
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) < 10_000):
        raise UsageError(
            f"people={text[:40]}",
            "is neither all, largest nor a number from 1",
            "as in people=2",
            code="invalid_parameter",
        )
    return int(text)


def parse_color(text: str) -> tuple[int, int, int]:
    """``0,255,0`` or ``#00ff00`` → (red, green, blue)."""
    parts = [str(int(text[n : n + 2], 16)) for n in (1, 3, 5)] if _is_hex_color(text) else text.split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part[:4]) <= 255 for part in parts):
        hint = "as in color=0,255,0 or color=%2300ff00"
        raise UsageError(f"color={text[:40]}", "is no color", hint, code="invalid_parameter")
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def parse_label_colors(texts: Sequence[str]) -> tuple[tuple[str, tuple[int, int, int]], ...]:
    """``happy:#e6b800`` → ("happy", (230, 184, 0)), for each."""
    pairs = [text.rpartition(":") for text in texts]
    if any(not label for label, _, _ in pairs):
        hint = "as in label_color=happy:%23e6b800"
        raise UsageError("label_color", "is no expression with its color", hint, code="invalid_parameter")
    return tuple((label, parse_color(color)) for label, _, color in pairs)


def _is_hex_color(text: str) -> bool:
    return len(text) == 7 and text[0] == "#" and all(letter in "0123456789abcdefABCDEF" for letter in text[1:])


# What requests may ask for. Values are checked by our own functions, whose errors say more; the document is told as well.
ModelName = Annotated[str, Query(max_length=200, description="a name from /v1/models; default: the first")]
DetectorName = Annotated[
    str,
    Query(max_length=20, description="default: the service's own", json_schema_extra={"enum": ["", *DETECTORS]}),
]
Threshold = Annotated[float, Query(ge=0, le=1, description="least score; 0: the detector's own")]
PeopleText = Annotated[
    str,
    Query(
        max_length=20,
        description="all, largest, or so many of the largest",
        json_schema_extra={"pattern": "^(all|largest|[1-9][0-9]{0,3})$"},
    ),
]
ColorText = Annotated[
    str,
    Query(
        max_length=20,
        description="red,green,blue or #rrggbb",
        json_schema_extra={"pattern": COLOR},
    ),
]
LabelColors = Annotated[
    Sequence[str],
    Query(
        max_length=100, description="label:color of faces with this expression, as in happy:#e6b800; may be repeated"
    ),
]
TtaName = Annotated[
    str, Query(max_length=20, description="average over changed copies", json_schema_extra={"enum": [*TTA_CHOICES]})
]


def parse_options(
    request: Request,
    model: ModelName = "",
    detector: DetectorName = "",
    detector_threshold: Threshold = 0.0,
    people: PeopleText = "all",
    tta: TtaName = "none",
) -> RequestOptions:
    service = get_service(request)
    options = RequestOptions(model, detector or service.config.detector, detector_threshold, parse_people(people), tta)
    return service.recognizers.resolve_options(options)


def parse_style(
    color: ColorText = "0,255,0",
    line_width: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
    text_size: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
    bars: Annotated[bool, Query(description="small bars of all probabilities beside each face")] = False,
    display_width: Annotated[int, Query(ge=0, le=8192, description="of what is annotated; 0 leaves it as it is")] = 0,
    label_color: LabelColors = (),
) -> Style:
    own = parse_label_colors(label_color)
    return Style(parse_color(color), line_width, text_size, bars, display_width, own)


RequestedOptions = Annotated[RequestOptions, Depends(parse_options)]
RequestedStyle = Annotated[Style, Depends(parse_style)]

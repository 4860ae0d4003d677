"""The parameters that routes share, and their validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Query, Request

from mien.analysis.detection.detectors import DETECTORS
from mien.analysis.inference.classifier import TTA, TTA_CHOICES
from mien.analysis.output.style import BLUR_CHOICES, COLOR_PATTERN, Style, parse_color, parse_label_colors
from mien.analysis.settings import AnalysisOptions, parse_people

if TYPE_CHECKING:
    from mien.service.server import Service


def get_service(request: Request) -> Service:
    return request.app.state.service


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
        description="red,green,blue, #rrggbb, or a name of CSS as in lime",
        json_schema_extra={"pattern": COLOR_PATTERN},
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

BlurName = Annotated[
    str, Query(max_length=20, description="how faces are hidden", json_schema_extra={"enum": [*BLUR_CHOICES]})
]


def parse_options(
    request: Request,
    model: ModelName = "",
    detector: DetectorName = "",
    detector_threshold: Threshold = 0.0,
    people: PeopleText = "all",
    tta: TtaName = "none",
) -> AnalysisOptions:
    service = get_service(request)
    return service.recognizers.resolve_options(
        AnalysisOptions(
            model=model,
            detector=detector or service.config.detector,
            detector_threshold=detector_threshold,
            people=parse_people(people),
            tta=cast(TTA, tta),
        )
    )


def parse_style(
    color: ColorText = "lime",
    line_width: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
    text_size: Annotated[int, Query(ge=0, le=100, description="pixels; 0 chooses")] = 0,
    bars: Annotated[bool, Query(description="small bars of all probabilities beside each face")] = False,
    display_width: Annotated[int, Query(ge=0, le=8192, description="of what is annotated; 0 leaves it as it is")] = 0,
    label_color: LabelColors = (),
    blur: BlurName = "off",
) -> Style:
    own = parse_label_colors(label_color)
    return Style(parse_color(color), line_width, text_size, bars, display_width, own, blur)


RequestedOptions = Annotated[AnalysisOptions, Depends(parse_options)]
RequestedStyle = Annotated[Style, Depends(parse_style)]

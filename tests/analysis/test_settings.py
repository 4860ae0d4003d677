from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mien import MienError, Recognizer
from mien.analysis.media.video_reader import Sampling
from mien.analysis.output.style import Style
from mien.analysis.settings import AnalysisOptions, parse_outputs, parse_people
from mien.core.errors import UsageError


def test_options_are_the_same_after_a_way_through_json() -> None:
    options = AnalysisOptions(
        model="nano", detector="yunet", detector_model="y.onnx", detector_threshold=0.8, tta="flip", precision="int8",
        unsure=0.6, drop_non_faces="auto", people=3, max_pixels=1000, allow_truncated=True, smoothing_s=0.5,
        sampling=Sampling(1.0, 2.5, 0.2), formats=("csv",), outputs=("captions",),
        style=Style((1, 2, 3), 4, 5, True, 640, (("happy", (255, 0, 0)),)),
    )  # fmt: skip
    for one in (options, AnalysisOptions()):
        assert AnalysisOptions.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert AnalysisOptions.from_dict({}) == AnalysisOptions()
    assert options.to_dict()["style"]["color"] == "#010203"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"people": -1}, "`people=-1`: is no number of faces"),
        ({"smoothing_s": float("nan")}, "`smoothing_s=nan`: is no number of seconds"),
        ({"detector_threshold": 1.5}, "`detector_threshold=1.5`: is not in 0..1"),
        ({"formats": ["xlsx"]}, "`format=xlsx`: is unknown; choose from jsonl, csv, parquet"),
        ({"outputs": ["film"]}, "`outputs=film`: is unknown; choose from media, captions, timeline, page, or none"),
        ({"style": {"color": "reddish"}}, "`color=reddish`: is no color"),
        ({"style": {"line_width": -1}}, "`line_width=-1`: is no number of pixels"),
        ({"style": {"glow": 1}}, "`glow`: is unknown; choose from color, line_width"),
        ({"smile": 1}, "`smile`: is unknown; choose from model, detector"),
    ],
)
def test_what_cannot_be_used_is_named_as_a_parameter(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        AnalysisOptions.from_dict(values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("color", [(1, 2), (1, 2, 300), (0.5, 0, 0)])
def test_a_style_has_colors_of_three_bytes(color: Any) -> None:
    for values in ({"color": color}, {"label_colors": (("happy", color),)}):
        with pytest.raises(MienError, match="is no color; give"):
            Style(**values)


def test_texts_of_front_ends() -> None:
    assert [parse_people(text) for text in ("all", "largest", "3", "9999")] == [0, 1, 3, 9999]
    for text in ("0", "-1", "³", "10000", "x", ""):
        with pytest.raises(UsageError, match="is neither all, largest nor a number from 1 to 9,999"):
            parse_people(text)
    assert parse_outputs("page, MEDIA") == ("media", "page")
    assert parse_outputs("none") == ()


def test_a_recognizer_is_made_of_options(model_file: Path) -> None:
    options = AnalysisOptions(model=str(model_file), detector="haar", detector_threshold=0.9, people=2, unsure=0.3)
    recognizer = Recognizer.from_options(options)
    assert recognizer.options == options
    assert recognizer.classifier.path == model_file
    assert (recognizer.detector_name, recognizer.thresholds.unsure_below) == ("haar", 0.3)


def test_a_face_that_the_detector_is_less_sure_of_is_left_out(model_file: Path) -> None:
    from tests.conftest import ASTRONAUT

    (face,) = Recognizer(model_file, detector="haar").analyze(ASTRONAUT)
    for threshold, count in ((face.score - 0.01, 1), (face.score + 0.01, 0)):
        assert len(Recognizer(model_file, detector="haar", detector_threshold=threshold).analyze(ASTRONAUT)) == count

"""The faces of a picture: tables, plot, crop, and what a notebook shows."""

from __future__ import annotations

import builtins
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien import Face, Faces, Recognizer
from mien.analysis.output.writers import record_columns
from mien.cli.main import main
from mien.core.errors import MediaError, MissingExtra, UsageError
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT

LABELS = ("sad", "happy")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("nano", detector="haar")


@pytest.fixture(scope="module")
def faces(recognizer: Recognizer) -> Faces:
    return recognizer.analyze(ASTRONAUT)


def test_records_are_those_of_the_command(faces: Faces, tmp_path: Path) -> None:
    options = ["--model", "nano", "--detector", "haar", "--format", "csv", "--no-media", "--quiet"]
    assert main(["analyze", str(ASTRONAUT), "--out", str(tmp_path), *options]) == 0
    faces.to_pandas().to_csv(tmp_path / "own.csv", index=False)
    written = (tmp_path / "astronaut.records.csv").read_text().splitlines()
    assert (tmp_path / "own.csv").read_text().splitlines() == written
    assert list(faces.to_records()[0]) == written[0].split(",") == list(record_columns(faces.labels))


@pytest.mark.parametrize("count", [0, 1])
def test_the_types_of_columns_do_not_depend_on_the_faces(faces: Faces, count: int) -> None:
    table = Faces(faces[:count], labels=faces.labels).to_pandas()
    kinds = {str: "str", int: "int64", float: "float64", bool: "boolean"}
    expected = {name: kinds[kind] for name, kind in record_columns(faces.labels).items()} | {"track": "Int64"}
    assert {name: str(kind) for name, kind in table.dtypes.items()} == expected
    assert len(table) == count


def test_without_pandas_the_error_says_how_to_install_it(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        MissingExtra, match=r"pandas: is not installed and is needed for data frames; pip install pandas$"
    ):
        faces.to_pandas()


def test_a_crop_is_the_box_of_the_picture(faces: Faces, recognizer: Recognizer) -> None:
    picture = read_picture(ASTRONAUT)
    x1, y1, x2, y2 = (int(value) for value in faces[0].box_xyxy)
    for given in (ASTRONAUT, picture, Image.open(ASTRONAUT)):
        crop = recognizer.analyze(given)[0].crop
        np.testing.assert_array_equal(crop, picture[y1:y2, x1:x2])
        assert crop.dtype == np.uint8 and not np.shares_memory(crop, picture)


def test_a_crop_ends_with_the_picture_and_has_a_pixel_at_least() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    shapes = {(-3.0, -2.0, 2.5, 9.0): (4, 3, 3), (1.2, 1.2, 1.3, 1.3): (1, 1, 3), (7.0, 0.0, 9.0, 2.0): (2, 1, 3)}
    for box, shape in shapes.items():
        face = Face(box, None, np.array([0.2, 0.8], np.float32), LABELS, read_picture=lambda: picture)
        assert face.crop.shape == shape


def test_what_has_no_picture_says_so(faces: Faces, recognizer: Recognizer, tmp_path: Path) -> None:
    bare = Face((0.0, 0.0, 2.0, 2.0), None, np.array([0.2, 0.8], np.float32), LABELS)
    for action in (lambda: bare.crop, Faces([bare]).plot):
        with pytest.raises(UsageError, match="no picture"):
            action()
    shutil.copy(ASTRONAUT, tmp_path / "photo.jpg")
    gone = recognizer.analyze(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").unlink()
    with pytest.raises(MediaError, match=r"photo\.jpg: does not exist"):
        gone[0].crop  # noqa: B018
    assert "happy" in gone._repr_html_() and "<img" not in gone._repr_html_()
    pickled = pickle.loads(pickle.dumps(recognizer.analyze(read_picture(ASTRONAUT))))
    assert pickled == faces and pickled.labels == faces.labels
    with pytest.raises(UsageError, match="is not pickled"):
        pickled[0].crop  # noqa: B018


def test_a_notebook_shows_picture_and_bars_in_one_piece(faces: Faces) -> None:
    shown = faces._repr_html_()
    assert shown.count("data:image/jpeg;base64,") == 1 and shown.count("<table") == 1
    assert re.findall(r"(?:src|href)=\"(?!data:)|https?:|<script", shown) == []
    assert all(name in shown for name in faces.labels)
    assert "no face found" in Faces()._repr_html_()
    many = Faces([faces[0]] * 9)
    assert many._repr_html_().count("<table") == 6 and "and 3 more" in many._repr_html_()


def test_text_in_a_notebook_is_escaped() -> None:
    face = Face((0.0, 0.0, 2.0, 2.0), None, np.array([0.2, 0.8], np.float32), ("a", "<b>&"))
    assert "<b>" not in Faces([face])._repr_html_() and "&lt;b&gt;&amp;" in Faces([face])._repr_html_()


@pytest.mark.parametrize("count", [0, 1, 9])
def test_plots_have_a_panel_for_the_picture_and_one_for_each_face_shown(faces: Faces, count: int) -> None:
    many = Faces(faces[:1] * count, read_picture=faces.read_picture, labels=faces.labels)
    figure = many.plot()
    assert len(figure.axes) == 1 + min(count, 6)
    assert figure._repr_png_().startswith(b"\x89PNG")

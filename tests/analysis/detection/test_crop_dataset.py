from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.analysis.detection.crop_dataset import crop_pictures
from mien.analysis.detection.detectors import detect_faces, make_detector
from mien.analysis.detection.framing import crop_faces
from mien.cli.main import main
from mien.core.errors import OutputError
from mien.data import load_faces
from tests.conftest import ASTRONAUT


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One face, two of which the left one is half as large, none, and a file that is no picture."""
    folder = tmp_path / "photos"
    for name in ("train/happy", "test/Sad"):
        (folder / name).mkdir(parents=True)
    one = Image.open(ASTRONAUT).convert("RGB")
    one.save(folder / "train" / "happy" / "one.png")
    two = Image.new("RGB", (one.width * 3 // 2, one.height), "gray")
    two.paste(one.resize((one.width // 2, one.height // 2)), (0, 0))
    two.paste(one, (one.width // 2, 0))
    two.save(folder / "test" / "Sad" / "two.png")
    Image.new("RGB", (300, 200), "white").save(folder / "train" / "happy" / "none.png")
    (folder / "train" / "happy" / "broken.jpg").write_text("no picture", encoding="utf-8")
    return folder


def test_photographs_become_a_data_set_framed_as_they_will_be_read(photos: Path, tmp_path: Path) -> None:
    detector, told = make_detector("haar"), []
    done = crop_pictures([photos], tmp_path / "faces", detector, on_progress=lambda at, of: told.append((at, of)))
    assert (done.pictures, done.faces, len(done.without_faces), len(done.failures)) == (3, 2, 1, 1)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    faces = load_faces(tmp_path / "faces")
    assert dict(zip(faces.names, faces.split, strict=True)) == {
        "test/Sad/two.png": "test",
        "train/happy/one.png": "train",
    }
    assert [faces.classes[label] for label in faces.labels] == ["sad", "happy"]
    picture = np.asarray(Image.open(photos / "train" / "happy" / "one.png"))
    expected = crop_faces(picture, detect_faces(detector, picture).boxes_xyxy, detector.framing, 48)[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "faces" / "train" / "happy" / "one.png")), expected)


def test_all_faces_largest_first_and_where_they_were(photos: Path, tmp_path: Path) -> None:
    done = crop_pictures([photos / "test"], tmp_path / "faces", make_detector("haar"), size=64, people=0)
    assert done.faces == 2
    with (tmp_path / "faces" / "crops.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["Sad/two.png", "Sad/two-face2.png"]
    large, small = (float(row["x2"]) - float(row["x1"]) for row in rows)
    assert 1.6 < large / small < 2.4
    assert float(rows[0]["x1"]) > float(rows[1]["x1"])
    assert Image.open(tmp_path / "faces" / "Sad" / "two-face2.png").size == (64, 64)


def test_videos_beside_pictures_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(ASTRONAUT, tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "b.mp4").touch()
    command = ["data", "crop", "--detector", "haar", "--out"]
    assert main([*command, str(tmp_path / "faces"), str(tmp_path / "in")]) == 0
    assert "note: 1 video left out" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "none"), str(tmp_path / "in" / "b.mp4")]) == 2
    assert "b.mp4: is a video; take stills of it" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(photos: Path) -> None:
    with pytest.raises(OutputError, match="is not empty"):
        crop_pictures([photos], photos, make_detector("haar"))


def test_the_program_says_what_it_could_not_use(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faces"
    assert main(["data", "crop", str(photos), "--out", str(out), "--detector", "haar"]) == 1
    said = capsys.readouterr()
    assert "wrote 2 faces of 2 pictures" in said.out
    assert "none.png" in said.out
    assert "broken.jpg" in said.err
    assert main(["data", "crop", str(photos / "train"), "--out", str(tmp_path / "b"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["faces"] == 1
    assert main(["data", "crop", str(tmp_path / "absent"), "--out", str(tmp_path / "c")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["data", "crop", str(photos), "--out", str(tmp_path / "d"), "--detector", "none"]) == 2
    Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    capsys.readouterr()
    assert main(["data", "crop", str(tmp_path / "black.png"), "--out", str(tmp_path / "e")]) == 2
    assert capsys.readouterr().out.startswith("nothing was written: no face was found in 1 of 1 picture:")
    assert not (tmp_path / "e").exists()


def test_a_picture_may_be_called_what_anothers_second_face_is(photos: Path, tmp_path: Path) -> None:
    folder = photos / "test" / "Sad"
    (folder / "two-FACE2.png").write_bytes((photos / "train" / "happy" / "one.png").read_bytes())
    done = crop_pictures([photos / "test"], tmp_path / "faces", make_detector("haar"), people=0)
    with (tmp_path / "faces" / "crops.csv").open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert done.faces == len({path.lower() for path in paths}) == 3
    assert all((tmp_path / "faces" / path).is_file() for path in paths)

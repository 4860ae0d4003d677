from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.analysis.media.inputs import Input, describe_skipped, list_inputs
from mien.analysis.output.annotate import GRAY, draw_faces
from mien.analysis.output.writers import annotated_suffix, make_records, parse_formats, record_columns, record_writer
from mien.core.errors import MediaError, UsageError
from mien.core.types import Face, FrameResult

LABELS = ("sad", "happy")


def face(label: str = "happy", box: tuple = (10.0, 20.0, 50.0, 60.0)) -> Face:
    probabilities = np.array([0.25, 0.75] if label == "happy" else [0.75, 0.25], np.float32)
    return Face(box, 0.9, probabilities, LABELS)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folders_are_searched_recursively_in_order(tmp_path: Path) -> None:
    inside = [tmp_path / name for name in ("b.mp4", "a/c.JPG", "a/d.webp")]
    touch(*inside, tmp_path / "notes.txt", tmp_path / ".hidden" / "x.jpg", tmp_path / ".y.png",
          tmp_path / "b.annotated.mp4", tmp_path / "out" / "old.jpg")  # fmt: skip
    found = list_inputs([tmp_path], tmp_path / "out")
    assert [(item.path.name, item.stem.as_posix(), item.is_video) for item in found] == [
        ("c.JPG", "a/c", False), ("d.webp", "a/d", False), ("b.mp4", "b", True)]  # fmt: skip


def test_a_file_and_a_link_to_it_are_one_input_by_the_files_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "photo.jpg")
    (tmp_path / "a-link.jpg").symlink_to("photo.jpg")
    assert [item.path.name for item in list_inputs([tmp_path])] == ["photo.jpg"]
    assert [item.path.name for item in list_inputs([tmp_path / "a-link.jpg"])] == ["a-link.jpg"]


def test_what_mien_made_of_a_folder_is_not_an_input_the_next_time(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("clip.mp4", "clip.annotated.mp4", "clip.timeline.png", "clip.moments.png",
            "clip.moments/01-happy.jpg", "clip.expressions.png", "clip.transitions.png", "a-b.compared.png")))  # fmt: skip
    assert [item.path.name for item in list_inputs([tmp_path], tmp_path)] == ["clip.mp4"]


def test_the_same_name_twice_gets_two_outputs(tmp_path: Path) -> None:
    touch(
        tmp_path / "x.jpg", tmp_path / "x.png", tmp_path / "y" / "x.jpg", tmp_path / "z" / "X.jpg", tmp_path / "all.jpg"
    )
    arguments = [tmp_path / name for name in ("x.jpg", "x.png", "y/x.jpg", "z/X.jpg", "all.jpg")]
    stems = [item.stem.as_posix() for item in list_inputs(arguments)]
    assert stems == ["x", "x.png", "x.jpg", "X.jpg-2", "all.jpg"]  # "all" is the table over several inputs
    assert list_inputs([tmp_path / "all.jpg"])[0].stem == Path("all")


def test_arguments_that_mean_nothing_are_errors_in_their_place(tmp_path: Path) -> None:
    touch(tmp_path / "x.jpg")
    (tmp_path / "empty").mkdir()
    absent, good, empty = list_inputs([tmp_path / "absent.jpg", tmp_path / "x.jpg", tmp_path / "empty"])
    assert isinstance(absent, MediaError)
    assert isinstance(good, Input)
    assert "is a folder without pictures or videos" in str(empty)


def test_records_have_the_columns_of_the_contract() -> None:
    expected = ["source", "frame", "time_s", "player_time_s", "duration_s", "face", "track", "x1", "y1", "x2", "y2", "score", "label", "confidence",
                "p_sad", "p_happy", "unsure", "not_a_face", "valence", "model", "detector",
                "s_label", "s_sad", "s_happy"]  # fmt: skip
    assert list(record_columns(LABELS)) == expected
    (row,) = make_records(FrameResult("a.mp4", 7, 0.28, (100, 80), (face(),)), "base", "haar")
    assert list(row) == expected
    assert row["p_happy"] == row["confidence"] == 0.75
    assert [row[name] for name in ("track", "unsure", "not_a_face", "s_label", "s_happy")] == [None] * 5


def test_every_format_holds_the_same_rows(tmp_path: Path) -> None:
    import pyarrow.parquet

    rows = make_records(FrameResult('ä, "b".mp4', 7, 0.28, (100, 80), (face(), face("sad"))), "base", "haar")
    with record_writer(tmp_path / "clip", ("jsonl", "csv", "parquet"), LABELS) as records:
        records.write(rows)
        records.write([])
    assert [json.loads(line) for line in (tmp_path / "clip.records.jsonl").read_text().splitlines()] == rows
    table = pyarrow.parquet.read_table(tmp_path / "clip.records.parquet")
    assert table.to_pylist() == rows
    assert table.schema.metadata[b"mien.records"] == b"3"
    with (tmp_path / "clip.records.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


def test_no_rows_still_give_whole_files(tmp_path: Path) -> None:
    import pyarrow.parquet

    with record_writer(tmp_path / "clip", ("jsonl", "csv", "parquet"), LABELS):
        pass
    assert (tmp_path / "clip.records.jsonl").read_text() == ""
    assert (tmp_path / "clip.records.csv").read_text().startswith("source,frame,")
    assert pyarrow.parquet.read_table(tmp_path / "clip.records.parquet").column_names == list(record_columns(LABELS))


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), record_writer(tmp_path / "clip", ("jsonl", "csv", "parquet"), LABELS) as records:
        records.write(make_records(FrameResult("a", 0, 0.0, (1, 1), (face(),)), "base", "haar"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_formats_are_checked() -> None:
    assert parse_formats(" CSV,jsonl,csv") == ("csv", "jsonl")
    for wrong in ("xlsx", "", "csv,tsv"):
        with pytest.raises(UsageError, match="choose from jsonl, csv, parquet"):
            parse_formats(wrong)


@pytest.mark.parametrize(
    ("name", "ending"), [("a.JPG", ".jpg"), ("a.gif", ".png"), ("a.tiff", ".tiff"), ("a.jfif", ".png")]
)
def test_annotated_pictures_keep_their_kind_where_it_can_be_written(name: str, ending: str) -> None:
    assert annotated_suffix(Path(name)) == ending


def test_what_is_unsure_or_no_face_is_drawn_as_such() -> None:
    def drawn(**doubt) -> np.ndarray:
        picture = np.zeros((120, 160, 3), np.uint8)
        face = Face((40, 40, 100, 110), 0.9, np.array([0.6, 0.4], np.float32), ("happy", "sad"), **doubt)
        draw_faces(picture, [face])
        return picture

    def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
        return bool((picture == color).all(axis=2).any())

    sure, unsure, none = drawn(unsure_below=0.5), drawn(unsure_below=0.7), drawn(not_a_face=0.99, is_not_a_face=True)
    assert (sure == drawn()).all() and (unsure != sure).any()  # a question mark more
    assert has(sure, (0, 255, 0)) and not has(sure, GRAY)
    assert has(none, GRAY) and not has(none, (0, 255, 0))


def test_a_file_named_itself_and_by_its_folder_comes_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "b.jpg")
    found = list_inputs([tmp_path / "b.jpg", tmp_path, tmp_path / "." / "a.jpg"])
    assert [item.path.name for item in found] == ["b.jpg", "a.jpg"]


def test_an_address_that_is_none_costs_only_itself(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    good, bad, camera = list_inputs([tmp_path / "a.jpg", "http://[x/y", "CAMERA:1"])
    assert isinstance(good, Input)
    assert isinstance(bad, MediaError) and "'http://[x/y': is not an address" in str(bad)
    assert camera == Input("camera:1", Path("camera-1"))


def test_what_a_file_is_goes_by_its_content(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.mp4", "jpeg")
    Image.new("RGB", (8, 8)).save(tmp_path / "stream.mjpeg", "jpeg")
    (tmp_path / "film.jpg").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0mp42isom" + bytes(100))
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (tmp_path / "broken.mp4").write_bytes(b"x")
    (tmp_path / "broken.jpg").write_bytes(b"x")
    found = {item.path.name: item.is_video for item in list_inputs([tmp_path])}
    assert found == {
        "photo.mp4": False, "stream.mjpeg": True, "film.jpg": True, "phone.jpg": False, "broken.mp4": True, "broken.jpg": False,
    }  # fmt: skip


def test_media_in_folders_that_are_not_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.dng", "b.DNG", "c.psd", "d.heic", "e.jpg", "f.jp2", "g.h264", "h.txt", "i.dv", "j.ppm", "k.mod"]
    touch(*(tmp_path / name for name in names))
    for installed, unread in ((True, {}), (False, {".heic": 1})):
        monkeypatch.setattr("mien.analysis.media.inputs.is_heif_installed", lambda installed=installed: installed)
        left_out: Counter[str] = Counter()
        found = [item.path.name for item in list_inputs([tmp_path], skipped=left_out)]
        assert left_out == {".dng": 2, ".psd": 1} | unread
        assert found == [*["d.heic"] * installed, "e.jpg", "f.jp2", "g.h264", "i.dv", "j.ppm", "k.mod"]


def test_what_was_left_out_is_said_with_the_line_that_would_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "3 files left out: 2 .heic (pip install 'mien[heic]'), 1 .dng"
    assert describe_skipped(Counter({".dng": 1, ".heic": 2})) == said
    touch(*(tmp_path / name for name in ("a.dng", "b.heic", "c.heic")))
    monkeypatch.setattr("mien.analysis.media.inputs.is_heif_installed", lambda: False)
    (error,) = list_inputs([tmp_path])
    assert str(error) == f"{tmp_path}: is a folder without pictures or videos that are read here; {said}"

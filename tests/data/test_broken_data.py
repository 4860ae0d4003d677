"""Broken rows, files and folders: named, skipped where that is asked for, refused where they could mislead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mien.core.errors import DataError, OutputError
from mien.core.labels import FER2013, FERPLUS_COLUMNS, FERPLUS_VOTES
from mien.core.types import concatenate_faces
from mien.data import load_faces
from mien.data.layouts.csv_layout import _parse_well_formed
from mien.data.readers import save_faces
from tests.conftest import patterns
from tests.data.files import both_splits, png, text_of, write_csv


def test_votes_of_another_order_are_refused(tmp_path: Path) -> None:
    faces = patterns(70)
    save_faces(faces, tmp_path / "fer.csv")
    votes = np.zeros((70, 10), int)
    votes[np.arange(70), [FERPLUS_VOTES.index(FER2013[label]) for label in np.roll(faces.labels, 1)]] = 10
    rows = [["Training", "", *row] for row in votes.tolist()]
    ferplus = write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows)
    with pytest.raises(DataError, match="agree with the labels of only 0% of the pictures"):
        load_faces(tmp_path / "fer.csv", ferplus=ferplus)
    save_faces(faces, tmp_path / "tree")
    with pytest.raises(DataError, match="cannot be joined with folders"):
        load_faces(tmp_path / "tree", ferplus=ferplus)
    write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], [["Training", "", *[999] * 10]])
    with pytest.raises(DataError, match=r"row 0 \(line 2\): does not hold ten vote counts"):
        load_faces(tmp_path / "fer.csv", ferplus=ferplus)


def test_folders_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot hold the class '1'"):
        save_faces(patterns(7, classes=("1", "2")), tmp_path / "tree")
    (tmp_path / "tree" / "1").mkdir(parents=True)
    (tmp_path / "tree" / "1" / "x.png").write_bytes(png(patterns(1).images[0]))
    with pytest.raises(DataError, match="has a class folder named '1', and numbers mean other expressions"):
        load_faces(tmp_path / "tree")


def test_names_keep_their_row_when_rows_are_skipped(tmp_path: Path) -> None:
    cells = [{"bytes": data, "path": "same"} for data in (b"bad", *map(png, patterns(2).images))]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1, 2]}), tmp_path / "x.parquet")
    assert load_faces(tmp_path / "x.parquet", skip_bad=True).names.tolist() == ["x.parquet#1", "x.parquet#2"]


@pytest.mark.parametrize(
    "said", [b"{", b"[]", b'{"info": null}', b'{"info": {"features": {"label": [1]}}}', b'{"info": {"features": {}}}']
)
def test_what_a_parquet_file_says_of_its_labels_may_be_of_another_kind(tmp_path: Path, said: bytes) -> None:
    cells = [{"bytes": png(image), "path": ""} for image in patterns(2).images]
    table = pyarrow.table({"image": cells, "label": [0, 3]}).replace_schema_metadata({"huggingface": said})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    faces = load_faces(tmp_path / "x.parquet")
    assert [faces.classes[label] for label in faces.labels] == ["angry", "happy"]


@pytest.mark.parametrize("votes", [[1, 300], [1, -1], ["1", "many"], [1.0, float("nan")]])
def test_votes_that_are_no_counts_are_told_by_their_row(tmp_path: Path, votes: list) -> None:
    cells = [{"bytes": png(image), "path": ""} for image in patterns(2).images]
    columns = {f"ferplus_{name}": [0, 0] for name in FERPLUS_COLUMNS} | {f"ferplus_{FERPLUS_COLUMNS[0]}": votes}
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 3], **columns}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet row .: has votes that are no counts of 0 to 255"):
        load_faces(tmp_path / "x.parquet")


GOOD = text_of(np.arange(48 * 48).reshape(48, 48) % 256)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["3", GOOD.rsplit(" ", 1)[0], "Training"], r"row 1 \(line 3\): has 2,303 pixels, not 48 x 48 = 2,304"),
        (["3", GOOD.replace("17 ", "256 ", 1), "Training"], r"row 1 \(line 3\): has the pixel '256'"),
        (["3", GOOD.replace("17 ", "-1 ", 1), "Training"], r"has the pixel '-1'"),
        (["3", GOOD.replace("17 ", "x ", 1), "Training"], r"has the pixel 'x'"),
        (["7", GOOD, "Training"], r"row 1 \(line 3\): has the unknown label '7' \(known: 0..6"),
        (["", GOOD, "Training"], r"has the unknown label ''"),
        (["bored", GOOD, "Training"], r"has the unknown label 'bored'"),
        (["3", GOOD[:4000]], r"row 1 \(line 3\): has 2 of 3 fields; the file may be cut off here"),
    ],
)
def test_broken_rows_name_the_row_and_can_be_skipped(tmp_path: Path, row: list[str], message: str) -> None:
    good = ["3", GOOD, "Training"]
    path = write_csv(tmp_path / "fer.csv", ["emotion", "pixels", "Usage"], [good, row, good])
    with pytest.raises(DataError, match=r"fer.csv row 1 .*" + message.split(": ")[-1] + ".*`skip_bad=True`"):
        load_faces(path)
    read = load_faces(path, skip_bad=True)
    assert (len(read), len(read.skipped), read.names.tolist()) == (2, 1, ["fer.csv#0", "fer.csv#2"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fer.csv", b"", "is empty"),
        ("fer.csv", b"\n\n", "has no column 'pixels'"),
        ("fer.csv", b"emotion,pixles,Usage\n", r"has no column 'pixels' \(found: emotion, pixles, Usage\)"),
        ("fer.csv", b"emotion,pixels,Usage\n", "holds no faces"),
        ("fer.csv", b"\x00\xff\xfe\x89PNG", "is not a CSV of text"),
        ("fer.parquet", b"", "is empty"),
        ("fer.parquet", b"PAR1 and then nothing", "is not a whole Parquet file"),
        ("fer.zip", b"PK", "is neither a CSV, a Parquet file nor a folder"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        load_faces(tmp_path / name)


def test_damage_within_a_parquet_file_is_told(tmp_path: Path) -> None:
    save_faces(patterns(50), tmp_path / "fer.parquet")
    content = bytearray((tmp_path / "fer.parquet").read_bytes())
    content[10:60] = bytes(50)
    (tmp_path / "fer.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"fer.parquet: is not a whole Parquet file"):
        load_faces(tmp_path / "fer.parquet")


def test_a_csv_cut_in_the_middle(tmp_path: Path) -> None:
    save_faces(patterns(10), tmp_path / "fer.csv")
    whole = (tmp_path / "fer.csv").read_bytes()
    (tmp_path / "fer.csv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"fer.csv row \d .*get the whole file again"):
        load_faces(tmp_path / "fer.csv")
    read = load_faces(tmp_path / "fer.csv", skip_bad=True)
    assert len(read) in (4, 5)
    assert len(read.skipped) == 1


def test_a_csv_cut_in_its_last_word_is_told_from_short_names_of_splits(tmp_path: Path) -> None:
    rows = [["3", GOOD, split] for split in ("Training", "Training", "T", "Training")]
    assert load_faces(write_csv(tmp_path / "a.csv", ["emotion", "pixels", "Usage"], rows)).splits == ("Training", "T")
    with pytest.raises(DataError, match=r"row 2 .*ends in 'Train', the beginning of a split's name"):
        load_faces(write_csv(tmp_path / "b.csv", ["emotion", "pixels", "Usage"], [*rows[:2], ["3", GOOD, "Train"]]))


def test_only_broken_rows_are_an_error_even_when_skipped(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer.csv", ["emotion", "pixels"], [["3", "1 2 3"]])
    with pytest.raises(DataError, match="1 broken rows and no good one"):
        load_faces(path, skip_bad=True)


def test_broken_pictures_in_folders_and_parquet_cells(tmp_path: Path) -> None:
    save_faces(patterns(7), tmp_path / "tree")
    (tmp_path / "tree" / "Training" / "sad" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad.png: is not a picture"):
        load_faces(tmp_path / "tree")
    assert len(load_faces(tmp_path / "tree", skip_bad=True).skipped) == 1
    pyarrow.parquet.write_table(
        pyarrow.table({"image": [{"bytes": b"x", "path": "a"}], "label": [1]}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=r"a.parquet row 0: is not a picture"):
        load_faces(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"face": [1], "label": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"has no column of pictures \(found: face, label\)"):
        load_faces(tmp_path / "b.parquet")


def test_layouts_that_cannot_hold_the_data_say_so(tmp_path: Path) -> None:
    foreign = patterns(4, classes=("sad", "awe"))
    with pytest.raises(DataError, match="cannot hold the classes awe"):
        save_faces(foreign, tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"ending '\.zip'"):
        save_faces(foreign, tmp_path / "x.zip")
    save_faces(foreign, tmp_path / "tree")
    with pytest.raises(OutputError, match="is not empty"):
        save_faces(foreign, tmp_path / "tree")


def test_rows_that_are_too_long_and_tables_without_names(tmp_path: Path) -> None:
    image = patterns(1).images[0]
    long = write_csv(tmp_path / "long.csv", ["emotion", "pixels"], [[3, text_of(image), "", ""]])
    with pytest.raises(DataError, match="has 4 fields, and the first line 2; correct the row"):
        load_faces(long)
    with pytest.raises(DataError, match="has no column 'pixels'") as error:
        load_faces(write_csv(tmp_path / "none.csv", [str(value) for value in image.ravel()], [[3]]))
    assert len(str(error.value)) < 300 and "and 2,296 more" in str(error.value)


def test_a_folder_and_what_lies_in_it_are_not_read_together(tmp_path: Path) -> None:
    save_faces(both_splits(), tmp_path / "FER")
    with pytest.raises(DataError, match="so that it would be read twice; name one of the two"):
        load_faces([tmp_path / "FER" / "Training", tmp_path / "FER"])


def test_folders_do_not_lose_splits_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot hold the split 'fold 2'"):
        save_faces(
            concatenate_faces([patterns(7, split="train"), patterns(7, seed=1, split="fold 2")]), tmp_path / "tree"
        )
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0 7 42 255", [0, 7, 42, 255]),
        ("100 99 10 9", [100, 99, 10, 9]),
        ("256 0 0 0", None),
        ("1000 0 0 0", None),
        ("1234 0 0 0", None),
        ("-1 0 0 0", None),
        ("1.5 0 0 0", None),
        ("1 2 3", None),
        ("1 2 3 4 5", None),
        ("1  2 3", None),
        (" 1 2 3", None),
        ("1 2 3 ", None),
        ("1\t2 3 4 5", None),
        ("1 2 3 \u0664", None),
        ("", None),
    ],
)
def test_pixels_read_all_at_once_are_those_read_word_by_word(text: str, values: list[int] | None) -> None:
    assert _parse_well_formed(text, 4) == (None if values is None else bytes(values))


def test_unusual_blanks_between_pixels_are_read_too(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer.csv", ["emotion", "pixels"], [["3", "  " + GOOD.replace(" ", "\t ", 9) + " "]])
    assert load_faces(path).images.reshape(-1).tolist() == [int(word) for word in GOOD.split()]


def test_all_numbers_of_a_byte_are_read_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.permutation(256)
        assert _parse_well_formed(" ".join(map(str, values)), 256) == bytes(values.tolist())


def test_a_broken_first_row_does_not_decide_how_labels_are_written(tmp_path: Path) -> None:
    rows = [["calm", GOOD, "extra"], ["jolly", GOOD], ["grim", GOOD], ["jolly", GOOD]]
    read = load_faces(write_csv(tmp_path / "own.csv", ["emotion", "pixels"], rows), skip_bad=True)
    assert (len(read), read.classes, len(read.skipped)) == (3, ("grim", "jolly"), 1)


def test_text_that_is_no_utf_8_in_a_parquet_file_is_named(tmp_path: Path) -> None:
    cells = [{"bytes": png(image), "path": "x.png"} for image in patterns(2).images]
    broken = pyarrow.array([b"happy", b"tr\xe4urig"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": broken}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: has text that is no UTF-8"):
        load_faces(tmp_path / "x.parquet")


def test_labels_of_endless_digits_are_unknown_labels(tmp_path: Path) -> None:
    row = ["9" * 5_000, text_of(patterns(1).images[0])]
    path = write_csv(tmp_path / "x.csv", ["emotion", "pixels"], [row])
    with pytest.raises(DataError, match="has the unknown label"):
        load_faces(path)
    cells = [{"bytes": png(image), "path": "x.png"} for image in patterns(1).images]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": ["9" * 5_000]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has the unknown label"):
        load_faces(tmp_path / "x.parquet")


def test_a_parquet_file_that_needs_too_much_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [{"bytes": png(image), "path": "x.png"} for image in patterns(1).images]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0]}), tmp_path / "x.parquet")

    def out_of_memory(*_: object, **__: object) -> None:
        raise pyarrow.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", out_of_memory)
    with pytest.raises(MemoryError, match="needs more memory than there is"):
        load_faces(tmp_path / "x.parquet")

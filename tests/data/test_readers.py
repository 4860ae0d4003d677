from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mien.core.errors import DataError
from mien.core.labels import FER2013, FERPLUS_COLUMNS, FERPLUS_VOTES
from mien.core.types import FaceSet, concatenate
from mien.data import load_faces
from mien.data.csv_layout import _well_formed
from mien.data.readers import save_faces
from mien.data.rows import class_name, split_of_path
from tests.conftest import patterns, shared


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def text_of(image: np.ndarray) -> str:
    return " ".join(map(str, image.ravel()))


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def both_splits() -> FaceSet:
    return concatenate([patterns(21), patterns(14, seed=1, split="PublicTest")])


def assert_same(a: FaceSet, b: FaceSet) -> None:
    np.testing.assert_array_equal(a.images, b.images)
    assert [a.classes[label] for label in a.labels] == [b.classes[label] for label in b.labels]
    assert a.split.tolist() == b.split.tolist()


def test_kaggle_csv_round_trip(tmp_path: Path) -> None:
    save_faces(both_splits(), tmp_path / "fer.csv")
    read = load_faces(tmp_path / "fer.csv")
    assert_same(read, both_splits())
    assert read.names[:2].tolist() == ["fer.csv#0", "fer.csv#1"]
    assert (tmp_path / "fer.csv").read_text().startswith("emotion,pixels,Usage\n0,")


def test_icml_csv_with_blanks_in_its_header(tmp_path: Path) -> None:
    faces = both_splits()
    rows = [
        [label, split, text_of(image)]
        for label, split, image in zip(faces.labels, faces.split, faces.images, strict=True)
    ]
    write_csv(tmp_path / "icml.csv", ["emotion", " Usage", " pixels"], rows)
    assert_same(load_faces(tmp_path / "icml.csv"), faces)


def test_a_csv_of_label_and_pixels_with_names_for_numbers(tmp_path: Path) -> None:
    image = text_of(patterns(1).images[0])
    read = load_faces(write_csv(tmp_path / "r1.csv", ["label", "pixels"], [["Happiness", image], ["6", image]]))
    assert [FER2013[label] for label in read.labels] == ["happy", "neutral"]
    assert read.splits == ("",)


def test_a_csv_without_labels_is_unlabelled(tmp_path: Path) -> None:
    read = load_faces(write_csv(tmp_path / "test.csv", ["pixels"], [[text_of(patterns(1).images[0])]]))
    assert read.labels.tolist() == [-1]


def test_parquet_round_trip_keeps_everything(tmp_path: Path) -> None:
    votes = np.random.default_rng(0).integers(0, 11, (35, 10), dtype=np.uint8)
    faces = replace(both_splits(), votes=votes)
    labels = faces.labels.copy()
    labels[3] = -1
    faces = replace(faces, labels=labels)
    save_faces(faces, tmp_path / "fer.parquet")
    read = load_faces(tmp_path / "fer.parquet")
    np.testing.assert_array_equal(read.images, faces.images)
    np.testing.assert_array_equal(read.labels, faces.labels)
    np.testing.assert_array_equal(read.votes, votes)
    assert (read.names.tolist(), read.split.tolist(), read.classes) == (
        faces.names.tolist(),
        faces.split.tolist(),
        faces.classes,
    )


def test_folder_round_trip_and_foreign_class_names(tmp_path: Path) -> None:
    save_faces(both_splits(), tmp_path / "tree")
    read = load_faces(tmp_path / "tree")
    assert read.counts().tolist() == both_splits().counts().tolist()
    assert sorted(read.splits) == ["PublicTest", "Training"]
    (tmp_path / "tree" / "Training" / "angry").rename(tmp_path / "tree" / "Training" / "1_Anger")
    (tmp_path / "tree" / "Training" / "happy").rename(tmp_path / "tree" / "Training" / "Bored stiff")
    renamed = load_faces(tmp_path / "tree")
    assert renamed.classes == (*FER2013, "bored_stiff")
    assert renamed.counts().tolist() == [5, 5, 5, 2, 5, 5, 5, 3]


def test_a_folder_without_splits_and_one_wrapped_in_another(tmp_path: Path) -> None:
    faces = replace(patterns(14), split=np.full(14, ""))
    save_faces(faces, tmp_path / "outer" / "inner")
    read = load_faces(tmp_path / "outer")
    assert (len(read), read.splits, read.classes) == (14, ("",), FER2013)


def test_pictures_of_any_size_and_colour_become_grey_crops(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    Image.fromarray(np.full((100, 80, 3), (10, 200, 30), np.uint8)).save(tmp_path / "sad" / "a.jpg", quality=100)
    Image.fromarray(np.full((30, 30, 4), (9, 9, 9, 255), np.uint8)).save(tmp_path / "sad" / "b.png")
    read = load_faces(tmp_path)
    assert read.images.shape == (2, 48, 48)
    assert abs(int(read.images[0].mean()) - 124) <= 1  # .299 * 10 + .587 * 200 + .114 * 30
    assert load_faces(tmp_path, size=64).images.shape == (2, 64, 64)


def test_a_folder_of_pictures_alone_is_unlabelled(tmp_path: Path) -> None:
    Image.fromarray(patterns(1).images[0]).save(tmp_path / "x.png")
    assert load_faces(tmp_path).labels.tolist() == [-1]


def test_huggingface_shards_in_a_folder_use_class_names_of_their_own(tmp_path: Path) -> None:
    faces = patterns(6, classes=("sad", "happy"))
    for split, rows in (("train", [0, 1, 2, 3]), ("test", [4, 5])):
        part = faces.take(rows)
        save_faces(
            replace(part, split=np.full(len(part), split)), tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        )
    read = load_faces(tmp_path)
    assert read.classes == ("sad", "happy")
    assert sorted(read.splits) == ["test", "train"]


def test_votes_are_joined_split_by_split(tmp_path: Path) -> None:
    faces = both_splits()
    save_faces(faces, tmp_path / "fer.csv")
    votes = np.random.default_rng(0).integers(0, 5, (40, 10))
    votes[np.arange(35), [FERPLUS_VOTES.index(FER2013[label]) for label in faces.labels]] = 9  # the raters mostly agree
    usage = [*faces.split.tolist(), *["PrivateTest"] * 5]
    rows = [[split, "fer.png", *row] for split, row in zip(usage, votes.tolist(), strict=True)]
    ferplus = write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows)
    np.testing.assert_array_equal(load_faces(tmp_path / "fer.csv", ferplus=ferplus).votes, votes[:35])
    write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows[1:])
    with pytest.raises(DataError, match="20 rows of votes for 21 pictures of split 'train'"):
        load_faces(tmp_path / "fer.csv", ferplus=ferplus)


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


def test_splits_are_told_by_files_and_folders_where_rows_do_not(tmp_path: Path) -> None:
    bare = [replace(patterns(7, seed=seed), split=np.full(7, "")) for seed in (1, 2)]
    for faces, name in zip(bare, ("train", "test"), strict=True):
        rows = [[label, text_of(image)] for label, image in zip(faces.labels, faces.images, strict=True)]
        write_csv(tmp_path / f"{name}.csv", ["emotion", "pixels"], rows)
        save_faces(faces, tmp_path / "FER" / name)
        (tmp_path / "hub" / "default" / name).mkdir(parents=True)
        table = pyarrow.table(
            {"image": [{"bytes": png(image), "path": None} for image in faces.images], "label": faces.labels}
        )
        pyarrow.parquet.write_table(table, tmp_path / "hub" / "default" / name / "0000.parquet")
    for paths in (["train.csv", "test.csv"], ["FER/train", "FER/test"], ["FER"], ["hub"]):
        read = load_faces([tmp_path / path for path in paths])
        assert sorted(read.splits) == ["test", "train"], paths
        assert (len(read), len(read.in_split("train"))) == (14, 7)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.csv", "train"), ("fer2013-publictest.parquet", "PublicTest"), ("val-00000-of-00001.parquet", "val"),
     ("fer2013.csv", ""), ("train_test.csv", ""), ("FER2013Test", "FER2013Test".lower()), ("contest.csv", "")],
)  # fmt: skip
def test_what_a_name_says_of_a_split(name: str, split: str) -> None:
    assert split_of_path(Path("somewhere") / name) == split


def test_lists_beside_folders_of_pictures_do_not_count(tmp_path: Path) -> None:
    save_faces(patterns(7), tmp_path / "tree")
    (tmp_path / "tree" / "labels.csv").write_text("image,label\nTraining/angry/a.png,angry\n")
    assert len(load_faces(tmp_path / "tree")) == 7


def test_folders_of_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot hold the class '1'"):
        save_faces(patterns(7, classes=("1", "2")), tmp_path / "tree")
    (tmp_path / "tree" / "1").mkdir(parents=True)
    (tmp_path / "tree" / "1" / "x.png").write_bytes(png(patterns(1).images[0]))
    with pytest.raises(DataError, match="has a class folder named '1', and numbers mean other expressions"):
        load_faces(tmp_path / "tree")


def test_labels_as_texts_and_as_floats(tmp_path: Path) -> None:
    images = [{"bytes": png(image), "path": None} for image in patterns(3).images]
    for labels, expected in ((["6", "3", "0"], ["neutral", "happy", "angry"]), ([3.0, None, 4.0], ["happy", None, "sad"]),
                             (["Fear", "joy", "awe"], ["fear", "happy", "awe"])):  # fmt: skip
        pyarrow.parquet.write_table(pyarrow.table({"Image": images, "Emotion": labels}), tmp_path / "x.parquet")
        read = load_faces(tmp_path / "x.parquet")
        assert [read.classes[label] if label >= 0 else None for label in read.labels] == expected


def test_names_keep_their_row_when_rows_are_skipped(tmp_path: Path) -> None:
    cells = [{"bytes": data, "path": "same"} for data in (b"bad", *map(png, patterns(2).images))]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1, 2]}), tmp_path / "x.parquet")
    assert load_faces(tmp_path / "x.parquet", skip_bad=True).names.tolist() == ["x.parquet#1", "x.parquet#2"]


def test_written_folders_lose_no_face_and_stay_where_they_are(tmp_path: Path) -> None:
    faces = replace(
        patterns(4, classes=("sad", "../../evil")), names=np.array(["a/x.png", "a/y.png", "a/x.jpg", "../y.png"])
    )
    save_faces(faces, tmp_path / "deep" / "tree")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert len(written) == 4
    assert all(path.startswith("deep/tree/Training/") for path in written)


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
    with pytest.raises(DataError, match=r"fer.csv row 1 .*" + message.split(": ")[-1] + ".*--skip-bad"):
        load_faces(path)
    read = load_faces(path, skip_bad=True)
    assert (len(read), len(read.skipped), read.names.tolist()) == (2, 1, ["fer.csv#0", "fer.csv#2"])


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
    assert _well_formed(text, 4) == (None if values is None else bytes(values))


def test_all_numbers_of_a_byte_are_read_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.permutation(256)
        assert _well_formed(" ".join(map(str, values)), 256) == bytes(values.tolist())


def test_unusual_blanks_between_pixels_are_read_too(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer.csv", ["emotion", "pixels"], [["3", "  " + GOOD.replace(" ", "\t ", 9) + " "]])
    assert load_faces(path).images.reshape(-1).tolist() == [int(word) for word in GOOD.split()]


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


def test_several_files_are_one_set_and_names_stay_unique(tmp_path: Path) -> None:
    save_faces(patterns(7), tmp_path / "a.csv")
    (tmp_path / "b").mkdir()
    save_faces(patterns(7, seed=5), tmp_path / "b" / "a.csv")
    with pytest.raises(DataError, match="named twice"):
        load_faces([tmp_path / "a.csv", tmp_path / "a.csv"])
    assert load_faces([tmp_path / "a.csv", tmp_path / "b" / "a.csv"]).names[[0, 7]].tolist() == [
        "a.csv/a.csv#0",
        "b/a.csv/a.csv#0",
    ]
    save_faces(patterns(7, seed=5), tmp_path / "c.parquet")
    save_faces(patterns(7, seed=6), tmp_path / "d.parquet")
    joined = load_faces([tmp_path / "c.parquet", tmp_path / "d.parquet"])
    assert (len(joined), joined.names[7]) == (14, "d.parquet/Training/00000.png")


def test_layouts_that_cannot_hold_the_data_say_so(tmp_path: Path) -> None:
    foreign = patterns(4, classes=("sad", "awe"))
    with pytest.raises(DataError, match="cannot hold the classes awe"):
        save_faces(foreign, tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"ending '\.zip'"):
        save_faces(foreign, tmp_path / "x.zip")
    save_faces(foreign, tmp_path / "tree")
    with pytest.raises(DataError, match="is not empty"):
        save_faces(foreign, tmp_path / "tree")


def test_the_published_counts_of_fer2013() -> None:
    read = load_faces(shared("data/fer2013-publictest.parquet"))
    assert read.counts().tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert read.splits == ("PublicTest",)
    assert read.votes is not None
    assert len(np.unique(read.names)) == 3589


def test_unlabelled_pictures_of_fer2013() -> None:
    read = load_faces(shared("data/fer2013-privatetest-unlabelled.parquet"))
    assert (len(read), read.splits, bool(read.labelled.any())) == (3589, ("PrivateTest",), False)


def tree_of_links(tmp_path: Path) -> Path:
    """train/happy/a.png, a linked test folder elsewhere, and a link that leads back up."""
    for place in ("FER/train/happy", "elsewhere/sad"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.png").write_bytes(png(patterns(1).images[0]))
    try:
        (tmp_path / "FER" / "test").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "FER" / "train" / "round").symlink_to(tmp_path / "FER", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right that this account does not have")
    return tmp_path / "FER"


def test_linked_folders_are_read_and_circles_end(tmp_path: Path) -> None:
    faces = load_faces(tree_of_links(tmp_path))
    assert sorted(zip(faces.names.tolist(), faces.split.tolist(), strict=True)) == [
        ("test/sad/a.png", "test"),
        ("train/happy/a.png", "train"),
    ]


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="file names are Unicode there")
def test_names_that_are_no_text_are_written_as_text(tmp_path: Path) -> None:
    (tmp_path / "old" / "happy").mkdir(parents=True)
    (tmp_path / "old" / "happy" / os.fsdecode(b"caf\xe9.png")).write_bytes(png(patterns(1).images[0]))
    faces = load_faces(tmp_path / "old")
    assert faces.names.tolist() == [r"happy/caf\xe9.png"]
    faces.names[0].encode("utf-8")


def test_a_folder_and_what_lies_in_it_are_not_read_together(tmp_path: Path) -> None:
    save_faces(both_splits(), tmp_path / "FER")
    with pytest.raises(DataError, match="so that it would be read twice; name one of the two"):
        load_faces([tmp_path / "FER" / "Training", tmp_path / "FER"])


def test_folders_do_not_lose_splits_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot hold the split 'fold 2'"):
        save_faces(concatenate([patterns(7, split="train"), patterns(7, seed=1, split="fold 2")]), tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_working_folder_says_nothing_of_a_split(tmp_path: Path) -> None:
    faces = patterns(7)
    rows = [[label, text_of(image)] for label, image in zip(faces.labels, faces.images, strict=True)]
    (tmp_path / "dev").mkdir()
    assert load_faces(write_csv(tmp_path / "dev" / "faces.csv", ["emotion", "pixels"], rows)).splits == ("",)
    pictures = [[*row, ""] for row in rows]  # a column of splits that says nothing
    assert load_faces(write_csv(tmp_path / "train.csv", ["emotion", "pixels", "Usage"], pictures)).splits == ("train",)


def test_rows_that_are_too_long_and_tables_without_names(tmp_path: Path) -> None:
    image = patterns(1).images[0]
    long = write_csv(tmp_path / "long.csv", ["emotion", "pixels"], [[3, text_of(image), "", ""]])
    with pytest.raises(DataError, match="has 4 fields, and the first line 2; mend the row"):
        load_faces(long)
    with pytest.raises(DataError, match="has no column 'pixels'") as error:
        load_faces(write_csv(tmp_path / "none.csv", [str(value) for value in image.ravel()], [[3]]))
    assert len(str(error.value)) < 300 and "and 2,296 more" in str(error.value)


@pytest.mark.parametrize("kind", ["string", "string_view", "dictionary"])
def test_texts_of_every_kind_name_classes(kind: str, tmp_path: Path) -> None:
    texts = pyarrow.array(["contempt", "happy", ""])
    column = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(pyarrow, kind)())
    images = [{"bytes": png(image), "path": None} for image in patterns(3).images]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": column}), tmp_path / "x.parquet")
    read = load_faces(tmp_path / "x.parquet")
    assert [read.classes[label] if label >= 0 else None for label in read.labels] == ["contempt", "happy", None]


def test_a_raised_figure_is_no_number() -> None:
    assert class_name("²", FER2013) is None


def test_names_of_ones_own_in_a_csv_are_classes(tmp_path: Path) -> None:
    faces = patterns(4)
    names = ["joy", "gloomy", "Wow", "gloomy"]
    rows = [[name, text_of(image)] for name, image in zip(names, faces.images, strict=True)]
    read = load_faces(write_csv(tmp_path / "own.csv", ["emotion", "pixels"], rows))
    assert [read.classes[label] for label in read.labels] == ["happy", "gloomy", "wow", "gloomy"]

"""Every layout of faces is read, and written so that it is read again."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from mien.core.errors import DataError
from mien.core.labels import FER2013, FERPLUS_COLUMNS, FERPLUS_VOTES
from mien.data import load_faces
from mien.data.layouts.rows import infer_split, parse_label
from mien.data.readers import save_faces
from tests.conftest import patterns, shared
from tests.data.files import assert_same, both_splits, png, text_of, write_csv


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


def test_a_csv_without_labels_is_unlabeled(tmp_path: Path) -> None:
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
    assert read.class_counts().tolist() == both_splits().class_counts().tolist()
    assert sorted(read.splits) == ["PublicTest", "Training"]
    (tmp_path / "tree" / "Training" / "angry").rename(tmp_path / "tree" / "Training" / "1_Anger")
    (tmp_path / "tree" / "Training" / "happy").rename(tmp_path / "tree" / "Training" / "Bored stiff")
    renamed = load_faces(tmp_path / "tree")
    assert renamed.classes == (*FER2013, "bored_stiff")
    assert renamed.class_counts().tolist() == [5, 5, 5, 2, 5, 5, 5, 3]


def test_a_folder_without_splits_and_one_wrapped_in_another(tmp_path: Path) -> None:
    faces = replace(patterns(14), split=np.full(14, ""))
    save_faces(faces, tmp_path / "outer" / "inner")
    read = load_faces(tmp_path / "outer")
    assert (len(read), read.splits, read.classes) == (14, ("",), FER2013)


def test_pictures_of_any_size_and_color_become_gray_crops(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    Image.fromarray(np.full((100, 80, 3), (10, 200, 30), np.uint8)).save(tmp_path / "sad" / "a.jpg", quality=100)
    Image.fromarray(np.full((30, 30, 4), (9, 9, 9, 255), np.uint8)).save(tmp_path / "sad" / "b.png")
    read = load_faces(tmp_path)
    assert read.images.shape == (2, 48, 48)
    assert abs(int(read.images[0].mean()) - 124) <= 1  # .299 * 10 + .587 * 200 + .114 * 30
    assert load_faces(tmp_path, size=64).images.shape == (2, 64, 64)


def test_a_folder_of_pictures_alone_is_unlabeled(tmp_path: Path) -> None:
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
    votes[np.arange(35), [FERPLUS_VOTES.index(FER2013[label]) for label in faces.labels]] = (
        9  # the annotators mostly agree
    )
    usage = [*faces.split.tolist(), *["PrivateTest"] * 5]
    rows = [[split, "fer.png", *row] for split, row in zip(usage, votes.tolist(), strict=True)]
    ferplus = write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows)
    np.testing.assert_array_equal(load_faces(tmp_path / "fer.csv", ferplus=ferplus).votes, votes[:35])
    write_csv(tmp_path / "plus.csv", ["Usage", "Image name", *FERPLUS_COLUMNS], rows[1:])
    with pytest.raises(DataError, match="20 rows of votes for 21 pictures of split 'train'"):
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
        assert (len(read), len(read.select_split("train"))) == (14, 7)


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.csv", "train"), ("fer2013-publictest.parquet", "PublicTest"), ("val-00000-of-00001.parquet", "val"),
     ("fer2013.csv", ""), ("train_test.csv", ""), ("FER2013Test", "FER2013Test".lower()), ("contest.csv", "")],
)  # fmt: skip
def test_what_a_name_says_of_a_split(name: str, split: str) -> None:
    assert infer_split(Path("somewhere") / name) == split


def test_lists_beside_folders_of_pictures_do_not_count(tmp_path: Path) -> None:
    save_faces(patterns(7), tmp_path / "tree")
    (tmp_path / "tree" / "labels.csv").write_text("image,label\nTraining/angry/a.png,angry\n")
    embeddings = ",".join(map(str, range(128)))  # as pandas writes them
    (tmp_path / "tree" / "embeddings.csv").write_text(f"file,{embeddings}\na.png,{embeddings}\n")
    assert len(load_faces(tmp_path / "tree")) == 7


def test_labels_as_texts_and_as_floats(tmp_path: Path) -> None:
    images = [{"bytes": png(image), "path": None} for image in patterns(3).images]
    for labels, expected in ((["6", "3", "0"], ["neutral", "happy", "angry"]), ([3.0, None, 4.0], ["happy", None, "sad"]),
                             (["Fear", "joy", "awe"], ["fear", "happy", "awe"])):  # fmt: skip
        pyarrow.parquet.write_table(pyarrow.table({"Image": images, "Emotion": labels}), tmp_path / "x.parquet")
        read = load_faces(tmp_path / "x.parquet")
        assert [read.classes[label] if label >= 0 else None for label in read.labels] == expected


def test_written_folders_lose_no_face_and_stay_where_they_are(tmp_path: Path) -> None:
    faces = replace(
        patterns(4, classes=("sad", "../../evil")), names=np.array(["a/x.png", "a/y.png", "a/x.jpg", "../y.png"])
    )
    save_faces(faces, tmp_path / "deep" / "tree")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert len(written) == 4
    assert all(path.startswith("deep/tree/Training/") for path in written)


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


def test_the_published_counts_of_fer2013() -> None:
    read = load_faces(shared("data/fer2013-publictest.parquet"))
    assert read.class_counts().tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert read.splits == ("PublicTest",)
    assert read.votes is not None
    assert len(np.unique(read.names)) == 3589


def test_unlabeled_pictures_of_fer2013() -> None:
    read = load_faces(shared("data/fer2013-privatetest-unlabelled.parquet"))
    assert (len(read), read.splits, bool(read.is_labeled.any())) == (3589, ("PrivateTest",), False)


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


def test_a_working_folder_says_nothing_of_a_split(tmp_path: Path) -> None:
    faces = patterns(7)
    rows = [[label, text_of(image)] for label, image in zip(faces.labels, faces.images, strict=True)]
    (tmp_path / "dev").mkdir()
    assert load_faces(write_csv(tmp_path / "dev" / "faces.csv", ["emotion", "pixels"], rows)).splits == ("",)
    pictures = [[*row, ""] for row in rows]  # a column of splits that says nothing
    assert load_faces(write_csv(tmp_path / "train.csv", ["emotion", "pixels", "Usage"], pictures)).splits == ("train",)


@pytest.mark.parametrize("kind", ["string", "string_view", "dictionary"])
def test_texts_of_every_kind_name_classes(kind: str, tmp_path: Path) -> None:
    texts = pyarrow.array(["contempt", "happy", ""])
    column = texts.dictionary_encode() if kind == "dictionary" else texts.cast(getattr(pyarrow, kind)())
    images = [{"bytes": png(image), "path": None} for image in patterns(3).images]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": column}), tmp_path / "x.parquet")
    read = load_faces(tmp_path / "x.parquet")
    assert [read.classes[label] if label >= 0 else None for label in read.labels] == ["contempt", "happy", None]


def test_a_raised_figure_is_no_number() -> None:
    assert parse_label("²", FER2013) is None


def test_names_of_ones_own_in_a_csv_are_classes(tmp_path: Path) -> None:
    faces = patterns(4)
    names = ["joy", "gloomy", "Wow", "gloomy"]
    rows = [[name, text_of(image)] for name, image in zip(names, faces.images, strict=True)]
    read = load_faces(write_csv(tmp_path / "own.csv", ["emotion", "pixels"], rows))
    assert [read.classes[label] for label in read.labels] == ["happy", "gloomy", "wow", "gloomy"]


def test_two_names_of_one_expression_are_one_class(tmp_path: Path) -> None:
    faces = patterns(8)
    table = pyarrow.table(
        {"image": [{"bytes": png(image), "path": None} for image in faces.images], "label": [0, 1, 2, 3] * 2}
    )
    features = {"label": {"names": ["neutral", "calm", "happy", "sad"], "_type": "ClassLabel"}}
    named = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(named, tmp_path / "hub.parquet")
    read = load_faces(tmp_path / "hub.parquet")
    counts = dict(zip(read.classes, read.class_counts().tolist(), strict=True))
    assert counts == {"neutral": 4, "happy": 2, "sad": 2}
    with pytest.raises(ValueError, match="classes must differ"):
        replace(faces, classes=("sad",) * 7)


def write_pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patterns(14).images[number]).save(folder / name)


def test_folders_of_persons_below_an_expression_are_no_classes(tmp_path: Path) -> None:
    write_pictures(
        tmp_path, "happy/person1/a.png", "happy/001/b.png", "sad/_old/c.png", "sad/d.png", "neutral/sad/e.png"
    )
    faces = load_faces(tmp_path)
    assert [faces.classes[label] for label in faces.labels] == ["happy", "happy", "sad", "sad", "sad"]


def test_one_expression_above_persons_is_no_wrapper_and_short_names_are_no_expressions(tmp_path: Path) -> None:
    write_pictures(tmp_path / "one", "happy/p1/a.png", "happy/p2/b.png")
    assert load_faces(tmp_path / "one").classes == ("happy",)
    write_pictures(tmp_path / "names", "happy/An/a.png", "sad/Su/b.png", "Di/c.png")
    faces = load_faces(tmp_path / "names")
    found = dict(zip(faces.names.tolist(), [faces.classes[label] for label in faces.labels], strict=True))
    assert found == {"happy/An/a.png": "happy", "sad/Su/b.png": "sad", "Di/c.png": "disgust"}


def test_tables_in_a_folder_may_end_in_any_case_and_hidden_ones_do_not_count(tmp_path: Path) -> None:
    for name in ("train.PARQUET", "test.pq", "Training.CSV"):
        folder = tmp_path / name.partition(".")[2]
        folder.mkdir()
        save_faces(patterns(14), folder / name.lower())
        (folder / name.lower()).rename(folder / name)
        (folder / f".{name}").write_bytes(b"half of it")
        assert len(load_faces(folder)) == 14


def test_names_that_differ_in_case_alone_are_two_files(tmp_path: Path) -> None:
    faces = replace(patterns(14), names=np.array([f"{'IMG' if n % 2 else 'img'}_{n // 2}.jpg" for n in range(14)]))
    faces = replace(faces, labels=np.zeros(14, np.int64))
    save_faces(faces, tmp_path / "out")
    written = [str(path.relative_to(tmp_path)).lower() for path in (tmp_path / "out").rglob("*.png")]
    assert len(set(written)) == 14


def test_a_folder_beside_splits_is_a_split_by_its_own_name(tmp_path: Path) -> None:
    write_pictures(
        tmp_path, "Training/Hund/a.png", "Test/Hund/b.png", "Validierung/Hund/c.png", "Validierung/Katze/d.png"
    )
    faces = load_faces(tmp_path)
    assert dict(zip(faces.names, faces.split, strict=True)) == {
        "Training/Hund/a.png": "Training", "Test/Hund/b.png": "Test",
        "Validierung/Hund/c.png": "Validierung", "Validierung/Katze/d.png": "Validierung",
    }  # fmt: skip
    assert faces.classes == ("hund", "katze")


def test_letters_with_accents_are_one_letter_however_a_system_writes_them(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write_pictures(tmp_path / form, f"{unicodedata.normalize(form, 'wütend')}/a.png", "traurig/b.png")
    assert load_faces(tmp_path / "NFC").classes == load_faces(tmp_path / "NFD").classes == ("traurig", "wütend")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheets_own_separator_is_read(tmp_path: Path, separator: str) -> None:
    faces = both_splits()
    rows = [f"{label}{separator}{text_of(image)}" for label, image in zip(faces.labels, faces.images, strict=True)]
    (tmp_path / "fer.csv").write_text("\n".join([f"emotion{separator}pixels", *rows]))
    np.testing.assert_array_equal(load_faces(tmp_path / "fer.csv").images, faces.images)


def test_pixels_written_as_a_list_are_read(tmp_path: Path) -> None:
    faces = both_splits()
    rows = [[label, str(image.ravel().tolist())] for label, image in zip(faces.labels, faces.images, strict=True)]
    write_csv(tmp_path / "fer.csv", ["emotion", "pixels"], rows)
    np.testing.assert_array_equal(load_faces(tmp_path / "fer.csv").images, faces.images)


@pytest.mark.parametrize(
    ("header", "row_of"),
    [
        (["emotion", "pixels", "Usage"], lambda text: ["3", text.replace(" ", ","), "Training"]),
        (["emotion", "pixels", "Usage"], lambda text: ["3", text.replace(" ", ", "), "Training"]),
        (["emotion", "pixels", "Usage"], lambda text: ["3", *text.split(), "Training"]),  # commas without quotes
        (["emotion", "pixels"], lambda text: ["3", *text.split()]),
        (["emotion", "pixels", "Usage"], lambda text: ["3", text.replace(" ", ".0 ") + ".0", "Training"]),
        (["emotion", "pixels"], lambda text: ["3", "[" + text.replace(" ", ".0, ") + ".0]"]),
        (["label", *(f"pixel{n}" for n in range(2304))], lambda text: ["3", *text.split()]),
        (["label", *(f"pixel_{n}" for n in range(1, 2305))], lambda text: ["3.0", *(f"{v}.0" for v in text.split())]),
        ([*(str(n) for n in range(2304)), "emotion"], lambda text: [*text.split(), "happy"]),
        ([*(f"Pixel {n}" for n in reversed(range(2304))), "usage"], lambda text: [*reversed(text.split()), "Training"]),
    ],
)
def test_pixels_in_other_writings_and_in_a_column_each_are_read(
    tmp_path: Path, header: list[str], row_of: Callable[[str], list[str]]
) -> None:
    faces = patterns(3)
    path = write_csv(tmp_path / "x.csv", header, [row_of(text_of(image)) for image in faces.images])
    read = load_faces(path)
    np.testing.assert_array_equal(read.images, faces.images)
    assert set(read.labels) == ({-1} if header[-1] == "usage" else {3})
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "x.csv")
    assert len(load_faces(tmp_path / "folder")) == 3


def test_numbers_that_are_no_whole_pixels_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["emotion", "pixels"], [["3", " ".join(["70.5"] * 2304)]])
    with pytest.raises(DataError, match=r"has the pixel '70.5', which is not a whole number in 0\.\.255"):
        load_faces(path)

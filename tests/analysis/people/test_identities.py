"""Corrected identities: merged, split and named people, and all that follows from the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mien.analysis.people.identities import Assignment, Identities, identities_path, read_identities
from mien.analysis.people.records import read_clip, read_records
from mien.core.errors import DataError
from tests.analysis.made_records import write_clip_records

#: A person who gets another number after a second out of sight, and one who is seen all the time.
SHOWN = {0: ["happy"] * 50, 1: ["neutral"] * 150, 2: [None] * 75 + ["happy"] * 25 + ["angry"] * 50}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_clip_records(tmp_path / "clip", SHOWN)


def write_table(path: Path, text: str) -> None:
    identities_path(path).write_text(text, encoding="utf-8")


def test_merged_tracks_are_one_person_everywhere(path: Path) -> None:
    write_table(path, "track,person,name\n0,1,Anna\n2,1,\n")
    clip, joined = read_clip(path), {0: [*SHOWN[0], *[None] * 25, *SHOWN[2][75:]], 1: SHOWN[1]}
    expected = read_clip(write_clip_records(path.with_name("joined"), joined))
    assert clip.segments() == expected.segments()
    found, other = clip.people(), expected.people()
    box = (0.0, 0.0, 1.0, 1.0)
    assert [replace(peak, box_xyxy=box) for peak in found.peaks()] == [
        replace(peak, box_xyxy=box) for peak in other.peaks()
    ]
    (first, second), (one, two) = ([person.to_json() for person in each.people] for each in (found, other))
    assert (second, first) == (two | {"name": "Anna"}, one) or (first, second) == (one, two | {"name": "Anna"})
    assert found.timeline.bins.keys() == {0, 1}
    assert found.names == {1: "person 2", 0: "Anna"}


def test_a_part_of_a_track_is_another_person(path: Path) -> None:
    write_table(path, "track,person,name,from_s,to_s\n1,4,Ben,2.0,4\n")
    clip = read_clip(path)
    assert [(one.track, one.start_s, one.end_s) for one in clip.segments() if one.label == "neutral"] == [
        (1, 0.0, 2.0), (3, 2.0, 4.0), (1, 4.0, 6.0)
    ]  # fmt: skip
    assert clip.people().names[3] == "Ben"


def test_records_themselves_stay_as_they_are(path: Path) -> None:
    before = path.read_bytes()
    write_table(path, "track,person\n0,3\n2,3\n")
    assert set(read_clip(path).track.tolist()) == {1, 2}
    assert set(read_clip(path, is_corrected=False).track.tolist()) == {0, 1, 2}
    assert path.read_bytes() == before


def test_a_table_beside_records_of_several_inputs_or_of_pictures_is_not_theirs(path: Path) -> None:
    table = path.read_text().splitlines()
    both = path.with_name("all.records.csv")
    both.write_text("\n".join([*table, *(line.replace("clip.mp4", "b.mp4") for line in table[1:])]))
    write_table(both, "track,person\n0,3\n2,3\n")
    assert [set(clip.track.tolist()) for clip in read_records(both)] == [{0, 1, 2}] * 2


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = (Assignment(0, 1, '=Anna, "A"'), Assignment(0, 4, "", 2.5), Assignment(7, 2, "Ben", -float("inf"), 3.25))
    table = Identities(tmp_path / "clip.people.csv", rows)
    table.write()
    assert read_identities(table.path) == table


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n", "has no columns track and person"),
        ("track,person\n0,x\n", "row 2: "),
        ("track,person\n0,0\n", "row 2: a number is out of its range"),
        ("track,person,name,from_s,to_s\n0,1,,3,2\n", "row 2: a number is out of its range"),
        ("track,person\n9,1\n", "names track 9, which is not in clip.records.csv; remove the table if"),
        ("track,person\n0,2\n", "tracks 0 and 1 are both seen at 0.00 s and cannot be person 2"),
        ("track,person,name\n0,1,Anna\n2,1,Ben\n", "calls person 1 both 'Anna' and 'Ben'"),
        ("track,person,name\n0,1,Anna\n1,2,anna\n", "calls both person 1 and person 2 'anna'"),
        ("track,person,name\n0,1," + "x" * 81, "row 2: the name cannot be used"),
        ("", "is empty"),
    ],
)
def test_a_damaged_table_is_told(path: Path, text: str, problem: str) -> None:
    write_table(path, text)
    if text:
        with pytest.raises(DataError) as error:
            read_clip(path)
    else:
        with pytest.raises(DataError) as error:
            read_identities(identities_path(path))
    assert problem in str(error.value)
    assert error.value.name == str(identities_path(path))


def test_a_table_that_is_no_text_is_told(path: Path) -> None:
    identities_path(path).write_bytes(b"track,person\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="is not text that can be read"):
        read_clip(path)

"""Annotations of other programs, read: files that BORIS and pympi write, and tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from pympi import Elan

from mien.analysis.output.exports.events import write_events
from mien.analysis.people.annotations import Annotation, read_annotations
from mien.core.errors import DataError
from tests.analysis.made_records import LABELS, write_clip_records

#: As BORIS 7 and 8 export them.
AGGREGATED = """\
Observation id\tMedia file\tSubject\tBehavior\tBehavioral category\tBehavior type\tStart (s)\tStop (s)\tDuration (s)
coder A\tclip.mp4\tAnna\thappiness\t\tSTATE\t1.800\t8.125\t6.325
coder A\tclip.mp4\tNo focal subject\tlooks away\t\tSTATE\t2.000\t3.000\t1.000
coder B\tclip.mp4\tNo focal subject\tanger\t\tSTATE\t10.250\t23.350\t13.100
coder B\tclip.mp4\tNo focal subject\tanger\t\tPOINT\t32.825\t32.825\tNA
"""
TABULAR = """\
Observation id\tcoder A\t\t\t\t\t
\t\t\t\t\t\t
Media file(s)\t\t\t\t\t\t
Player #1\tclip.mp4\t\t\t\t\t
Time\tMedia file path\tFPS\tSubject\tBehavior\tComment\tStatus
3.300\tclip.mp4\t25.0\tAnna\thappy\t\tSTART
4.000\tclip.mp4\t25.0\tAnna\thappy\t\tPOINT
5.000\tclip.mp4\t25.0\tBen\thappy\t\tSTART
7.750\tclip.mp4\t25.0\tAnna\thappy\t\tSTOP
9.000\tclip.mp4\t25.0\tBen\thappy\t\tSTOP
"""


def read(path: Path, text: str) -> tuple[Annotation, ...]:
    path.write_text(text, encoding="utf-8")
    return read_annotations(path, LABELS).rows


def test_exports_of_boris_are_read(tmp_path: Path) -> None:
    assert read(tmp_path / "a.tsv", AGGREGATED) == (
        Annotation(1.8, 8.125, "happy", "Anna", "coder A"),
        Annotation(10.25, 23.35, "angry", "", "coder B"),
    )
    assert read_annotations(tmp_path / "a.tsv").ignored == {"looks away": 1}
    assert read(tmp_path / "a.csv", AGGREGATED.replace("\t", ",")) == read_annotations(tmp_path / "a.tsv").rows
    assert read(tmp_path / "b.tsv", TABULAR) == (
        Annotation(3.3, 7.75, "happy", "Anna"),
        Annotation(5.0, 9.0, "happy", "Ben"),
    )


def test_documents_of_elan_are_read(tmp_path: Path) -> None:
    document = Elan.Eaf(author="Carla")
    for name, rows in {"Anna": [(0, 1500, "joy"), (2000, 2500, "speaks")], "Ben happy": [(500, 900, "x")]}.items():
        document.add_tier(name, part=name.split()[0], ann="Carla")
        for row in rows:
            document.add_annotation(name, *row)
    document.to_file(str(tmp_path / "a.eaf"))
    found = read_annotations(tmp_path / "a.eaf", LABELS)
    assert found.rows == (
        Annotation(0, 1.5, "happy", "Anna", "Carla"),
        Annotation(0.5, 0.9, "happy", "Ben", "Carla"),
    )
    assert (found.ignored, found.annotators, found.people) == ({"speaks": 1}, ("Carla",), ("Anna", "Ben"))


def test_what_mien_writes_is_read_back(tmp_path: Path) -> None:
    path = write_clip_records(tmp_path / "clip", {0: ["happy"] * 30 + ["angry"] * 20, 1: ["neutral"] * 50})
    expected = [(0.0, 1.2, "happy", "person 1"), (0.0, 2.0, "neutral", "person 2"), (1.2, 2.0, "angry", "person 1")]
    for file in write_events(path, tmp_path, "eaf,boris"):
        assert [(one.start_s, one.end_s, one.label, one.person) for one in read_annotations(file).rows] == expected
    (table,) = write_events(path, tmp_path, "csv")
    assert [(one.start_s, one.end_s, one.label, one.person) for one in read_annotations(table).rows] == [
        (*row, person[-1]) for *row, person in expected
    ]


def test_tables_have_times_in_seconds_or_minutes(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "start;end;label;annotator\n0:01,5;1:02;Happy;A\n1:00:00;3601;sad;A\n\n")
    assert rows == (Annotation(1.5, 62, "happy", "", "A"), Annotation(3600, 3601, "sad", "", "A"))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "start,end,label\n1,0.5,happy\n", "'happy' begins at 1 s and ends at 0.5 s"),
        ("a.csv", "start,end,label\nsoon,2,happy\n", "row 2: 'soon' is no time"),
        ("a.csv", "from,to,what\n1,2,happy\n", "has no columns start, end and label"),
        ("a.csv", "start,end,label\n1,2,bored\n", "holds no expression, only 'bored'"),
        ("a.csv", "start,end,label\n", "holds no annotation"),
        ("b.tsv", "Time\tBehavior\tStatus\n1\thappy\tSTART\n", "'happy' starts at 1 s and never stops"),
        ("a.eaf", "no xml", "is not XML"),
        ("a.eaf", "<html/>", "is not a document of ELAN"),
        ("a.boris", "{}", "is not a project of BORIS"),
        ("a.boris", '{"behaviors_conf": [], "observations": {}}', "is not a project of BORIS"),
        ("a.doc", "x", "is no file of annotations"),
        ("a.csv", "", "is empty"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, text: str, problem: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / name, text)
    assert problem in str(error.value)


def test_what_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"start,end,label\n\xff\xfe")
    with pytest.raises(DataError, match="is not text that can be read"):
        read_annotations(tmp_path / "a.csv")
    with pytest.raises(DataError, match="does not exist"):
        read_annotations(tmp_path / "none.eaf")

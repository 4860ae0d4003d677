"""Expressions that people coded: annotations of ELAN and BORIS, and tables."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mien.core.csv_cells import unescape_formula
from mien.core.errors import DataError
from mien.core.files import find_file_problem
from mien.core.labels import is_expression, normalize_label

#: Largest file that is read: hours of several coders have less than a hundredth of it.
MAX_BYTES = 100_000_000

#: Column of a table → its other names.
COLUMNS = {
    "start": ("start_s", "start (s)", "begin", "onset"),
    "end": ("end_s", "stop (s)", "stop", "offset"),
    "label": ("behavior", "expression", "code"),
    "person": ("subject", "participant"),
    "annotator": ("observation id", "coder", "rater", "observer"),
}

#: What BORIS writes where no subject was named.
NO_SUBJECT = "No focal subject"


@dataclass(frozen=True)
class Annotation:
    """An expression that a person is said to show from ``start_s`` to ``end_s``, as a player shows times.

    person     the name or number in the file; "" where it names none
    annotator  who coded it; "" where the file does not say
    """

    start_s: float
    end_s: float
    label: str
    person: str = ""
    annotator: str = ""


@dataclass(frozen=True)
class Annotations:
    """What a file of annotations holds.

    path, rows  the file, and its annotations in order of time
    ignored     text of an annotation that is no expression → how often it occurs
    """

    path: Path
    rows: tuple[Annotation, ...]
    ignored: dict[str, int]

    @property
    def annotators(self) -> tuple[str, ...]:
        """The names of those who coded, in alphabetical order."""
        return tuple(sorted({row.annotator for row in self.rows}))

    @property
    def people(self) -> tuple[str, ...]:
        """The people that the annotations name, in alphabetical order; "" is not among them."""
        return tuple(sorted({row.person for row in self.rows} - {""}))


def read_annotations(path: str | Path, labels: Sequence[str] = ()) -> Annotations:
    """Read annotations of ELAN (.eaf), BORIS (.boris, or its exports as .csv or .tsv) or a table.

    labels: of the model; these and all known expressions are taken, by any of their names, the rest is counted. Raises DataError
    for a file that cannot be read, and where it holds no expression.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path, Callable[[str], bool]], Iterator[Annotation]]] = {
        ".eaf": _read_elan, ".boris": _read_boris, ".csv": _read_table, ".tsv": _read_table, ".txt": _read_table,
    }  # fmt: skip
    if problem := find_file_problem(path, "annotations"):
        raise DataError(path, *problem)
    if path.suffix.lower() not in readers:
        hint = (
            "name an .eaf file of ELAN, a .boris project, or a table (.csv, .tsv) with the columns start, end and label"
        )
        raise DataError(path, "is no file of annotations", hint)
    if path.stat().st_size > MAX_BYTES:
        raise DataError(path, f"has more than {MAX_BYTES:,} bytes", "export fewer tiers")

    def is_known(text: str) -> bool:
        return text in labels or normalize_label(text) in labels or is_expression(text)

    rows, ignored = [], Counter[str]()
    try:
        for row in readers[path.suffix.lower()](path, is_known):
            if row.end_s <= row.start_s:
                times = f"'{row.label}' begins at {row.start_s:g} s and ends at {row.end_s:g} s"
                raise DataError(path, times, "mend the times: each annotation ends after it begins")
            if is_known(row.label):
                name = row.label if row.label in labels else normalize_label(row.label)
                rows.append(Annotation(row.start_s, row.end_s, name, row.person, row.annotator))
            else:
                ignored[row.label[:60]] += 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, "is not text that can be read", "export it again as UTF-8") from error
    if not rows:
        examples = ", ".join(f"'{text}'" for text, _ in ignored.most_common(4))
        found = f"holds no expression, only {examples}" if ignored else "holds no annotation"
        raise DataError(path, found, f"name expressions as {', '.join(labels) or 'happy'}")
    return Annotations(path, tuple(sorted(rows, key=lambda row: (row.start_s, row.end_s))), dict(ignored.most_common()))


def _read_elan(path: Path, is_known: Callable[[str], bool]) -> Iterator[Annotation]:
    """Yield the annotations that are aligned with time. Where their text is no expression, a word of the tier's name may be one."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(path, f"is not XML ({error})", "save it in ELAN again") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(path, "is not a document of ELAN", "name an .eaf file")
    times = {
        slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE", "")) / 1000
        for slot in root.iter("TIME_SLOT")
        if slot.get("TIME_VALUE", "").isdigit()
    }
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID", "")
        words = [word for word in re.split(r"[^\w]+|_", name) if word]
        named = [word for word in words if is_known(word)] if "peaks" not in words else []
        person = tier.get("PARTICIPANT", "") or " ".join(re.findall(r"person \d+", name)[:1])
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            start_s, end_s = (times.get(one.get(f"TIME_SLOT_REF{number}")) for number in (1, 2))
            if start_s is None or end_s is None:  # a slot without a time: it lies somewhere between its neighbors
                continue
            text = (one.findtext("ANNOTATION_VALUE") or "").strip()
            label = text if is_known(text) or not named else named[-1]
            yield Annotation(start_s, end_s, label or name, person, tier.get("ANNOTATOR", ""))


def _read_boris(path: Path, _: Callable[[str], bool]) -> Iterator[Annotation]:
    """Yield the state events of all observations; the observation is the annotator."""
    try:
        project = json.loads(path.read_text(encoding="utf-8-sig"))
        states = {one["code"] for one in project["behaviors_conf"].values() if one["type"].startswith("State")}
        observations = {
            name: [(float(row[0]), str(row[1]), str(row[2])) for row in one["events"]]
            for name, one in project["observations"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(path, "is not a project of BORIS", "save it in BORIS again") from error
    for name, events in observations.items():
        changes = [(time_s, person, code) for time_s, person, code in events if code in states]
        yield from _pair_states(path, changes, name)


def _pair_states(path: Path, changes: list[tuple[float, str, str]], annotator: str) -> Iterator[Annotation]:
    """Yield what lies between each two events (time, person, code) of the same person and code."""
    starts: dict[tuple[str, str], float] = {}
    for time_s, person, code in sorted(changes, key=lambda row: row[0]):
        if (person, code) in starts:
            subject = "" if person == NO_SUBJECT else person
            yield Annotation(starts.pop((person, code)), time_s, code, subject, annotator)
        else:
            starts[person, code] = time_s
    if starts:
        (_, code), time_s = next(iter(starts.items()))
        raise DataError(path, f"'{code}' starts at {time_s:g} s and never stops", "close it in the coding program")


def _read_table(path: Path, _: Callable[[str], bool]) -> Iterator[Annotation]:
    """Yield the rows of a table, of an export of aggregated events, or pairs of START and STOP of a tabular export."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = file.read(65_536)
        file.seek(0)
        rows = list(csv.reader(file, delimiter=max("\t;,", key=head.count)))
    columns, first = _find_columns(path, rows)
    changes: dict[str, list[tuple[float, str, str]]] = {}
    for number, row in enumerate(rows[first:], first + 1):
        if not any(row):
            continue

        def cell(name: str, row: list[str] = row) -> str:
            index = columns.get(name)
            return unescape_formula(row[index].strip()) if index is not None and index < len(row) else ""

        if cell("kind") == "peak" or cell("type").upper() == "POINT":  # it lasts no time
            continue
        person = "" if cell("person") == NO_SUBJECT else cell("person")
        if "time" in columns:
            time_s = _parse_seconds(path, number, cell("time"))
            changes.setdefault(cell("annotator"), []).append((time_s, person, cell("label")))
        else:
            start_s, end_s = (_parse_seconds(path, number, cell(name)) for name in ("start", "end"))
            yield Annotation(start_s, end_s, cell("label"), person, cell("annotator"))
    for annotator, states in changes.items():
        yield from _pair_states(path, states, annotator)


def _find_columns(path: Path, rows: list[list[str]]) -> tuple[dict[str, int], int]:
    """Return (column → its place, number of the first row after the names); BORIS writes lines about the observation first."""
    for number, row in enumerate(rows[:200]):
        names = [cell.strip().lower() for cell in row]
        places = {
            name: next(names.index(one) for one in (name, *others) if one in names)
            for name, others in COLUMNS.items()
            if any(one in names for one in (name, *others))
        }
        if "label" in places and "time" in names and "start" not in places:
            places["time"] = names.index("time")
            status = next((one for one in ("behavior type", "status") if one in names), None)
        else:
            status = "behavior type" if "behavior type" in names else None
        if "label" in places and ("time" in places or {"start", "end"} <= places.keys()):
            extra: dict[str, Any] = {"type": status, "kind": "kind" if "kind" in names else None}
            return places | {key: names.index(name) for key, name in extra.items() if name}, number + 1
    raise DataError(
        path, "has no columns start, end and label", "name them in the first row: start,end,label,person,annotator"
    )


def _parse_seconds(path: Path, number: int, text: str) -> float:
    """Return seconds of ``"12.5"``, ``"0:12.5"`` or ``"1:00:12.5"``; a comma may stand for the point."""
    match = re.fullmatch(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:[.,]\d*)?)", text)
    if not match:
        raise DataError(path, f"row {number}: '{text[:20]}' is no time", "give seconds, or hours:minutes:seconds")
    high, low, seconds = match.groups()
    minutes = int(high or 0) if low is None else 60 * int(high or 0) + int(low)
    return 60 * minutes + float(seconds.replace(",", "."))

"""Corrected identities: a small table beside the records says which tracks are which person, and what people are called."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mien.analysis.people.summary import clip_name
from mien.core.csv_cells import CsvWriter, unescape_formula
from mien.core.errors import DataError, UsageError, escape_controls
from mien.core.files import find_file_problem, write_text

if TYPE_CHECKING:
    from mien.analysis.people.records import Records

#: Columns of the table; the last three may be absent.
COLUMNS = ("track", "person", "name", "from_s", "to_s")

#: Largest number of a person, and longest name.
MAX_PERSON, MAX_NAME = 1_000_000, 80


@dataclass(frozen=True)
class Assignment:
    """A track, or a part of it, and the person whom it shows.

    track          as in the records, from 0
    person         number of the person, from 1
    name           what the person is called; "" for nothing
    from_s, to_s   the part, as a player shows times, without its end
    """

    track: int
    person: int
    name: str = ""
    from_s: float = -math.inf
    to_s: float = math.inf


@dataclass(frozen=True)
class Identities:
    """The table: assignments, of which a later one counts where two are of the same time. Tracks without one keep their number.

    Raises DataError where a person has two names, or two people have the same.
    """

    path: Path
    rows: tuple[Assignment, ...]

    def __post_init__(self) -> None:
        named: dict[str, int] = {}
        for person, name in ((row.person, row.name) for row in self.rows if row.name):
            if self.names[person] != name:
                problem = f"calls person {person} both '{self.names[person]}' and '{name}'"
                raise DataError(self.path, problem, "give each person one name")
            if named.setdefault(name.casefold(), person) != person:
                problem = f"calls both person {named[name.casefold()]} and person {person} '{name}'"
                raise DataError(self.path, problem, "give them the same number, or other names")

    @property
    def names(self) -> dict[int, str]:
        """Person → name."""
        names: dict[int, str] = {}
        for row in self.rows:
            if row.name:
                names.setdefault(row.person, row.name)
        return names

    def apply(self, records: Records) -> Records:
        """Return the records with the person's number less one as track, and the names.

        Raises DataError for a track that is not in the records, and where one person would be seen twice in a frame.
        """
        known = set(records.track.tolist())
        track = records.track.copy()
        for row in self.rows:
            if row.track not in known:
                problem = f"names track {row.track}, which is not in {records.path.name}"
                raise DataError(self.path, problem, "remove the table if the video was analyzed again")
            time_s = records.player_time_s
            track[(records.track == row.track) & (time_s >= row.from_s) & (time_s < row.to_s)] = row.person - 1
        self._refuse_twice(records, track)
        return replace(records, track=track, names={person - 1: name for person, name in self.names.items()})

    def _refuse_twice(self, records: Records, track: np.ndarray) -> None:
        _, first, count = np.unique(np.stack([records.frame, track]), axis=1, return_index=True, return_counts=True)
        if (count > 1).any():
            row = int(first[count > 1].min())
            same = records.track[(records.frame == records.frame[row]) & (track == track[row])]
            problem = (
                f"tracks {same[0]} and {same[1]} are both seen at {records.player_time_s[row]:.2f} s and cannot be person {track[row] + 1}"
            )  # fmt: skip
            raise DataError(self.path, problem, "give one of them another number")

    def write(self) -> None:
        """Write the table."""
        text = io.StringIO()
        table = CsvWriter(text)
        table.writerow(COLUMNS)
        for row in self.rows:
            times = ("" if math.isinf(time_s) else round(time_s, 6) for time_s in (row.from_s, row.to_s))
            table.writerow([row.track, row.person, row.name, *times])
        write_text(self.path, text.getvalue())


def identities_path(records: str | Path) -> Path:
    """Return the path of the table: ``out/clip.records.csv`` → ``out/clip.people.csv``."""
    return Path(records).with_name(f"{clip_name(records)}.people.csv")


def read_identities(path: str | Path) -> Identities:
    """Read the table. Raises DataError for one that cannot be read."""
    path = Path(path)
    if problem := find_file_problem(path, "a table of people"):
        raise DataError(path, *problem)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"track", "person"} <= set(rows.fieldnames or ()):
                raise DataError(path, "has no columns track and person", f"the columns are {','.join(COLUMNS)}")
            return Identities(path, tuple(_parse_row(path, number, row) for number, row in enumerate(rows, 2)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, "is not text that can be read", "save it as CSV in UTF-8") from error


def _parse_row(path: Path, number: int, row: Mapping[str, str | None]) -> Assignment:
    texts = {name: unescape_formula((row.get(name) or "").strip()) for name in COLUMNS}
    try:
        track, person = int(texts["track"]), int(texts["person"])
        from_s = float(texts["from_s"] or -math.inf)
        to_s = float(texts["to_s"] or math.inf)
    except ValueError as error:
        problem = f"row {number}: {escape_controls(str(error))}"
        raise DataError(path, problem, "track, person, from_s and to_s are numbers") from error
    if not (0 <= track <= MAX_PERSON and 1 <= person <= MAX_PERSON and from_s < to_s):
        hint = "tracks begin at 0, people at 1, and from_s is before to_s"
        raise DataError(path, f"row {number}: a number is out of its range", hint)
    if len(texts["name"]) > MAX_NAME or escape_controls(texts["name"]) != texts["name"]:
        raise DataError(path, f"row {number}: the name cannot be used", f"at most {MAX_NAME} letters, in one line")
    return Assignment(track, person, texts["name"], from_s, to_s)


def correct_identities(records: Records) -> Records:
    """Return the records as the table beside them says; as they are, where there is none."""
    path = identities_path(records.path)
    return read_identities(path).apply(records) if path.is_file() and (records.track >= 0).all() else records


def is_regrouped(records: Records) -> bool:
    """Return whether the table beside the records gives a track, or a part of one, to another person; False without a table."""
    path = identities_path(records.path)
    return path.is_file() and any(row.person != row.track + 1 for row in read_identities(path).rows)


def list_assignments(records: Records, identities: Identities | None = None) -> Identities:
    """Return a table that names every track of uncorrected records, with what ``identities`` says of them."""
    rows = () if identities is None else identities.rows
    # A track of which the table names nothing, or a part only, is itself in the rest.
    tracks = [
        Assignment(track, track + 1) for track in np.unique(records.track).tolist() if not _is_covered(track, rows)
    ]
    order = sorted((*tracks, *rows), key=lambda row: row.track)  # stable: the rest comes before the parts
    return Identities(identities_path(records.path), tuple(order))


def _is_covered(track: int, rows: Sequence[Assignment]) -> bool:
    """Return whether the rows name a person for all times of a track."""
    end_s = -math.inf
    for row in sorted((row for row in rows if row.track == track), key=lambda row: row.from_s):
        if row.from_s > end_s:
            return False
        end_s = max(end_s, row.to_s)
    return end_s == math.inf


def merge_people(identities: Identities, people: Sequence[int], records: Records) -> Identities:
    """Return the table with these people as one, who has the first one's number and the first name that one of them has.

    records: uncorrected. Raises UsageError for a number that is nobody's, a single one, and people who are seen together.
    """
    _check_people(identities, people, "merge")
    if len(set(people)) < 2:
        raise UsageError(f"`merge={people[0]}`", "is one person", "name two or more, as in `merge=1,3`")
    corrected = identities.apply(records)
    seen = np.isin(corrected.track, [person - 1 for person in people])
    frames, first, count = np.unique(corrected.frame[seen], return_index=True, return_counts=True)
    if (count > 1).any():
        row = np.flatnonzero(seen)[first[count > 1][0]]
        both = sorted(corrected.track[seen & (corrected.frame == frames[count > 1][0])].tolist())
        raise UsageError(
            f"`merge={','.join(map(str, people))}`",
            f"persons {both[0] + 1} and {both[1] + 1} are both seen at {corrected.player_time_s[row]:.2f} s",
            "merge people who are never seen together",
        )
    name = next((identities.names[person] for person in people if person in identities.names), "")
    rows = [replace(row, person=people[0], name=name) if row.person in people else row for row in identities.rows]
    return Identities(identities.path, tuple(rows))


def split_person(identities: Identities, person: int, time_s: float, records: Records) -> tuple[Identities, int]:
    """Return the table with a new person from ``time_s`` on, and the number of that person.

    records: uncorrected. Raises UsageError where the person is not seen both before and after that time.
    """
    _check_people(identities, [person], "split")
    new = (
        max(max(row.person, row.track + 1) for row in identities.rows) + 1
    )  # not the number of a person who was merged
    track = identities.apply(records).track
    later = records.player_time_s[track == person - 1] >= time_s
    if later.all() or not later.any():
        where = "before" if later.all() else "after"
        raise UsageError(
            f"`split={person}@{time_s:g}`", f"person {person} is not seen {where} that", "choose a time in between"
        )
    rows: list[Assignment] = []
    for row in identities.rows:
        if row.person != person or row.to_s <= time_s:
            rows.append(row)
        elif row.from_s >= time_s:
            rows.append(replace(row, person=new, name=""))
        else:
            rows += [replace(row, to_s=time_s), replace(row, from_s=time_s, person=new, name="")]
    return Identities(identities.path, tuple(rows)), new


def name_person(identities: Identities, person: int, name: str) -> Identities:
    """Return the table with a name for a person; "" removes it.

    Raises UsageError for a number that is nobody's, a bad name, and the name of somebody else.
    """
    _check_people(identities, [person], "name")
    name = " ".join(name.split())
    if len(name) > MAX_NAME or escape_controls(name) != name:
        raise UsageError(f"`name={person}={name[:20]}`", "cannot be used", f"at most {MAX_NAME} letters, in one line")
    for other, taken in identities.names.items():
        if other != person and taken.casefold() == name.casefold():
            hint = f"choose another name, or merge them with `merge={other},{person}`"
            raise UsageError(f"`name={person}={name}`", f"is the name of person {other}", hint)
    rows = [replace(row, name=name) if row.person == person else row for row in identities.rows]
    return Identities(identities.path, tuple(rows))


def _check_people(identities: Identities, people: Sequence[int], parameter: str) -> None:
    known = sorted({row.person for row in identities.rows})
    for person in people:
        if person not in known:
            listed = ", ".join(map(str, known[:12])) + (" and so on" if len(known) > 12 else "")
            raise UsageError(f"`{parameter}={person}`", "is no person of these records", f"choose from {listed}")

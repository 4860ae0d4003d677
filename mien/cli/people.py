"""`mien people`: who is seen in a video; people merged, split and named in a table beside the records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.people.identities import (
    Identities,
    identities_path,
    list_assignments,
    merge_people,
    name_person,
    read_identities,
    split_person,
)
from mien.analysis.people.people import PeopleAccumulator
from mien.analysis.people.records import Records, read_clip
from mien.cli.messages import emit, format_table, pluralize
from mien.cli.options import Json, Quiet, parse_time
from mien.core.errors import UsageError


def people(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Records of one video (.jsonl, .csv or .parquet).")
    ],
    merge: Annotated[
        list[str], typer.Option(metavar="N,N", help="Make one person of several, as 1,3; repeat it for others.")
    ] = [],  # noqa: B006
    split: Annotated[
        list[str],
        typer.Option(
            metavar="N@TIME", help="Make a new person of what follows a time, as 2@1:30; repeat it for others."
        ),
    ] = [],  # noqa: B006
    name: Annotated[
        list[str], typer.Option(metavar="N=NAME", help="Name a person, as 1=Anna; repeat it for others.")
    ] = [],  # noqa: B006
    reset: Annotated[bool, typer.Option("--reset", help="Forget all earlier corrections first.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List the people of a video; merge, split and name them.

    Corrections are written to clip.people.csv beside clip.records.csv: a track, the person whom it shows, a name, and times
    for a part of a track. All commands that read the records use it: plot, moments, events, agreement, methods. The records
    stay as they are. Merging comes first, then splitting, then naming; numbers are those before the command, and a new person
    has the next free one.
    """
    raw, path = read_clip(records, is_corrected=False), identities_path(records)
    identities = list_assignments(raw, read_identities(path) if path.exists() and not reset else None)
    identities, made = _change(identities, raw, merge, split, name)
    corrected = identities.apply(raw)  # before anything is written: it may be refused
    is_changed, is_removed = bool(merge or split or name), False
    if is_changed:
        identities.write()
    elif reset and path.exists():
        path.unlink()
        is_removed = True
    found = corrected.people()
    notes = [f"person {new} is new: what follows {at}" for new, at in made]
    if is_changed:
        notes.append(f"wrote {path}")
    elif reset:
        notes.append(f"removed {path}" if is_removed else "there were no corrections")
    text = "\n".join([_format_people(found), *notes])
    result: dict[str, Any] = {
        "records": str(records), "table": str(path) if path.exists() else None,
        "people": [person.to_json() for person in found.people],
        "not_faces": [person.to_json() for person in found.not_faces],
    }  # fmt: skip
    emit(result, text, as_json=as_json, quiet=quiet)


def _change(
    identities: Identities, raw: Records, merge: list[str], split: list[str], name: list[str]
) -> tuple[Identities, list[tuple[int, str]]]:
    """Return the table with the corrections, and (number, where it was split) of each new person."""
    made = []
    for text in merge:
        if not re.fullmatch(r"\d{1,7}(,\d{1,7})*", text):
            raise UsageError(f"--merge {text}", "names no people", "as in --merge 1,3")
        identities = merge_people(identities, [int(number) for number in text.split(",")], raw)
    for text in split:
        found = re.fullmatch(r"(\d{1,7})@(.+)", text)
        if not found:
            raise UsageError(f"--split {text}", "names no person and time", "as in --split 2@1:30")
        identities, new = split_person(identities, int(found[1]), parse_time("--split", found[2]), raw)
        made.append((new, text))
    for text in name:
        number, separator, words = text.partition("=")
        if not separator or not re.fullmatch(r"\d{1,7}", number):
            raise UsageError(f"--name {text}", "names no person", "as in --name 1=Anna")
        identities = name_person(identities, int(number), words)
    return identities, made


def _format_people(found: PeopleAccumulator) -> str:
    rows = [["", "on screen", "from", "to", "mostly"]]
    for person in found.people:
        label = person.labels[int(person.share.argmax())]
        number = f"{person.track + 1}" + (f" {person.given_name}" if person.given_name else "")
        rows.append([
            number, f"{person.seen_s:.1f} s", f"{person.first_s:.1f} s", f"{person.last_s:.1f} s",
            f"{label} {person.share.max():.0%}",
        ])  # fmt: skip
    lines = [pluralize(len(found.people), "person"), format_table(rows, indent="  ")] if found.people else ["0 persons"]
    if found.not_faces:
        lines.append(f"{pluralize(len(found.not_faces), 'track')} more, probably no faces")
    return "\n".join(lines)

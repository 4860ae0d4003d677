"""`mien groups`: groups of clips compared."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.output.plots import draw_groups
from mien.analysis.output.writers import RECORD_FORMATS
from mien.analysis.people.groups import MEASURES, compare_groups
from mien.analysis.people.records import read_clip, read_records
from mien.analysis.people.summary import clip_name
from mien.cli.messages import emit, format_table
from mien.cli.options import Json, OutFolder, Quiet
from mien.core.csv_cells import CsvWriter
from mien.core.errors import DataError, UsageError
from mien.core.files import make_folder, replace_file, write_json


def groups(
    group: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PATH", help="A group and its records: a file, or a folder of them; repeat it for others."
        ),
    ],
    measure: Annotated[
        str, typer.Option(help="Of each clip: mean (smoothed probability) or share (of the time on screen).")
    ] = MEASURES[0],
    out: OutFolder = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare what is shown in groups of clips.

    Each clip counts once, with its value over all its people. Writes groups.json, groups.csv and groups.png: the mean of each
    group with its 95 % bootstrap interval, and for each two groups the difference, Hedges' g, and p of a permutation test,
    corrected for all tests by Holm's method.
    """
    clips = {name: [read_clip(path) for path in paths] for name, paths in _find_records(group).items()}
    result = compare_groups(clips, measure)
    make_folder(out)
    paths = [out / f"groups.{ending}" for ending in ("json", "csv", "png")]
    write_json(paths[0], result)
    _write_table(result, paths[1])
    draw_groups(result, paths[2])
    text = f"{_format_result(result)}\nwrote {', '.join(map(str, paths))}"
    emit(result, text, as_json=as_json, quiet=quiet)


def _find_records(group: list[str]) -> dict[str, list[Path]]:
    """Return group → files of records; of a folder one file for each clip."""
    found: dict[str, list[Path]] = {}
    for text in group:
        name, separator, place = text.partition("=")
        if not separator or not name.strip() or not place:
            raise UsageError(f"--group {text}", "names no group and records", "as in --group calm=FOLDER")
        path = Path(place)
        files = [path]
        if path.is_dir():
            by_clip = {
                clip_name(one): one
                for kind in reversed(RECORD_FORMATS)
                for one in sorted(path.glob(f"*.records.{kind}"))
            }
            files = [by_clip[clip] for clip in sorted(by_clip) if clip != "all" or _is_clip_called_all(by_clip[clip])]
            if not files:
                raise DataError(path, "has no records", "name a folder with files NAME.records.csv")
        found.setdefault(name.strip(), []).extend(files)
    for name, files in found.items():
        if len({file.resolve() for file in files}) < len(files):
            raise UsageError(f"--group {name}", "names a file twice", "name each clip once")
    for (one, files), (other, others) in combinations(found.items(), 2):
        if shared := {file.resolve() for file in files} & {file.resolve() for file in others}:
            problem = f"has {min(shared).name}, which is in {one}, too"
            raise UsageError(f"--group {other}", problem, "name each clip in one group: groups must be independent")
    return found


def _is_clip_called_all(path: Path) -> bool:
    """Return whether all.records.csv is of a clip called all, not the table of all inputs that `mien analyze` also writes."""
    sources = [clip.source for clip in read_records(path)]
    return len(sources) == 1 and Path(sources[0]).stem == "all"


def _format_result(result: dict[str, Any]) -> str:
    rows = [["", *result["groups"]]]
    for label in result["labels"]:
        row = [label]
        for values in result["groups"].values():
            low, high = values[label]["interval"]
            row.append(f"{values[label]['mean']:.3f} ({low:.3f} to {high:.3f})")
        rows.append(row)
    lines = [f"{result['measure']} over clips, with 95 % intervals", format_table(rows, indent="  ")]
    for one, other in dict.fromkeys((test["first"], test["second"]) for test in result["compared"]):
        rows = [[f"{other} − {one}", "difference", "95 % interval", "Hedges' g", "p", "p (Holm)"]]
        for test in result["compared"]:
            if (test["first"], test["second"]) == (one, other):
                low, high = test["interval"]
                size = "-" if test["hedges_g"] is None else f"{test['hedges_g']:+.2f}"
                rows.append([
                    test["label"], f"{test['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}", size, f"{test['p']:.4f}",
                    f"{test['p_holm']:.4f}",
                ])  # fmt: skip
        lines.append(format_table(rows, indent="  "))
    return "\n".join(lines)


def _write_table(result: dict[str, Any], path: Path) -> None:
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = CsvWriter(file)
        columns = ["first", "second", "label", "difference", "low", "high", "hedges_g", "p", "p_holm"]
        table.writerow(columns)
        for test in result["compared"]:
            values = test | dict(zip(("low", "high"), test["interval"], strict=True))
            table.writerow(["" if values[name] is None else values[name] for name in columns])

"""`mien plot`: plots of the records of one video, or a comparison of two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.output import plots
from mien.analysis.people.records import Records, read_clip
from mien.analysis.people.timeline import draw_timeline
from mien.cli.messages import emit, format_table, pluralize
from mien.cli.options import Json, OutFolder, Quiet
from mien.core.errors import UsageError
from mien.core.files import make_folder, write_json

#: How the names of records end, before their format.
_ENDING = ".records"


def plot(
    records: Annotated[
        list[Path],
        typer.Argument(metavar="RECORDS", help="Records of one video (.jsonl, .csv or .parquet), or of two."),
    ],
    out: OutFolder = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Plot the records of a video, or compare those of two.

    clip.records.csv gives clip.expressions.png (each person's expressions over time), clip.transitions.png (which expression
    follows which) and their numbers in clip.plots.json. A second video also gives a-b.compared.png: the share of the time on
    screen of each expression in both, and the difference. Transitions are counted between segments, not between frames.
    """
    if len(records) > 2:
        raise UsageError("RECORDS", f"{len(records)} files", "name one, or two to compare")
    clips = [read_clip(path) for path in records]
    names = _names(records)
    if len(clips) == 2:
        plots.check_comparable(*clips)
    make_folder(out)
    people = [clip.people() for clip in clips]
    written: list[Path] = []
    for clip, one, name in zip(clips, people, names, strict=True):
        title = Path(clip.source).name
        written += [out / f"{name}.expressions.png", out / f"{name}.transitions.png"]
        draw_timeline(one.timeline, one.names, written[-2], title)
        plots.draw_transitions(one, written[-1], title)
    results: dict[str, Any] = {"clips": [plots.summarize_records(*pair) for pair in zip(clips, people, strict=True)]}
    if len(clips) == 2:
        results["compared"] = plots.compare_shares(clips, people)
        written.append(out / f"{names[0]}-{names[1]}.compared.png")
        plots.draw_comparison(people, written[-1], names, f"{names[0]} and {names[1]}")
    written.append(out / f"{'-'.join(names)}.plots.json")
    write_json(written[-1], results)
    text = f"{_summary(results, clips, names)}\nwrote {', '.join(map(str, written))}"
    emit(results, text, as_json=as_json, quiet=quiet)


def _names(records: list[Path]) -> list[str]:
    """Return the stems of the pictures: the names of the files without their suffixes, made distinct."""
    names = [path.stem.removesuffix(_ENDING) for path in records]
    if len(names) == 2 and names[0] == names[1]:
        names[1] += "-2"
    return names


def _summary(results: dict[str, Any], clips: list[Records], names: list[str]) -> str:
    """Return a line for each clip and, of two, a table of the shares of each expression."""
    lines = []
    for clip, values, name in zip(clips, results["clips"], names, strict=True):
        changes, people = values["transitions"]["all"], len(values["people"])
        lines.append(
            f"{name} ({clip.source}): {pluralize(people, 'person')}, {pluralize(changes['changes'], 'change')}, "
            f"{changes['changes_per_minute']:.1f} a minute on screen"
        )
    if "compared" in results:
        rows = [["", *names, "difference"]]
        for label, row in results["compared"]["share"].items():
            rows.append([label, f"{row['first']:.1%}", f"{row['second']:.1%}", f"{100 * row['difference']:+.1f}"])
        lines.append(format_table(rows, indent="  "))
    return "\n".join(lines)

"""`mien plot`: pictures of what `mien analyze` recorded of one video, or of two beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.output import plots
from mien.analysis.people.records import Records, read_clip
from mien.analysis.people.timeline import draw_timeline
from mien.cli.options import Json, Quiet
from mien.core.errors import UsageError
from mien.core.files import make_folder, write_json
from mien.core.progress import echo

#: What the name of records ends in before their format.
_ENDING = ".records"


def plot(
    records: Annotated[
        list[Path], typer.Argument(metavar="RECORDS", help="Records of a video (.jsonl, .csv or .parquet), or of two.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw the records of a video: each person's expressions over time, and which expression followed which.

    For clip.records.csv it writes clip.expressions.png, clip.transitions.png and their figures as clip.plots.json. With
    a second video also a-b.compared.png: both on the same axes, the share of the time on screen that each expression has
    in them, and the difference. Transitions are counted from segment to segment of the label shown, not from frame to frame.
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
    if as_json:
        echo(json.dumps(results, indent=2))
    elif not quiet:
        _print(results, clips, names)
        echo("wrote " + ", ".join(map(str, written)))


def _names(records: list[Path]) -> list[str]:
    """What the pictures are called: the files' names without their endings, told apart where they are the same."""
    names = [path.stem.removesuffix(_ENDING) for path in records]
    if len(names) == 2 and names[0] == names[1]:
        names[1] += "-2"
    return names


def _print(results: dict[str, Any], clips: list[Records], names: list[str]) -> None:
    """A line for each clip; then, of two, a line for each expression."""
    for clip, values, name in zip(clips, results["clips"], names, strict=True):
        changes, people = values["transitions"]["all"], len(values["people"])
        echo(
            f"{name} ({clip.source}): {people:,} {'person' if people == 1 else 'persons'}, {changes['changes']:,} "
            f"change{'' if changes['changes'] == 1 else 's'}, {changes['changes_per_minute']:.1f} a minute on screen"
        )
    if "compared" not in results:
        return
    widths = [max(len(name), 6) for name in names]
    echo(f"  {'':10}  {names[0]:>{widths[0]}}  {names[1]:>{widths[1]}}  difference")
    for label, row in results["compared"]["share"].items():
        first, second = (f"{row[key]:>{width}.1%}" for key, width in zip(("first", "second"), widths, strict=True))
        echo(f"  {label:10}  {first}  {second}  {100 * row['difference']:+10.1f}")

"""`mien plot`: plots of the records of one video, or a comparison of two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.output import plots
from mien.analysis.people.baseline import measure_baseline, summarize_baseline, write_baseline_table
from mien.analysis.people.records import Records, read_clip
from mien.analysis.people.timeline import draw_timeline
from mien.cli.messages import emit, format_table, pluralize, print_note
from mien.cli.options import Json, OutFolder, Quiet, parse_time
from mien.core.errors import UsageError
from mien.core.files import make_folder, write_json

#: How the names of records end, before their format.
_ENDING = ".records"


def plot(
    records: Annotated[
        list[Path],
        typer.Argument(metavar="RECORDS", help="Records of one video (.jsonl, .csv or .parquet), or of two."),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="TIME-TIME", help="Also subtract what each person shows in this period, as 0:00-0:10."),
    ] = None,
    out: OutFolder = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Plot the records of a video, or compare those of two.

    clip.records.csv gives clip.expressions.png (each person's expressions over time), clip.transitions.png (which expression
    follows which) and their numbers in clip.plots.json. A second video also gives a-b.compared.png: the share of the time on
    screen of each expression in both, and the difference. Transitions are counted between segments, not between frames.
    --baseline also gives clip.baseline.png and clip.baseline.csv: smoothed probabilities, and these minus the person's mean in
    that period.
    """
    if len(records) > 2:
        raise UsageError("RECORDS", f"{len(records)} files", "name one, or two to compare")
    period_s = None if baseline is None else _parse_period(baseline)
    clips = [read_clip(path) for path in records]
    names = _names(records)
    if len(clips) == 2:
        plots.check_comparable(*clips)
    people = [clip.people() for clip in clips]
    rests = [] if period_s is None else [measure_baseline(*pair, *period_s) for pair in zip(clips, people, strict=True)]
    for clip, one, rest in zip(clips, people, rests, strict=False):
        if absent := [one.names[person.track] for person in one.people if person.track not in rest.means]:
            listed = ", ".join(absent[:6]) + (" and others" if len(absent) > 6 else "")
            print_note(f"note: {clip.path.name}: not seen in the period of --baseline: {listed}", quiet=quiet)
    make_folder(out)
    written: list[Path] = []
    for clip, one, name in zip(clips, people, names, strict=True):
        title = Path(clip.source).name
        written += [out / f"{name}.expressions.png", out / f"{name}.transitions.png"]
        draw_timeline(one.timeline, one.names, written[-2], title)
        plots.draw_transitions(one, written[-1], title)
    results: dict[str, Any] = {"clips": [plots.summarize_records(*pair) for pair in zip(clips, people, strict=True)]}
    for clip, one, name, rest, values in zip(clips, people, names, rests, results["clips"], strict=False):
        written += [out / f"{name}.baseline.png", out / f"{name}.baseline.csv"]
        plots.draw_baseline(one, rest, written[-2], Path(clip.source).name)
        write_baseline_table(clip, one, rest, written[-1])
        values["baseline"] = summarize_baseline(clip, one, rest)
    if len(clips) == 2:
        results["compared"] = plots.compare_shares(clips, people)
        written.append(out / f"{names[0]}-{names[1]}.compared.png")
        plots.draw_comparison(people, written[-1], names, f"{names[0]} and {names[1]}")
    written.append(out / f"{'-'.join(names)}.plots.json")
    write_json(written[-1], results)
    text = f"{_summary(results, clips, names)}\nwrote {', '.join(map(str, written))}"
    emit(results, text, as_json=as_json, quiet=quiet)


def _parse_period(text: str) -> tuple[float, float]:
    """Return (start, end) in seconds of a period like ``0:00-0:10``."""
    start, separator, end = text.partition("-")
    if not separator:
        raise UsageError(f"--baseline {text}", "is no period", "as in --baseline 0:00-0:10")
    from_s, to_s = parse_time("--baseline", start), parse_time("--baseline", end)
    if from_s >= to_s:
        raise UsageError(f"--baseline {text}", "ends before it begins", "as in --baseline 0:00-0:10")
    return from_s, to_s


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

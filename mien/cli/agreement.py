"""`mien agreement`: how far records agree with expressions that people coded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.analysis.people.agreement import Grid, make_grid, measure_agreement
from mien.analysis.people.annotations import read_annotations
from mien.analysis.people.records import read_clip
from mien.analysis.people.summary import clip_name
from mien.cli.messages import emit, format_table, print_note
from mien.cli.options import Json, OutFolder, Quiet
from mien.core.csv_cells import CsvWriter
from mien.core.files import make_folder, replace_file, write_json


def agreement(
    records: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="Records of one video (.jsonl, .csv or .parquet).")
    ],
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="An .eaf file of ELAN, a .boris project or a BORIS export (.csv, .tsv), or a table with the columns start, end, "
            "label and, if needed, person and annotator.",
        ),
    ],
    grid: Annotated[float, typer.Option(help="Time in seconds between two comparisons.")] = 0.1,
    person: Annotated[
        int | None, typer.Option(min=1, help="Number of the person whom annotations without a person mean.")
    ] = None,
    blank: Annotated[
        str | None,
        typer.Option(
            help="Label of times left blank between the first and the last annotation of a person, as neutral. Default: they "
            "are not compared."
        ),
    ] = None,
    out: OutFolder = Path("mien-out"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure how far records agree with human coding.

    Compares the label that is shown with the label that was coded, every --grid seconds: Cohen's kappa, Krippendorff's alpha,
    the intraclass correlation of the probabilities, and seconds by both labels. Intervals are 95 % of bootstrap draws of people.
    Writes clip.agreement.json, and clip.agreement.csv with a row for each person and time.
    """
    clip = read_clip(records)
    coded = read_annotations(annotations, clip.labels)
    sampled = make_grid(clip, coded, grid, person=person, blank=blank)
    result = {
        "records": str(records), "annotations": str(annotations), **measure_agreement(sampled, grid), "ignored": coded.ignored,
    }  # fmt: skip
    if coded.ignored:
        named = ", ".join(f"'{text}' ({count})" for text, count in list(coded.ignored.items())[:6])
        print_note(f"note: {coded.path}: annotations that are no expressions are left out: {named}", quiet=quiet)
    make_folder(out)
    stem = clip_name(records)
    paths = [out / f"{stem}.agreement.json", out / f"{stem}.agreement.csv"]
    write_json(paths[0], result)
    _write_grid(sampled, paths[1])
    text = f"{format_agreement(result)}\nwrote {', '.join(map(str, paths))}"
    emit(result, text, as_json=as_json, quiet=quiet)


def format_agreement(result: dict[str, Any]) -> str:
    """Return the figures as text."""
    names = {name: name or "annotator" for name in result["annotators"]} | {"mien": "mien"}
    people = "one person" if result["people"] == 1 else f"{result['people']} people"
    lines = [f"{result['seconds']:g} s of {people} compared, every {result['grid_s']:g} s", ""]
    rows = [["Cohen's kappa", "kappa", "95 % interval", "equal", "seconds"]]
    for one in result["kappa"]:
        pair = f"{names[one['annotator']]} and {names[one['with']]}"
        rows.append([pair, *_cells(one), "-" if one["equal"] is None else f"{one['equal']:.1%}", f"{one['seconds']:g}"])
    lines += [format_table(rows), ""]
    rows = [
        ["Krippendorff's alpha", "alpha", "95 % interval"],
        ["mien and all annotators", *_cells(result["alpha"]["with_mien"])],
    ]
    if result["alpha"]["annotators"]:
        rows.append(["annotators alone", *_cells(result["alpha"]["annotators"])])
    lines += [format_table(rows), ""]
    rows = [["probabilities", "ICC(2,1)", "95 % interval", "ICC(3,1)", "95 % interval"]]
    for label, one in result["icc"].items():
        rows.append([label, *_cells(one["absolute_agreement"]), *_cells(one["consistency"])])
    lines += [format_table(rows), ""]
    rows = [["seconds coded (rows), shown", *result["classes"]]]
    for label, values in zip(result["classes"], result["confusion_s"], strict=True):
        rows.append([label, *(f"{value:.1f}" for value in values)])
    return "\n".join([*lines, format_table(rows)])


def _cells(one: dict[str, Any]) -> list[str]:
    """Return a value and its interval."""
    interval = "-" if one["interval"] is None else f"{one['interval'][0]:.2f} to {one['interval'][1]:.2f}"
    return ["-" if one["value"] is None else f"{one['value']:.3f}", interval]


def _write_grid(grid: Grid, path: Path) -> None:
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = CsvWriter(file)
        coders = [f"coded_{name or index + 1}" for index, name in enumerate(grid.annotators)]
        table.writerow(["person", "time_s", "shown", *coders, *(f"s_{label}" for label in grid.labels)])
        for index, (track, time_s) in enumerate(zip(grid.track.tolist(), grid.time_s.tolist(), strict=True)):
            coded = ["" if code < 0 else grid.classes[code] for code in grid.coded[index]]
            values = [round(value, 6) for value in grid.probabilities[index].tolist()]
            table.writerow([track + 1, round(time_s, 6), grid.classes[grid.shown[index]], *coded, *values])

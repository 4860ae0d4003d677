"""`mien data`: look at a data set, convert it, divide it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.app.messages import print_help
from mien.app.options import Json, Quiet, SkipBad, keep_inputs, tell_skipped
from mien.core.progress import say

if TYPE_CHECKING:
    from mien.core.types import FaceSet

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Look at a data set, convert it, divide it.\n\nReads FER2013 as Kaggle's and the ICML CSV, Parquet in the "
    "Hugging Face layout, and folders of pictures (train/angry/*.png).",
)

Source = Annotated[Path, typer.Argument(metavar="PATH", help="A CSV or Parquet file, or a folder of pictures.")]
Ferplus = Annotated[Path | None, typer.Option(help="FER+'s CSV of votes, joined row by row.")]
Out = Annotated[Path, typer.Option(help="What to write: .csv as Kaggle's file, .parquet, or a folder (no ending).")]
Size = Annotated[int, typer.Option(min=8, max=512, help="Side in pixels that pictures are scaled to.")]


@app.callback()
def _alone(context: typer.Context) -> None:
    """`mien data` alone says what it can do; the help text is the app's."""
    print_help(context)


@app.command()
def describe(
    path: Source, ferplus: Ferplus = None, size: Size = 48, skip_bad: SkipBad = False, as_json: Json = False
) -> None:
    """Say what a data set holds: faces, splits, classes, votes, and what is broken."""
    from mien.core.labels import is_expression

    faces = _read(path, ferplus, size, skip_bad)
    facts = _facts(faces, path)
    if as_json:
        say(json.dumps(facts, indent=2))
        return
    say(f"{path}: {len(faces):,} faces of {faces.images.shape[2]} x {faces.images.shape[1]} pixels, grey")
    say(
        f"  FER+ votes: {'yes' if facts['votes'] else 'no'}; unlabelled: {facts['unlabelled']:,}; broken rows skipped: {facts['skipped']:,}"
    )
    columns = [*faces.classes, "unlabelled", "all"]
    splits = facts["splits"]
    rows = [["split", *columns]]
    rows += [
        [name or "(none)", *(f"{counts.get(column, 0):,}" for column in columns)] for name, counts in splits.items()
    ]
    if not facts["unlabelled"]:
        rows = [row[:-2] + row[-1:] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        say(f"  {first.strip().ljust(widths[0])}  " + "  ".join(rest))
    if faces.classes and not any(is_expression(name) for name in faces.classes):
        say("  note: none of the class names is an expression that mien knows (see docs/data.md)")
    for why in faces.skipped[:20]:
        say(f"  skipped: {why}")


@app.command()
def convert(
    path: Source, out: Out, ferplus: Ferplus = None, size: Size = 48, skip_bad: SkipBad = False, quiet: Quiet = False
) -> None:
    """Write a data set in another layout.

    Pixels, labels, splits and votes are kept as far as the layout holds them.
    """
    from mien.data.readers import save_faces

    keep_inputs(out, [path, *([ferplus] if ferplus else [])])
    faces = _read(path, ferplus, size, skip_bad)
    save_faces(faces, out)
    if not quiet:
        say(
            f"wrote {len(faces):,} faces to {out}"
            + (f"; {len(faces.skipped):,} broken rows skipped" if faces.skipped else "")
        )
        if faces.votes is not None and out.suffix.lower() != ".parquet":
            say("the FER+ votes are not kept in this layout: write .parquet for that", error=True)


@app.command()
def split(
    path: Source,
    out: Out,
    fractions: Annotated[str, typer.Option(help="Shares of all faces, stratified by class, as in 0.8,0.1,0.1.")] = "",
    sizes: Annotated[
        str, typer.Option(help="Exact numbers of faces, stratified by class, as in 11880,7350,7170.")
    ] = "",
    official: Annotated[
        bool, typer.Option("--official", help="FER2013's own: 28,709 / 3,589 / 3,589 in the file's order.")
    ] = False,
    names: Annotated[str, typer.Option(help="Names of the parts.")] = "train,validation,test",
    classes: Annotated[str, typer.Option(help="Keep only these classes, in this order, as in happy,sad,neutral.")] = "",
    of: Annotated[str, typer.Option(help="Divide only this split of the data.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = 0,
    ferplus: Ferplus = None,
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Divide a data set anew and write it with its new split names."""
    from mien.core.errors import UsageError
    from mien.data.readers import save_faces
    from mien.data.splits import fraction_sizes, official_splits, only_classes, resplit

    keep_inputs(out, [path, *([ferplus] if ferplus else [])])
    ways = sum(map(bool, (fractions, sizes, official)))
    if ways > 1 or not (ways or classes or of):
        raise UsageError(
            "mien data split",
            f"needs one way to divide, and was given {ways}",
            "give --fractions, --sizes or --official, and --classes if wanted",
        )
    faces = _read(path, ferplus, size, skip_bad)
    tell_skipped(faces, quiet)
    if of:
        faces = faces.in_split(of)
    if classes:
        faces = only_classes(faces, classes.split(","))
    if official:
        faces = official_splits(faces)
    elif fractions or sizes:
        wanted = fraction_sizes(len(faces), _numbers(fractions, float)) if fractions else _numbers(sizes, int)
        parts = names.split(",")
        if len(wanted) > len(parts):
            raise UsageError("--names", f"has {len(parts)} names for {len(wanted)} parts", "name every part")
        if len(set(parts)) < len(parts):
            raise UsageError("--names", f"{names} names a part twice", "give each its own name")
        faces = resplit(faces, parts[: len(wanted)], wanted, seed)
    save_faces(faces, out)
    if not quiet:
        counts = ", ".join(f"{name or '(none)'} {(faces.split == name).sum():,}" for name in faces.splits)
        say(f"wrote {len(faces):,} faces to {out}: {counts}")


def _numbers(text: str, kind: type) -> list:
    from mien.core.errors import UsageError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"'{text}'", "is not a list of numbers", "as in --sizes 800,100,100 or --fractions 0.8,0.1,0.1"
        ) from error


def _read(path: Path, ferplus: Path | None, size: int, skip_bad: bool) -> FaceSet:
    from mien.data import load_faces

    return load_faces(path, ferplus=ferplus, size=size, skip_bad=skip_bad)


def _facts(faces: FaceSet, path: Path) -> dict:
    splits = {}
    for name in faces.splits:
        part = faces.take(faces.split == name)
        counts = dict(zip(faces.classes, part.counts().tolist(), strict=True))
        splits[name] = {**counts, "unlabelled": int((~part.labelled).sum()), "all": len(part)}
    return {
        "path": str(path),
        "faces": len(faces),
        "size": list(faces.images.shape[1:]),
        "classes": list(faces.classes),
        "splits": splits,
        "unlabelled": int((~faces.labelled).sum()),
        "votes": faces.votes is not None,
        "skipped": len(faces.skipped),
    }

"""`mien data`: make a data set of photographs, look at one, convert it, divide it, see what a network is given of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli.crop import crop
from mien.cli.loaders import print_skipped, read_data, refuse_overwrite, require_torch, resolve_labels_by
from mien.cli.messages import name_options, print_help
from mien.cli.options import DataLabelsBy, Json, Quiet, Set, SkipBad
from mien.core.errors import UsageError
from mien.core.labels import is_expression, normalize_label
from mien.core.progress import echo
from mien.core.types import FaceSet
from mien.data import load_faces, splits
from mien.data.annotators import relabel_faces
from mien.data.readers import save_faces

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Make a data set of photographs, look at one, convert it, divide it, see what a network is given of it.\n\nReads FER2013 as Kaggle's and the ICML CSV, Parquet in the "
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
    path: Source,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Say what a data set holds: faces, splits, classes, votes, and what is broken."""

    faces = _read(path, ferplus, size, skip_bad, labels_by)
    facts = _facts(faces, path)
    if as_json:
        echo(json.dumps(facts, indent=2))
        return
    echo(f"{path}: {len(faces):,} faces of {faces.images.shape[2]} x {faces.images.shape[1]} pixels, gray")
    echo(
        f"  FER+ votes: {'yes' if facts['votes'] else 'no'}; unlabeled: {facts['unlabeled']:,}; broken rows skipped: {facts['skipped']:,}"
    )
    rows = [["split", *faces.classes, "unlabeled", "all"]]
    for name, counts in facts["splits"].items():
        numbers = [*counts["classes"].values(), counts["unlabeled"], counts["all"]]
        rows.append([name or "(none)", *(f"{number:,}" for number in numbers)])
    if not facts["unlabeled"]:
        rows = [row[:-2] + row[-1:] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        echo(f"  {first.strip().ljust(widths[0])}  " + "  ".join(rest))
    if faces.classes and not any(is_expression(name) for name in faces.classes):
        echo("  note: none of the class names is an expression that mien knows (see docs/data.md)")
    for why in faces.skipped[:20]:
        echo(f"  skipped: {name_options(why)}")


@app.command()
def convert(
    path: Source,
    out: Out,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a data set in another layout.

    Pixels, labels, splits and votes are kept as far as the layout holds them.
    """

    refuse_overwrite(out, [path, *([ferplus] if ferplus else [])])
    faces = _read(path, ferplus, size, skip_bad, labels_by)
    save_faces(faces, out)
    if as_json:
        echo(json.dumps(_written(faces, out), indent=2))
    elif not quiet:
        echo(
            f"wrote {len(faces):,} faces to {out}"
            + (f"; {len(faces.skipped):,} broken rows skipped" if faces.skipped else "")
        )
        if faces.votes is not None and out.suffix.lower() not in (".parquet", ".pq"):
            echo("the FER+ votes are not kept in this layout: write .parquet for that", error=True)


@app.command()
def split(
    path: Source,
    out: Out,
    fractions: Annotated[str, typer.Option(help="Shares of all faces, stratified by class, as in 0.8,0.1,0.1.")] = "",
    sizes: Annotated[
        str, typer.Option(help="Exact numbers of faces, stratified by class, as in 11880,7350,7170.")
    ] = "",
    counts: Annotated[
        str,
        typer.Option(
            metavar="CLASS=N,...",
            help="Exact numbers of faces of some classes, as in angry=500,happy=1500; a ';' begins the next part.",
        ),
    ] = "",
    official: Annotated[
        bool, typer.Option("--official", help="FER2013's own: 28,709 / 3,589 / 3,589 in the file's order.")
    ] = False,
    in_order: Annotated[
        bool,
        typer.Option("--in-order", help="With --sizes or --fractions: the first rows, then the next; not stratified."),
    ] = False,
    keep_labels: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Keep the labels of this stratified share of the training split, of all faces where there are no "
            "splits, and remove the others.",
        ),
    ] = None,
    names: Annotated[str, typer.Option(help="Names of the parts; default: train,validation,test.")] = "",
    classes: Annotated[str, typer.Option(help="Keep only these classes, in this order, as in happy,sad,neutral.")] = "",
    of: Annotated[str, typer.Option(help="Divide only this split of the data.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same rows.")] = 0,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Divide a data set anew and write it with its new split names.

    For semi-supervised training --keep-labels removes labels, after the division or alone. Parquet files and folders
    hold labeled and unlabeled faces together, a CSV does not.
    """

    refuse_overwrite(out, [path, *([ferplus] if ferplus else [])])
    ways = {"--fractions": fractions, "--sizes": sizes, "--counts": counts, "--official": official}
    _check_ways([name for name, given in ways.items() if given], bool(classes or of or keep_labels is not None))
    if counts and classes:
        raise UsageError("--counts and --classes", "both name classes", "leave --classes out")
    if official and names:
        raise UsageError("--names", "name parts, and FER2013's own have their names", "leave it out, or give --sizes")
    if in_order and not (fractions or sizes):
        raise UsageError("--in-order", "needs to know how large the parts are", "give --sizes or --fractions with it")
    if keep_labels is not None and not 0 < keep_labels < 1:
        raise UsageError(f"--keep-labels {keep_labels:g}", "is no share", "give a number above 0 and below 1")
    shares, numbers, of_classes = _numbers(fractions, float), _sizes(sizes), _counts(counts)
    parts = _part_names(names or "train,validation,test", len(shares or numbers or of_classes))

    faces = _read(path, ferplus, size, skip_bad, labels_by)
    print_skipped(faces, quiet=quiet or as_json)
    count = len(faces)
    if of:
        faces = faces.select_split(of)
    if classes:
        faces = splits.filter_classes(faces, classes.split(","))
    divided = len(faces.splits) > 1
    if official:
        faces = splits.assign_official_splits(faces)
    elif counts:
        faces = splits.split_by_class_counts(faces, dict(zip(parts, of_classes, strict=True)), seed)
    elif parts:
        numbers = numbers or splits.sizes_from_fractions(len(faces), shares)
        faces = (
            splits.split_in_order(faces, parts, numbers)
            if in_order
            else splits.split_stratified(faces, parts, numbers, seed)
        )
    if keep_labels is not None:
        faces = splits.remove_training_labels(faces, keep_labels, seed)
    save_faces(faces, out)
    if as_json:
        echo(json.dumps(_written(faces, out) | {"left_out": count - len(faces)}, indent=2))
    elif not quiet:
        left = f"; {count - len(faces):,} of {count:,} left out" if len(faces) < count else ""
        kept = f", divided as in {path.name}" if official and divided else ""
        parts_said = ", ".join(_described(faces, name) for name in faces.splits)
        echo(f"wrote {len(faces):,} faces to {out}{kept}: {parts_said}{left}")


@app.command()
def preview(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="CSV or Parquet files, or folders of pictures.")],
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="A recipe's name or a .toml file.")] = "base",
    out: Annotated[Path, typer.Option(help="The .png file to write.")] = Path("mien-out/preview.png"),
    set: Set = [],  # noqa: B006
    split: Annotated[
        str, typer.Option(help="Show faces of this split; default: those that the recipe trains on.")
    ] = "",
    rows: Annotated[
        int | None, typer.Option(min=1, max=100, help="How many faces; default: one of every class.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, max=50, help="How many changed copies of each face.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same drawing.")] = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw what a recipe makes of the faces: what a network is really given while it is trained.

    A row a face: the picture as it is, then changed copies as the training loop makes them, with mixup and cutmix,
    normalized. Where faces are blended, the shares of the classes in the target stand below.
    """
    require_torch()
    from mien.training.preview import draw_preview
    from mien.training.preview import make_preview as make
    from mien.training.recipe import load_recipe

    refuse_overwrite(out, paths)
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}", "does not end in .png", f"as in --out {out.with_suffix('.png')}")
    settings = load_recipe(recipe, set)
    faces = read_data(paths, size=settings.input.size, skip_bad=skip_bad, quiet=quiet or as_json)
    made = make(settings, faces, split=split, rows=rows, copies=copies, seed=seed)
    draw_preview(made, settings, out)
    if as_json:
        drawn = [str(name) for name in made.faces.names]
        echo(json.dumps({"file": str(out), "recipe": settings.name, "faces": drawn, "copies": copies}, indent=2))
    elif not quiet:
        of = ", ".join(name for name in made.faces.splits if name)
        echo(f"wrote {len(made.faces):,} faces{f' of {of}' if of else ''} and {copies} copies of each to {out}")


app.command()(crop)


def _check_ways(given: list[str], something_else: bool) -> None:
    """UsageError unless one way to divide is given, or none where there is something else to do."""

    if len(given) > 1 or not (given or something_else):
        raise UsageError(
            "mien data split",
            f"needs one way to divide, and was given {' and '.join(given) or 'none'}",
            "give --fractions, --sizes, --counts or --official, and --classes or --keep-labels if wanted",
        )


def _numbers(text: str, kind: type) -> list:

    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(
            f"'{text}'", "is not a list of numbers", "as in --sizes 800,100,100 or --fractions 0.8,0.1,0.1"
        ) from error


def _sizes(text: str) -> list[int]:

    sizes = _numbers(text, int)
    if min(sizes, default=1) < 1:
        raise UsageError(f"--sizes {text}", "has a part without faces", "give whole numbers above 0")
    return sizes


def _counts(text: str) -> list[dict[str, int]]:
    """``"angry=500,sad=500;angry=100,sad=100"`` → the classes and their numbers in each part."""

    parts: list[dict[str, int]] = []
    for part in text.split(";") if text else []:
        parts.append({})
        for item in part.split(","):
            name, _, number = item.rpartition("=")
            name = normalize_label(name)
            number = number.strip()
            if not (name and number.isdecimal() and len(number) < 10 and int(number)):
                example = "as in --counts 'angry=500,happy=1500;angry=100,happy=100'"
                raise UsageError(
                    f"--counts '{item.strip()}'", "is not of the form class=number, the number above 0", example
                )
            if name in parts[-1]:
                raise UsageError(f"--counts {text}", f"names {name} twice in one part", "name each class once")
            parts[-1][name] = int(number)
    return parts


def _part_names(text: str, count: int) -> list[str]:
    """The first ``count`` of the names, each of its own."""

    parts = [name.strip() for name in text.split(",")]
    if count > len(parts):
        raise UsageError("--names", f"has {len(parts)} names for {count} parts", "name every part")
    if len(set(parts)) < len(parts):
        raise UsageError("--names", f"{text} names a part twice", "give each its own name")
    if not all(parts):
        raise UsageError("--names", f"'{text}' leaves a part without a name", "name every part")
    return parts[:count]


def _written(faces: FaceSet, out: Path) -> dict[str, Any]:
    """What a file was written of, for machines."""
    parts = {name: faces.take(faces.split == name) for name in faces.splits}
    splits = {name: {"faces": len(part), "labeled": int(part.is_labeled.sum())} for name, part in parts.items()}
    return {"file": str(out), "faces": len(faces), "skipped": len(faces.skipped), "splits": splits}


def _described(faces: FaceSet, split: str) -> str:
    """``"train 28,709 (2,871 labeled)"``."""
    part = faces.take(faces.split == split)
    labeled = int(part.is_labeled.sum())
    return f"{split or '(none)'} {len(part):,}" + (f" ({labeled:,} labeled)" if labeled < len(part) else "")


def _read(path: Path, ferplus: Path | None, size: int, skip_bad: bool, labels_by: str) -> FaceSet:

    faces = load_faces(path, ferplus=ferplus, size=size, skip_bad=skip_bad)
    return relabel_faces(faces, resolve_labels_by(labels_by, faces, None))


def _facts(faces: FaceSet, path: Path) -> dict:
    splits = {}
    for name in faces.splits:
        part = faces.take(faces.split == name)
        counts = dict(zip(faces.classes, part.class_counts().tolist(), strict=True))
        splits[name] = {"classes": counts, "unlabeled": int((~part.is_labeled).sum()), "all": len(part)}
    return {
        "path": str(path),
        "faces": len(faces),
        "size": list(faces.images.shape[1:]),
        "classes": list(faces.classes),
        "splits": splits,
        "unlabeled": int((~faces.is_labeled).sum()),
        "votes": faces.votes is not None,
        "skipped": len(faces.skipped),
    }

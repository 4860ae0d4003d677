"""`mien data`: make, describe, convert, split and preview data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mien.cli.completion import complete_recipes
from mien.cli.crop import crop
from mien.cli.loaders import print_skipped, read_data, refuse_overwrite
from mien.cli.messages import emit, format_table, name_options, print_help, print_note
from mien.cli.options import DataLabelsBy, Ferplus, Json, Quiet, Seed, Set, SkipBad
from mien.core.errors import UsageError
from mien.core.labels import is_expression, normalize_label
from mien.core.types import FaceSet
from mien.data import load_faces, splits
from mien.data.annotators import relabel_faces
from mien.data.readers import save_faces
from mien.training.scoring.classifiers import require_torch, resolve_labels_by

Number = TypeVar("Number", int, float)

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Make, describe, convert, split and preview data sets.\n\nLayouts: FER2013 as Kaggle's and the ICML CSV, Parquet of Hugging Face, "
    "and folders of pictures (train/angry/*.png).",
)

Source = Annotated[Path, typer.Argument(metavar="PATH", help="A CSV or Parquet file, or a folder of pictures.")]
OutFile = Annotated[
    Path, typer.Option("--out", help="Output: .csv as Kaggle's file, .parquet, or a folder (no suffix).")
]
Size = Annotated[int, typer.Option("--size", min=8, max=512, help="Side in pixels to which pictures are scaled.")]
Fractions = Annotated[
    str, typer.Option("--fractions", help="Shares of all faces, stratified by class, as in 0.8,0.1,0.1.")
]
Sizes = Annotated[
    str, typer.Option("--sizes", help="Exact numbers of faces, stratified by class, as in 11880,7350,7170.")
]
Counts = Annotated[
    str,
    typer.Option(
        "--counts",
        metavar="CLASS=N,...",
        help="Exact numbers of faces of some classes, as in angry=500,happy=1500; a ';' begins the next part.",
    ),
]
Official = Annotated[
    bool, typer.Option("--official", help="FER2013's own split: 28,709 / 3,589 / 3,589 in the file's order.")
]
InOrder = Annotated[
    bool,
    typer.Option("--in-order", help="With --sizes or --fractions: the first rows, then the next; not stratified."),
]
KeepLabels = Annotated[
    float | None,
    typer.Option(
        "--keep-labels",
        metavar="SHARE",
        help="Keep the labels of this stratified share of the training split, or of all faces without splits, and remove the "
        "others. Above 0 and below 1.",
    ),
]
Names = Annotated[str, typer.Option("--names", help="Names of the parts. Default: train,validation,test.")]
Classes = Annotated[
    str, typer.Option("--classes", help="Keep these classes only, in this order, as in happy,sad,neutral.")
]
DividedSplit = Annotated[str, typer.Option("--split", help="Divide this split of the data only.")]


@app.callback()
def _print_help(context: typer.Context) -> None:
    """Print the help where no verb is named."""
    print_help(context)


@app.command("describe")
def describe_data(
    path: Source,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Describe a data set: faces, splits, classes, votes, broken rows."""
    faces = _read(path, ferplus, size, skip_bad, labels_by)
    facts = _to_json(faces, path)
    emit(facts, _description(faces, facts, path), as_json=as_json)


@app.command("convert")
def convert_data(
    path: Source,
    out: OutFile,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a data set in another layout.

    Pixels, labels, splits and votes are kept if the layout can hold them.
    """
    refuse_overwrite(out, [path, *([ferplus] if ferplus else [])])
    faces = _read(path, ferplus, size, skip_bad, labels_by)
    save_faces(faces, out)
    skipped = f"; {len(faces.skipped):,} broken rows skipped" if faces.skipped else ""
    emit(_output_facts(faces, out), f"wrote {len(faces):,} faces to {out}{skipped}", as_json=as_json, quiet=quiet)
    if faces.votes is not None and out.suffix.lower() not in (".parquet", ".pq"):
        print_note("the FER+ votes are not kept in this layout: write .parquet for that", quiet=quiet or as_json)


@app.command("split")
def split_data(
    path: Source,
    out: OutFile,
    fractions: Fractions = "",
    sizes: Sizes = "",
    counts: Counts = "",
    official: Official = False,
    in_order: InOrder = False,
    keep_labels: KeepLabels = None,
    names: Names = "",
    classes: Classes = "",
    split: DividedSplit = "",
    seed: Seed = 0,
    ferplus: Ferplus = None,
    labels_by: DataLabelsBy = "given",
    size: Size = 48,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Divide a data set and write it with its new splits.

    For semi-supervised training --keep-labels removes labels, after the division or alone. Parquet files and folders hold
    labeled and unlabeled faces together; a CSV does not.
    """
    refuse_overwrite(out, [path, *([ferplus] if ferplus else [])])
    ways = {"--fractions": fractions, "--sizes": sizes, "--counts": counts, "--official": official}
    _check_ways([name for name, value in ways.items() if value], bool(classes or split or keep_labels is not None))
    if counts and classes:
        raise UsageError("--counts and --classes", "both name classes", "leave --classes out")
    if official and names:
        raise UsageError("--names", "name parts, and FER2013's own have their names", "leave it out, or give --sizes")
    if in_order and not (fractions or sizes):
        raise UsageError("--in-order", "needs to know how large the parts are", "give --sizes or --fractions with it")
    if keep_labels is not None and not 0 < keep_labels < 1:
        raise UsageError(f"--keep-labels {keep_labels:g}", "is no share", "give a number above 0 and below 1")
    division = _Division(
        _parse_numbers(fractions, float), _parse_sizes(sizes), _parse_counts(counts), official, in_order
    )
    parts = _parse_names(names or "train,validation,test", division.part_count)

    everything = _read(path, ferplus, size, skip_bad, labels_by)
    print_skipped(everything, quiet=quiet or as_json)
    faces = everything.select_split(split) if split else everything
    if classes:
        faces = splits.filter_classes(faces, classes.split(","))
    was_divided = len(faces.splits) > 1
    faces = division.apply(faces, parts, seed)
    if keep_labels is not None:
        faces = splits.remove_training_labels(faces, keep_labels, seed)
    save_faces(faces, out)
    left_out = len(everything) - len(faces)
    text = (
        f"wrote {len(faces):,} faces to {out}{f', divided as in {path.name}' if official and was_divided else ''}: "
        f"{', '.join(_describe_split(faces, name) for name in faces.splits)}"
        f"{f'; {left_out:,} of {len(everything):,} left out' if left_out else ''}"
    )
    emit(_output_facts(faces, out) | {"left_out": left_out}, text, as_json=as_json, quiet=quiet)


@dataclass(frozen=True)
class _Division:
    """How a data set is divided: by at most one of shares, sizes and counts of classes, or by FER2013's own split."""

    shares: list[float]
    sizes: list[int]
    counts: list[dict[str, int]]
    is_official: bool
    is_in_order: bool

    @property
    def part_count(self) -> int:
        return len(self.shares or self.sizes or self.counts)

    def apply(self, faces: FaceSet, parts: list[str], seed: int) -> FaceSet:
        """Return the faces in their parts; as they are where there is nothing to divide by."""
        if self.is_official:
            return splits.assign_official_splits(faces)
        if self.counts:
            return splits.split_by_class_counts(faces, dict(zip(parts, self.counts, strict=True)), seed)
        if not parts:
            return faces
        sizes = self.sizes or splits.sizes_from_fractions(len(faces), self.shares)
        if self.is_in_order:
            return splits.split_in_order(faces, parts, sizes)
        return splits.split_stratified(faces, parts, sizes, seed)


@app.command("preview")
def preview_data(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="CSV or Parquet files, or folders of pictures.")],
    recipe: Annotated[
        str,
        typer.Option(metavar="RECIPE", autocompletion=complete_recipes, help="A recipe's name or a .toml file."),
    ] = "base",
    out: Annotated[Path, typer.Option(help="The .png file to write.")] = Path("mien-out/preview.png"),
    set: Set = [],  # noqa: B006
    split: Annotated[
        str, typer.Option(help="Show faces of this split. Default: those that the recipe trains on.")
    ] = "",
    rows: Annotated[
        int | None, typer.Option(min=1, max=100, help="Number of faces. Default: one of each class.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, max=50, help="Number of augmented copies of each face.")] = 8,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw faces as a recipe augments them: the inputs of the network in training.

    Each row has a face as it is, then augmented copies with mixup and cutmix, normalized. Under blended faces stand the shares
    of the classes in the target.
    """
    require_torch()
    from mien.training.preview import draw_preview, make_preview
    from mien.training.recipe import load_recipe

    refuse_overwrite(out, paths)
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}", "does not end in .png", f"as in --out {out.with_suffix('.png')}")
    settings = load_recipe(recipe, set)
    faces = read_data(paths, size=settings.input.size, skip_bad=skip_bad, quiet=quiet or as_json)
    drawing = make_preview(settings, faces, split=split, rows=rows, copies=copies, seed=seed)
    draw_preview(drawing, settings, out)
    drawn = [str(name) for name in drawing.faces.names]
    described = ", ".join(name for name in drawing.faces.splits if name)
    text = f"wrote {len(drawn):,} faces{f' of {described}' if described else ''} and {copies} copies of each to {out}"
    facts = {"file": str(out), "recipe": settings.name, "faces": drawn, "copies": copies}
    emit(facts, text, as_json=as_json, quiet=quiet)


app.command("crop")(crop)


def _check_ways(ways: list[str], has_other_work: bool) -> None:
    """Raise UsageError unless one way to divide is given, or none where there is other work."""
    if len(ways) > 1 or not (ways or has_other_work):
        raise UsageError(
            "mien data split",
            f"needs one way to divide, and was given {' and '.join(ways) or 'none'}",
            "give --fractions, --sizes, --counts or --official, and --classes or --keep-labels if wanted",
        )


def _parse_numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise UsageError(
            f"'{text}'", "is not a list of numbers", "as in --sizes 800,100,100 or --fractions 0.8,0.1,0.1"
        ) from error


def _parse_sizes(text: str) -> list[int]:
    sizes = _parse_numbers(text, int)
    if min(sizes, default=1) < 1:
        raise UsageError(f"--sizes {text}", "has a part without faces", "give whole numbers above 0")
    return sizes


def _parse_counts(text: str) -> list[dict[str, int]]:
    """Return the classes and their numbers in each part, from a text like ``"angry=500,sad=500;angry=100,sad=100"``."""
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


def _parse_names(text: str, count: int) -> list[str]:
    """Return the first ``count`` of the names; UsageError where one is empty or named twice."""
    parts = [name.strip() for name in text.split(",")]
    if count > len(parts):
        raise UsageError("--names", f"has {len(parts)} names for {count} parts", "name every part")
    if len(set(parts)) < len(parts):
        raise UsageError("--names", f"{text} names a part twice", "give each its own name")
    if not all(parts):
        raise UsageError("--names", f"'{text}' leaves a part without a name", "name every part")
    return parts[:count]


def _output_facts(faces: FaceSet, out: Path) -> dict[str, Any]:
    """Return what --json prints of a written data set."""
    parts = {name: faces.take(faces.split == name) for name in faces.splits}
    splits = {name: {"faces": len(part), "labeled": int(part.is_labeled.sum())} for name, part in parts.items()}
    return {"file": str(out), "faces": len(faces), "skipped": len(faces.skipped), "splits": splits}


def _describe_split(faces: FaceSet, split: str) -> str:
    """Return a split with its numbers, as in ``"train 28,709 (2,871 labeled)"``."""
    part = faces.take(faces.split == split)
    labeled = int(part.is_labeled.sum())
    return f"{split or '(none)'} {len(part):,}" + (f" ({labeled:,} labeled)" if labeled < len(part) else "")


def _read(path: Path, ferplus: Path | None, size: int, skip_bad: bool, labels_by: str) -> FaceSet:
    faces = load_faces(path, ferplus=ferplus, size=size, skip_bad=skip_bad)
    return relabel_faces(faces, resolve_labels_by(labels_by, faces, None))


def _description(faces: FaceSet, facts: dict[str, Any], path: Path) -> str:
    """Return the facts as text, with a table of splits and classes."""
    rows = [["split", *faces.classes, "unlabeled", "all"]]
    for name, counts in facts["splits"].items():
        numbers = [*counts["classes"].values(), counts["unlabeled"], counts["all"]]
        rows.append([name or "(none)", *(f"{number:,}" for number in numbers)])
    if not facts["unlabeled"]:
        rows = [row[:-2] + row[-1:] for row in rows]
    lines = [
        f"{path}: {len(faces):,} faces of {faces.images.shape[2]} x {faces.images.shape[1]} pixels, gray",
        f"  FER+ votes: {'yes' if facts['votes'] else 'no'}; unlabeled: {facts['unlabeled']:,}; "
        f"broken rows skipped: {facts['skipped']:,}",
        format_table(rows, indent="  "),
    ]
    if faces.classes and not any(is_expression(name) for name in faces.classes):
        lines.append("  note: none of the class names is an expression that mien knows (see docs/data.md)")
    return "\n".join(lines + [f"  skipped: {name_options(row)}" for row in faces.skipped[:20]])


def _to_json(faces: FaceSet, path: Path) -> dict[str, Any]:
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

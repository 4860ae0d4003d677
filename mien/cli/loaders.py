"""What several verbs load and check: models, data sets, places to write to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from mien.cli.messages import name_options, print_note
from mien.core.errors import DataError, OutputError, UsageError
from mien.core.labels import CANONICAL
from mien.core.types import FaceSet
from mien.data import load_faces
from mien.data.annotators import ANNOTATORS, relabel_faces
from mien.data.splits import exclude_faces, read_names
from mien.training.scoring.classifiers import LabelInfo, resolve_labels_by


def misplaced_json_error(context: typer.Context) -> UsageError:
    """Return the error for ``--json`` before a verb of a group, where it would be lost."""
    verb = context.invoked_subcommand
    return UsageError("--json", f"stands before '{verb}'", f"write it behind: {context.command_path} {verb} ... --json")


def check_onnx_path(out: Path) -> None:
    """Raise UsageError or OutputError where a model cannot be written: no .onnx, or another text is in place of its card."""
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out {out}", "does not end in .onnx", f"as in --out {out.with_suffix('.onnx')}")
    card = out.with_suffix(".md")
    if card.exists() and not out.exists():
        raise OutputError(card, "is there already without a model beside it: a text of yours?", "choose another --out")


def refuse_overwrite(out: Path, inputs: Iterable[Path], writes: Iterable[str] = ()) -> None:
    """Raise UsageError where an output would replace what it is made from, or lie inside it.

    ``writes``: files in the folder ``out`` that are written and that an input may be.
    """
    target = out.resolve()
    written = {target / name for name in writes}
    for path in (path.resolve() for path in inputs):
        if target == path or (path.is_dir() and path in target.parents):
            raise UsageError(f"--out {out}", f"is, or lies inside, the input {path.name}", "choose another place")
        if path in written:
            problem = f"holds the input {path.name}, in whose place another file would be written"
            raise UsageError(f"--out {out}", problem, "choose another place")


def print_skipped(faces: FaceSet, *, quiet: bool) -> None:
    """Print on stderr how many rows ``--skip-bad`` left out."""
    if faces.skipped:
        print_note(
            f"skipped {len(faces.skipped):,} broken rows; the first: {name_options(faces.skipped[0])}", quiet=quiet
        )


def read_data(
    paths: list[Path],
    *,
    size: int = 48,
    skip_bad: bool = False,
    quiet: bool = False,
    exclude: Path | None = None,
    labels_by: str = "given",
    model: LabelInfo | None = None,
) -> FaceSet:
    """Read a data set with the labels asked for; print on stderr how many rows were skipped or excluded.

    Args:
        size: side in pixels of the faces.
        model: the model that the faces are for. Where ``labels_by`` is "auto" it decides which labels are used.
    """
    faces = load_faces(paths, size=size, skip_bad=skip_bad)
    print_skipped(faces, quiet=quiet)
    source = resolve_labels_by(labels_by, faces, model)
    faces = relabel_faces(faces, source, CANONICAL if model is None else model.labels)
    if source == ANNOTATORS:
        print_note(
            f"{(~faces.is_labeled).sum():,} of {len(faces):,} faces have no label: their annotators disagree, or name no "
            "expression that the model knows",
            quiet=quiet,
        )
    if exclude is not None:
        before = len(faces)
        faces = exclude_faces(faces, read_names(exclude))
        print_note(f"excluded {before - len(faces):,} of {before:,} rows named in {exclude}", quiet=quiet)
    if not len(faces):
        raise DataError(", ".join(map(str, paths)), "has no faces left", "exclude fewer of its rows")
    return faces

"""What several verbs load and check: models, data sets, places to write to."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import typer

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import list_shipped_models
from mien.cli.messages import name_options, print_note
from mien.core.errors import DataError, MissingExtra, OutputError, UsageError
from mien.core.labels import CANONICAL
from mien.core.preprocessing import Preprocessing
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.data import load_faces
from mien.data.annotators import ANNOTATORS, relabel_faces
from mien.data.splits import exclude_faces, read_names

#: Faces that are classified at once.
BATCH = 256


class LabelInfo(Protocol):
    """What a model knows of its labels: their names, and whether the file or the annotators gave those that it learned."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def labels_by(self) -> str: ...


class AnyClassifier(LabelInfo, Protocol):
    """A model file or a run: both know their labels and classify crops."""

    @property
    def preprocessing(self) -> Preprocessing: ...
    def probabilities(self, images: np.ndarray, tta: Any = "none") -> np.ndarray: ...


def misplaced_json_error(context: typer.Context) -> UsageError:
    """Return the error for ``--json`` before a verb of a group, where it would be lost."""
    verb = context.invoked_subcommand
    return UsageError("--json", f"stands before '{verb}'", f"write it behind: {context.command_path} {verb} ... --json")


def require_torch() -> None:
    """Raise MissingExtra with the line that installs torch, where it is absent."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "train", "for training, runs and checkpoints")


def is_run(model: str) -> bool:
    """Return whether MODEL is a run folder or a .pt file, not a model file; a shipped model's name comes first."""
    return model not in list_shipped_models() and (Path(model).is_dir() or Path(model).suffix == ".pt")


def open_classifier(model: str, precision: str = "auto") -> AnyClassifier:
    """Open a shipped model by name, an .onnx file, a run folder or a .pt file; runs are always float."""
    if is_run(model):
        if precision == "int8":
            raise UsageError("--precision int8", f"does not go with the run {model}", "export it, then 'mien finish'")
        require_torch()
        from mien.training.torch_classifier import TorchClassifier, load_run

        return TorchClassifier(load_run(Path(model)))
    return Classifier(model, precision=precision)


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
            found = f"holds the input {path.name}, in whose place another file would be written"
            raise UsageError(f"--out {out}", found, "choose another place")


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


def resolve_labels_by(asked: str, faces: FaceSet, model: LabelInfo | None) -> str:
    """Return ``given`` or ``annotators``; "auto" is what the model learned, if the faces have votes."""
    if asked != "auto":
        return asked
    return model.labels_by if model is not None and faces.votes is not None else "given"


def classify_images(classifier: AnyClassifier, images: np.ndarray, tta: str, *, quiet: bool, title: str) -> np.ndarray:
    """Return the probabilities, float32 (N, K), of crops uint8 (N, H, W) or (N, H, W, 3); show a progress bar."""
    parts = []
    with progress_bar(title, len(images), quiet=quiet) as bar:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            parts.append(classifier.probabilities(batch, tta))
            bar.advance(len(batch), f"{start + len(batch):,} of {len(images):,} faces")
    return np.concatenate(parts)

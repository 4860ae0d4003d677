"""Options that several verbs share, and small helpers for what they print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from mien.core.progress import echo

if TYPE_CHECKING:
    import numpy as np

    from mien.core.errors import UsageError
    from mien.core.preprocessing import Preprocessing
    from mien.core.types import FaceSet

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave broken rows and pictures out, and count them.")]
Data = Annotated[
    list[Path],
    typer.Option("--data", help="A CSV or Parquet file, or a folder of pictures; may be given several times."),
]
Tta = Annotated[str, typer.Option("--tta", help="Average over changed copies of each face: none, flip or ten-crop.")]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="Which file of a shipped model is run: int8, float, or auto: int8 where this processor gains by it.",
    ),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change a setting of the recipe; may be given several times."
    ),
]


def _check_whose(value: str) -> str:
    """UsageError before anything is read."""
    from mien.core.errors import UsageError

    if value not in ("auto", "given", "raters"):
        raise UsageError(f"--labels-by {value}", "is unknown", "choose given or raters")
    return value


LabelsBy = Annotated[
    str,
    typer.Option(
        callback=_check_whose,
        help="Whose labels count: given (the file's own), raters (what more than half of FER+'s raters of a face saw), "
        "or auto: those that the model learned.",
    ),
]
DataLabelsBy = Annotated[
    str,
    typer.Option(
        callback=_check_whose,
        help="Whose labels: given (the file's own), or raters (what more than half of FER+'s raters of a face saw).",
    ),
]
Exclude = Annotated[Path | None, typer.Option(help="A CSV with a column 'path': rows to leave out.")]


class Labeling(Protocol):
    """What a model says of its labels: their names, and whose it learned."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def labels_by(self) -> str: ...


class AnyClassifier(Labeling, Protocol):
    """A model file or a run: both know their labels and classify crops."""

    @property
    def preprocessing(self) -> Preprocessing: ...

    def probabilities(self, images: np.ndarray, tta: Any = "none") -> np.ndarray: ...


def json_too_early(context: typer.Context) -> UsageError:
    """For groups of verbs that list something alone: ``--json`` before a verb would be lost."""
    from mien.core.errors import UsageError

    verb = context.invoked_subcommand
    return UsageError("--json", f"stands before '{verb}'", f"write it behind: {context.command_path} {verb} ... --json")


def require_torch() -> None:
    """MissingExtra with the install line, where torch is not there."""
    from importlib.util import find_spec

    from mien.core.errors import MissingExtra

    if find_spec("torch") is None:
        raise MissingExtra("torch", "train", "for training, runs and checkpoints")


def is_run(model: str) -> bool:
    """Whether MODEL means a run folder or a .pt file, not a model file; a shipped model's name comes first."""
    from mien.analysis.inference.model_file import shipped_models

    return model not in shipped_models() and (Path(model).is_dir() or Path(model).suffix == ".pt")


def open_classifier(model: str, precision: str = "auto") -> AnyClassifier:
    """A shipped model by name, an .onnx file, a run folder or a .pt file; what is trained here is always float."""
    from mien.analysis.inference.classifier import Classifier
    from mien.core.errors import UsageError

    if is_run(model):
        if precision == "int8":
            raise UsageError("--precision int8", f"does not go with the run {model}", "export it, then 'mien finish'")
        require_torch()
        from mien.training.torch_classifier import TorchClassifier, load_run

        return TorchClassifier(load_run(Path(model)))
    return Classifier(model, precision=precision)


def keep_notes(model: Path) -> None:
    """OutputError where the card of a new model file would take the place of a text that is no card: no model lies beside it."""
    from mien.core.errors import OutputError

    card = model.with_suffix(".md")
    if card.exists() and not model.exists():
        raise OutputError(card, "is there already without a model beside it: a text of yours?", "choose another --out")


def refuse_overwrite(out: Path, inputs: Iterable[Path], writes: Iterable[str] = ()) -> None:
    """UsageError where an output would take the place of what it is made from, or lie inside it.

    ``writes``: files in the folder ``out`` that are written and that an input may be.
    """
    from mien.core.errors import UsageError

    target = out.resolve()
    written = {target / name for name in writes}
    for path in (path.resolve() for path in inputs):
        if target == path or (path.is_dir() and path in target.parents):
            raise UsageError(f"--out {out}", f"is, or lies inside, the input {path.name}", "choose another place")
        if path in written:
            found = f"holds the input {path.name}, in whose place another file would be written"
            raise UsageError(f"--out {out}", found, "choose another place")


def tell_skipped(faces: FaceSet, quiet: bool) -> None:
    """A word on stderr about rows that ``--skip-bad`` left out."""
    if faces.skipped and not quiet:
        echo(f"skipped {len(faces.skipped):,} broken rows; the first: {faces.skipped[0]}", error=True)


def read_data(
    paths: list[Path],
    *,
    size: int = 48,
    skip_bad: bool = False,
    quiet: bool = False,
    exclude: Path | None = None,
    labels_by: str = "given",
    model: Labeling | None = None,
) -> FaceSet:
    """The data set with the labels that count, and a word on stderr about rows that were skipped or excluded.

    ``model``: whom the faces are read for; it says whose labels count where ``labels_by`` is "auto".
    """
    from mien.core.errors import DataError
    from mien.core.labels import CANONICAL
    from mien.data import load_faces
    from mien.data.annotators import RATERS, relabel_faces
    from mien.data.splits import exclude_faces, read_names

    faces = load_faces(paths, size=size, skip_bad=skip_bad)
    tell_skipped(faces, quiet)
    whose = whose_labels(labels_by, faces, model)
    faces = relabel_faces(faces, whose, CANONICAL if model is None else model.labels)
    if whose == RATERS and not quiet:
        echo(
            f"{(~faces.is_labeled).sum():,} of {len(faces):,} faces are without a label: their raters are divided, or saw "
            "what is no expression that the model knows",
            error=True,
        )
    if exclude is not None:
        before = len(faces)
        faces = exclude_faces(faces, read_names(exclude))
        if not quiet:
            echo(f"excluded {before - len(faces):,} of {before:,} rows named in {exclude}", error=True)
    if not len(faces):
        raise DataError(", ".join(map(str, paths)), "has no faces left", "exclude fewer of its rows")
    return faces


def whose_labels(asked: str, faces: FaceSet, model: Labeling | None) -> str:
    """``given`` or ``raters``; "auto" means what the model learned, as far as the faces have votes."""
    if asked != "auto":
        return asked
    return model.labels_by if model is not None and faces.votes is not None else "given"


def classify_all(classifier: AnyClassifier, images: np.ndarray, tta: str, *, quiet: bool, title: str) -> np.ndarray:
    """Probabilities float32 (N, K) with a progress bar."""
    import numpy as np

    from mien.core.progress import progress_bar

    parts = []
    with progress_bar(title, len(images), quiet=quiet) as bar:
        for start in range(0, len(images), 256):
            batch = images[start : start + 256]
            parts.append(classifier.probabilities(batch, tta))
            bar.advance(len(batch), f"{start + len(batch):,} of {len(images):,} faces")
    return np.concatenate(parts)


def people_of(text: str) -> int:
    """``--people`` → how many faces are kept; 0: all."""
    from mien.core.errors import UsageError

    named = {"all": 0, "largest": 1}
    if text in named:
        return named[text]
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UsageError(f"--people {text}", "is neither all, largest nor a number from 1", "as in --people 2")
    return int(text)

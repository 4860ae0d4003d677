"""Training and scoring from Python: what `mien train` and `mien evaluate` do, each in one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.inference.classifier import TTA, check_tta
from mien.core.progress import echo
from mien.core.types import FaceSet
from mien.data import load_faces
from mien.data.annotators import relabel_faces
from mien.evaluation.metrics import Scores, score
from mien.training.scoring.classifiers import (
    AnyClassifier,
    classify_images,
    is_run,
    open_classifier,
    require_torch,
    resolve_labels_by,
)
from mien.training.scoring.scored_faces import keep_run_classes, select_scored_faces

if TYPE_CHECKING:
    from torch import nn

    from mien.training.recipe import Recipe

#: A data set: faces, or the files and folders that `load_faces` reads.
FaceSource = FaceSet | str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class TrainingRun:
    """A training that ended.

    folder   the run folder: a model to `mien.evaluate`, and to every command that takes a run
    log      one row for each epoch: ``epoch``, ``loss``, ``accuracy``, ``validation_loss``, ``validation_accuracy``, ...
    scores   on the validation faces, as ``scores.json`` has them
    """

    folder: Path
    log: list[dict[str, Any]]
    scores: dict[str, Any]

    def export(self, path: str | Path, *, license: str = "not stated") -> Path:
        """Write the kept network as a model file, which `Recognizer` takes; return its path, which ends in .onnx.

        Raises ModelError where torch and ONNX Runtime differ by more than 0.001 in a probability.
        """
        from mien.training.release.export import describe_training_faces, export_model
        from mien.training.torch_classifier import load_run

        training = describe_training_faces(self.folder)
        export_model(load_run(self.folder), Path(path), license=license, training=training)
        return Path(path)


def train(
    recipe: str | Path | Mapping[str, Any],
    faces: FaceSource,
    out: str | Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> TrainingRun:
    """Train a network by a recipe, as ``mien train RECIPE --data FACES --out OUT`` does.

    >>> run = mien.train("base", "fer2013.csv", "runs/mine", settings={"schedule.epochs": 3})
    >>> mien.evaluate(run.folder, "fer2013.csv").accuracy

    Args:
        recipe: a shipped recipe's name, a TOML file, or its settings as nested dictionaries.
        faces: a `FaceSet`, or files and folders that `load_faces` reads.
        out: the run folder; None: runs/RECIPE.
        settings: single settings, as in ``{"schedule.epochs": 3}``.
        resume: continue the interrupted run in ``out``; without ``settings`` with the settings it was begun with.
        progress: whether the lines of the console and bars are shown.

    Raises MissingExtra without torch, RecipeError for a setting, DataError for faces that cannot be trained on, OutputError if
    the folder holds another run, TrainingDiverged if the loss becomes NaN or infinite.
    """
    require_torch()
    from mien.training.runs.resume import load_begun_recipe
    from mien.training.train import train as run_training

    say: Callable[[str], None] = echo if progress else _say_nothing
    chosen = _load_recipe(recipe, settings or {})
    folder = Path(out) if out is not None else Path("runs") / chosen.name
    if resume and not settings and (folder / "recipe.toml").is_file():
        chosen = load_begun_recipe(folder, chosen, say)
    loaded = _load(faces, chosen.input.size)
    log = run_training(chosen, loaded, folder, resume=resume, quiet=not progress, echo=say)
    return TrainingRun(folder, log, json.loads((folder / "scores.json").read_text(encoding="utf-8")))


def evaluate(
    model: str | Path | AnyClassifier,
    faces: FaceSource,
    *,
    split: str = "",
    tta: TTA = "none",
    precision: str = "auto",
    labels_by: str = "auto",
    progress: bool = True,
) -> Scores:
    """Return a model's scores on labeled faces, as ``mien evaluate MODEL --data FACES`` computes them; nothing is written.

    >>> scores = mien.evaluate("base", "fer2013.csv")
    >>> print(scores)

    Args:
        model: a shipped model's name, an .onnx file, a run folder or a .pt file; or a classifier that is open already, as
            ``recognizer.classifier``.
        faces: a `FaceSet`, or files and folders that `load_faces` reads.
        split: score this split; "": the test split, else the validation split, else what a run held out, else all.
        tta: "none", "flip" or "ten-crop".
        precision: "auto", "float" or "int8" of a shipped model.
        labels_by: "given", "annotators" (FER+), or "auto": as the model was trained.
        progress: whether a bar is shown.

    Raises ModelError for a model, DataError for faces without labels or of classes that the model does not know.
    """
    check_tta(tta)
    named = isinstance(model, (str, Path))
    name = str(model) if isinstance(model, (str, Path)) else ""
    classifier = open_classifier(name, precision) if isinstance(model, (str, Path)) else model
    loaded = _load(faces, classifier.preprocessing.size)
    loaded = relabel_faces(loaded, resolve_labels_by(labels_by, loaded, classifier), classifier.labels)
    if named:
        loaded = keep_run_classes(name, loaded, echo if progress else _say_nothing)
    run = Path(name) if named and is_run(name) else None
    chosen = select_scored_faces(loaded, split, [], run).faces.reindex_classes(classifier.labels)
    probabilities = classify_images(classifier, chosen.images, tta, quiet=not progress, title="evaluate")
    return score(probabilities, chosen.labels, classifier.labels)


def load_model(model: str | Path) -> nn.Module:
    """Return the torch network of a shipped model, a float model file, a run folder or a .pt file, in evaluation mode.

    ``network.features`` returns (N, D) of images float32 (N, C, S, S), ``network.head`` logits (N, K) of these. Raises MissingExtra
    without torch, ModelError for a file that is quantized or from another program.
    """
    require_torch()
    from mien.training.torch_classifier import open_trained_model

    return open_trained_model(model).network


def _load_recipe(recipe: str | Path | Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
    from mien.training.recipe import load_recipe, override_settings, parse_recipe

    overrides = [f"{key}={_format_setting(value)}" for key, value in settings.items()]
    if isinstance(recipe, (str, Path)):
        return load_recipe(recipe, overrides)
    values = override_settings(json.loads(json.dumps({"name": "run"} | dict(recipe))), overrides)
    return parse_recipe(values, "the recipe")


def _format_setting(value: Any) -> str:
    """Return a value as the text that ``--set`` takes: TOML, whose texts, lists, numbers and truth values are those of JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _load(faces: FaceSource, size: int) -> FaceSet:
    if isinstance(faces, FaceSet):
        return faces
    paths = [faces] if isinstance(faces, (str, Path)) else list(faces)
    return load_faces([Path(path) for path in paths], size=size)


def _say_nothing(text: str) -> None:
    """Show nothing."""

"""`mien explain`: maps of the pixels that decide, and checks of these maps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from mien.analysis.detection.detectors import detect_faces, make_detector
from mien.analysis.detection.framing import crop_faces
from mien.analysis.media.inputs import list_inputs
from mien.cli.loaders import read_data, refuse_overwrite
from mien.cli.messages import emit, format_error, format_table, print_error
from mien.cli.options import Detector, DetectorModel, Json, Model, OutFolder, Quiet, Seed, SkipBad, Split
from mien.core.errors import DataError, MediaError, MienError, MissingExtra, UsageError
from mien.core.files import make_folder
from mien.core.labels import normalize_label
from mien.core.pictures import read_picture
from mien.core.preprocessing import Preprocessing
from mien.training.scoring.classifiers import require_torch

if TYPE_CHECKING:
    from mien.explanation.study import ExplainedFaces, Findings
    from mien.training.runs.checkpoint import TrainedModel

OptionalData = Annotated[
    list[Path],
    typer.Option("--data", help="A CSV or Parquet file, or a folder of pictures; repeat it for several."),
]

Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="A list of gradient, normalized-gradient, smoothgrad, integrated-gradients, grad-cam, "
        "guided-backprop, occlusion, lime; or all.",
    ),
]

DEFAULT_METHODS = "gradient,integrated-gradients,grad-cam,occlusion"


def explain(
    model: Model,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="Pictures or folders of them; or use --data.")
    ] = None,
    method: Method = DEFAULT_METHODS,
    target: Annotated[str, typer.Option(help="The class to explain. Default: the predicted class of each face.")] = "",
    out: OutFolder = Path("mien-out"),
    data: OptionalData = [],  # noqa: B006
    split: Split = "",
    per_class: Annotated[int, typer.Option(min=1, help="Number of faces of each class: the first of the data.")] = 4,
    detector: Detector = "auto",
    detector_model: DetectorModel = None,
    layer: Annotated[str, typer.Option(help="Layer for Grad-CAM. Default: the last feature map.")] = "",
    keep: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the pixels that stay visible in masked.png.")
    ] = 0.25,
    no_sanity: Annotated[
        bool,
        typer.Option("--no-sanity", help="Leave out the curves and the sanity checks, which take most of the time."),
    ] = False,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Show which pixels of a face decide, and check whether the maps can be trusted.

    Writes explain.html, which has everything; explain.png (faces x methods); masked.png (the most important pixels);
    curves.png (deletion and insertion, compared with random maps); regions.png (the assumed places of eyes, brows, nose and
    mouth); and explain.json. LIME needs captum: pip install 'mien[explain]'; the page needs 'mien[report]'.
    """
    require_torch()
    from mien.explanation.gallery import write_explanation
    from mien.explanation.guard import find_module
    from mien.explanation.study import parse_methods, run_study
    from mien.training.torch_classifier import open_trained_model

    methods = parse_methods(method)
    if bool(inputs) == bool(data):
        raise UsageError(
            "mien explain", "needs pictures or --data, and one of them alone", "as in mien explain base photo.jpg"
        )
    if layer and "grad-cam" not in methods:
        raise UsageError("--layer", "is Grad-CAM's", "add --method grad-cam")
    require_extras(methods)
    refuse_overwrite(out, [*map(Path, inputs or []), *data])
    trained = open_trained_model(model)
    target = _resolve_target(trained.classes, target)
    if layer:
        find_module(trained.network, layer)
    silent = quiet or as_json
    failures: list[str] = []
    if data:
        crops = _read_data_faces(data, split, per_class, trained, skip_bad, silent)
    else:
        crops, failures = _read_picture_faces(inputs or [], trained.preprocessing, detector, detector_model, out)
        if not len(crops[0]):
            return 2
    faces = _make_faces(trained, *crops, target)
    make_folder(out)
    options = {"grad-cam": {"layer": layer}} if layer else {}
    results = run_study(
        trained.network, faces, methods, options=options, sanity=not no_sanity, temperature=trained.temperature,
        seed=seed, quiet=silent,
    )  # fmt: skip
    paths = write_explanation(out, trained.name, faces, results, keep=keep)
    emit(
        json.loads((out / "explain.json").read_text(encoding="utf-8")),
        _summary(faces, results, paths),
        as_json=as_json,
        quiet=quiet,
    )
    if failures:
        print_error(f"{len(failures)} of the inputs failed; the rest is done")
    return 1 if failures else 0


def require_extras(methods: list[str]) -> None:
    """Raise MissingExtra before minutes of work, not after them."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("jinja2", "report", "to write pages")
    if "lime" in methods and importlib.util.find_spec("captum") is None:
        raise MissingExtra("captum", "explain", "for LIME; the other methods do without")


def _resolve_target(classes: tuple[str, ...], target: str) -> str:
    """Return the class that ``target`` names, also by a synonym; UsageError for an unknown one."""
    if not target or target in classes:
        return target
    if normalize_label(target) in classes:
        return normalize_label(target)
    raise UsageError(f"--target {target}", "is no class of this model", f"choose one of {', '.join(classes)}")


def _read_data_faces(
    data: list[Path], split: str, per_class: int, trained: TrainedModel, skip_bad: bool, quiet: bool
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return (pictures, names, truths) of the first faces of every class."""
    from mien.training.torch_classifier import TorchClassifier

    model, size = TorchClassifier(trained), trained.preprocessing.size
    faces = read_data(data, size=size, skip_bad=skip_bad, quiet=quiet, labels_by="auto", model=model)
    faces = (faces.select_split(split) if split else faces).reindex_classes(trained.classes)
    if not faces.is_labeled.any():
        raise DataError(data[0], "has no labels to choose faces of every class by", "name the pictures themselves")
    rows = [np.flatnonzero(faces.labels == label)[:per_class] for label in range(len(faces.classes))]
    chosen = faces.take(np.concatenate(rows))
    return chosen.images, chosen.names.tolist(), chosen.labels


def _read_picture_faces(
    inputs: list[str], preprocessing: Preprocessing, detector: str, detector_model: Path | None, out: Path
) -> tuple[tuple[np.ndarray, list[str], np.ndarray], list[str]]:
    """Return ((pictures, names, truths), messages of failures) of the faces in picture files, cropped for the network."""
    finder = make_detector(detector, detector_model)
    parts, names, failures = [], [], []
    for item in list_inputs(inputs, out):
        try:
            if isinstance(item, MediaError):
                raise item
            if item.is_stream or item.is_video:
                raise MediaError(item.name, "is no picture", "name pictures, or folders of them")
            crops = crop_picture_faces(Path(item.path), finder, preprocessing)
        except MienError as error:
            failures.append(format_error(error))
            print_error(failures[-1])
            continue
        parts.append(crops)
        file_name = Path(item.path).name
        names += [file_name if len(crops) == 1 else f"{file_name} {number}" for number in range(len(crops))]
    pictures = np.concatenate(parts) if parts else np.empty((0, preprocessing.size, preprocessing.size), np.uint8)
    return (pictures, names, np.full(len(pictures), -1)), failures


def crop_picture_faces(path: Path, finder: Any, preprocessing: Preprocessing) -> np.ndarray:
    """Return the faces of a picture file, uint8 (N, S, S[, 3]), cropped for the network; MediaError where there is none."""
    picture = read_picture(path)
    boxes = detect_faces(finder, picture).boxes_xyxy
    if not len(boxes):
        raise MediaError(path, "shows no face that the detector finds", "if it is itself a face, use --detector none")
    return preprocessing.convert_color(crop_faces(picture, boxes, finder.framing, preprocessing.size))


def _make_faces(
    trained: TrainedModel, pictures: np.ndarray, names: list[str], truths: np.ndarray, target: str
) -> ExplainedFaces:
    import torch

    from mien.explanation.study import ExplainedFaces
    from mien.training.torch_classifier import TorchClassifier

    probabilities = TorchClassifier(trained).probabilities(pictures)
    targets = np.full(len(pictures), trained.classes.index(target)) if target else probabilities.argmax(axis=1)
    return ExplainedFaces(
        pictures=trained.preprocessing.convert_color(pictures),
        inputs=torch.from_numpy(trained.preprocessing.to_tensor(pictures)),
        names=names,
        truths=truths,
        probabilities=probabilities,
        targets=targets,
        classes=trained.classes,
    )


def _summary(faces: ExplainedFaces, results: Findings, paths: list[Path]) -> str:
    """Return the predictions of a few faces, and the tables of curves and of parts of the face."""
    from mien.explanation.gallery import make_sanity_rows, make_share_rows

    lines = []
    for index in range(len(faces)) if len(faces) <= 10 else ():
        label, target = faces.classes[faces.predicted[index]], faces.classes[faces.targets[index]]
        lines.append(f"{faces.names[index]}: {label} {faces.probabilities[index].max():.0%}, explained for {target}")
    if results.curves:
        heads, rows = make_sanity_rows(results, len(faces))
        lines.append("\nareas under the deletion (small is good) and insertion (large is good) curves")
        lines.append(format_table([heads, *rows]))
    heads, rows = make_share_rows(results, faces.pictures.shape[1])
    lines.append("\npercentage of each map on each part of the face")
    lines.append(format_table([heads, *rows]))
    return "\n".join([*lines, "\nwrote " + ", ".join(map(str, paths))])

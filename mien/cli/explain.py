"""`mien explain` and `mien filters`: what in a face decides, and what filters answer to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli.messages import format_error as in_words
from mien.cli.messages import print_error
from mien.cli.options import Json, Quiet, SkipBad, read_data, refuse_overwrite, require_torch
from mien.cli.training import Model
from mien.core.progress import echo

if TYPE_CHECKING:
    import numpy as np

    from mien.core.preprocessing import Preprocessing
    from mien.core.types import FaceSet
    from mien.explanation.filter_pages import FilterStudy
    from mien.explanation.study import Faces, Findings
    from mien.training.checkpoint import Trained

DetectorName = Annotated[
    str,
    typer.Option(
        "--detector",
        help="For pictures: auto (yunet if it was pulled, else haar), haar, yunet, or none: the picture is a face.",
    ),
]
DetectorModel = Annotated[Path | None, typer.Option("--detector-model", help="A YuNet file of your own.")]
OptionalData = Annotated[
    list[Path],
    typer.Option("--data", help="A CSV or Parquet file, or a folder of pictures; may be given several times."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything that is random.")]

DEFAULT_METHODS = "gradient,integrated-gradients,grad-cam,occlusion"


def explain(
    model: Model,
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT", help="Pictures, or folders of them; or use --data.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="A list of gradient, normalized-gradient, smoothgrad, integrated-gradients, grad-cam, "
            "guided-backprop, occlusion, lime; or all."
        ),
    ] = DEFAULT_METHODS,
    target: Annotated[str, typer.Option(help="The class to explain; default: for each face the predicted one.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("mien-out"),
    data: OptionalData = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="Take the faces from this split of the data.")] = "",
    per_class: Annotated[int, typer.Option(min=1, help="How many faces of every class: the first of the data.")] = 4,
    detector: DetectorName = "auto",
    detector_model: DetectorModel = None,
    layer: Annotated[str, typer.Option(help="Grad-CAM's layer; default: the last feature map.")] = "",
    keep: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the pixels that masked.png keeps.")] = 0.25,
    no_sanity: Annotated[
        bool, typer.Option("--no-sanity", help="Leave out the curves and the controls, which cost most of the time.")
    ] = False,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Show which pixels of a face speak for an expression, and whether that can be believed.

    Writes explain.html with everything in it; explain.png (faces x methods), masked.png (the pixels that matter most),
    curves.png (deletion and insertion against random maps), regions.png (where eyes, brows, nose and mouth are taken to
    be) and explain.json. LIME needs captum: pip install 'mien[explain]'; the page needs 'mien[report]'.
    """
    require_torch()
    from mien.core.errors import UsageError
    from mien.core.files import make_folder
    from mien.explanation.gallery import write_all
    from mien.explanation.guard import module_of
    from mien.explanation.study import parse_methods, study
    from mien.training.torch_classifier import open_trained

    methods = parse_methods(method)
    if bool(inputs) == bool(data):
        raise UsageError(
            "mien explain", "needs pictures or --data, and one of them alone", "as in mien explain base photo.jpg"
        )
    if layer and "grad-cam" not in methods:
        raise UsageError("--layer", "is Grad-CAM's", "add --method grad-cam")
    _need_for(methods)
    refuse_overwrite(out, [*map(Path, inputs or []), *data])
    trained = open_trained(model)
    target = _target_among(trained.classes, target)
    if layer:
        module_of(trained.network, layer)
    silent = quiet or as_json
    if data:
        found, failures = _from_data(data, split, per_class, trained, skip_bad, silent), []
    else:
        found, failures = _from_pictures(inputs or [], trained.preprocessing, detector, detector_model, out)
        if not len(found[0]):
            return 2
    faces = _as_faces(trained, *found, target)
    make_folder(out)
    options = {"grad-cam": {"layer": layer}} if layer else {}
    results = study(
        trained.network, faces, methods, options=options, sanity=not no_sanity, temperature=trained.temperature,
        seed=seed, quiet=silent,
    )  # fmt: skip
    paths = write_all(out, trained.name, faces, results, keep=keep)
    if as_json:
        echo((out / "explain.json").read_text(encoding="utf-8").rstrip())
    elif not quiet:
        _print(faces, results, paths)
    if failures:
        print_error(f"{len(failures)} of the inputs failed; the rest is done")
    return 1 if failures else 0


def _need_for(methods: list[str]) -> None:
    """What is missing is said before minutes of work, not after them."""
    from importlib.util import find_spec

    from mien.core.errors import MissingExtra

    if find_spec("jinja2") is None:
        raise MissingExtra("jinja2", "report", "to write pages")
    if "lime" in methods and find_spec("captum") is None:
        raise MissingExtra("captum", "explain", "for LIME; the other methods do without")


def _target_among(classes: tuple[str, ...], target: str) -> str:
    """The class that is meant, also by a synonym; UsageError where there is none."""
    from mien.core.errors import UsageError
    from mien.core.labels import normalize_label

    if not target or target in classes:
        return target
    if normalize_label(target) in classes:
        return normalize_label(target)
    raise UsageError(f"--target {target}", "is no class of this model", f"choose one of {', '.join(classes)}")


def _from_data(
    data: list[Path], split: str, per_class: int, trained: Trained, skip_bad: bool, quiet: bool
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """(pictures, names, truths): the first faces of every class."""
    import numpy as np

    from mien.core.errors import DataError
    from mien.training.torch_classifier import TorchClassifier

    model, size = TorchClassifier(trained), trained.preprocessing.size
    faces = read_data(data, size=size, skip_bad=skip_bad, quiet=quiet, labels_by="auto", model=model)
    faces = (faces.select_split(split) if split else faces).reindex_classes(trained.classes)
    if not faces.is_labeled.any():
        raise DataError(data[0], "has no labels to choose faces of every class by", "name the pictures themselves")
    rows = [np.flatnonzero(faces.labels == label)[:per_class] for label in range(len(faces.classes))]
    chosen = faces.take(np.concatenate(rows))
    return chosen.images, chosen.names.tolist(), chosen.labels


def _from_pictures(
    inputs: list[str], preprocessing: Preprocessing, detector: str, detector_model: Path | None, out: Path
) -> tuple[tuple[np.ndarray, list[str], np.ndarray], list[str]]:
    """((pictures, names, truths), what failed): the faces of picture files, cut as the network knows them."""
    import numpy as np

    from mien.analysis.detection.detectors import make_detector
    from mien.analysis.media.inputs import list_inputs
    from mien.core.errors import MediaError, MienError

    finder = make_detector(detector, detector_model)
    parts, names, failures = [], [], []
    for item in list_inputs(inputs, out):
        try:
            if isinstance(item, MediaError):
                raise item
            if item.is_video:
                raise MediaError(item.name, "is no picture", "name pictures, or folders of them")
            crops = faces_of(item.path, finder, preprocessing)
        except MienError as error:
            failures.append(in_words(error))
            print_error(failures[-1])
            continue
        parts.append(crops)
        names += [item.path.name if len(crops) == 1 else f"{item.path.name} {n}" for n in range(len(crops))]
    pictures = np.concatenate(parts) if parts else np.empty((0, preprocessing.size, preprocessing.size), np.uint8)
    return (pictures, names, np.full(len(pictures), -1)), failures


def faces_of(path: Path, finder: Any, preprocessing: Preprocessing) -> np.ndarray:
    """The faces of one picture file, uint8 (N, S, S[, 3]) as the network reads them; MediaError where there is none."""

    from mien.analysis.detection.detectors import crop_faces, detect_faces
    from mien.core.errors import MediaError
    from mien.core.pictures import read_picture

    picture = read_picture(path)
    boxes = detect_faces(finder, picture).boxes_xyxy
    if not len(boxes):
        raise MediaError(path, "shows no face that the detector finds", "if it is itself a face, use --detector none")
    return preprocessing.convert_color(crop_faces(picture, boxes, finder.framing, preprocessing.size))


def _as_faces(trained: Trained, pictures: np.ndarray, names: list[str], truths: np.ndarray, target: str) -> Faces:
    import numpy as np
    import torch

    from mien.explanation.study import Faces
    from mien.training.torch_classifier import TorchClassifier

    probabilities = TorchClassifier(trained).probabilities(pictures)
    targets = np.full(len(pictures), trained.classes.index(target)) if target else probabilities.argmax(axis=1)
    return Faces(
        pictures=trained.preprocessing.convert_color(pictures),
        inputs=torch.from_numpy(trained.preprocessing.to_tensor(pictures)),
        names=names,
        truths=truths,
        probabilities=probabilities,
        targets=targets,
        classes=trained.classes,
    )


def _print(faces: Faces, results: Findings, paths: list[Path]) -> None:
    from mien.explanation.gallery import sanity_rows, share_rows

    for index in range(len(faces)) if len(faces) <= 10 else ():
        label = faces.classes[faces.predicted[index]]
        words = f"{faces.names[index]}: {label} {faces.probabilities[index].max():.0%}"
        echo(words + f", explained for {faces.classes[faces.targets[index]]}")
    if results.curves:
        echo("\nareas under the deletion (small is good) and insertion (large is good) curves")
        print_table(*sanity_rows(results, len(faces)))
    echo("\nper cent of each map on each part of the face")
    print_table(*share_rows(results, faces.pictures.shape[1]))
    echo("\nwrote " + ", ".join(str(path) for path in paths))


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    """Plain columns, the first one to the left and all others to the right."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        echo("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())


def filters(
    model: Model,
    layer: Annotated[str, typer.Option(help="A convolution; without it, the convolutions are listed.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("mien-out"),
    count: Annotated[str, typer.Option(help="How many filters: the first of the layer, or all.")] = "16",
    picture: Annotated[
        Path | None, typer.Option(help="Show the outputs for the first face of this picture; default: for white noise.")
    ] = None,
    data: OptionalData = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="Take the faces from this split of the data.")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient ascent.")] = 64,
    detector: DetectorName = "auto",
    detector_model: DetectorModel = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what the filters of a layer answer to.

    Writes filters.html with everything in it: the filters' weights; the outputs of the layer and of every block for a
    picture or for noise; pictures made by gradient ascent from white noise, by plain steps and by regularized ones;
    with --data the faces that excite each filter most. Each is a PNG too, and the numbers are in filters.json.
    """
    require_torch()
    from mien.core.files import make_folder
    from mien.explanation.filter_pages import activation_rows, write_filters
    from mien.explanation.filters import conv_of
    from mien.training.torch_classifier import open_trained

    _need_for([])
    trained = open_trained(model)
    if not layer:
        _list_layers(trained, as_json)
        return
    convolution = conv_of(trained.network, layer)
    chosen = _chosen(count, convolution.out_channels)
    refuse_overwrite(out, [*([picture] if picture else []), *data])
    given = _given(trained, picture, detector, detector_model, seed)
    faces = read_data(data, size=trained.preprocessing.size, quiet=quiet or as_json) if data else None
    faces = faces.select_split(split) if faces is not None and split else faces
    study = _study_filters(trained, layer, chosen, given, steps, seed, quiet or as_json)
    if faces is not None:
        _add_faces(study, trained, faces, quiet or as_json)
    make_folder(out)
    paths = write_filters(out, study)
    if as_json:
        echo((out / "filters.json").read_text(encoding="utf-8").rstrip())
    elif not quiet:
        print_table(*activation_rows(study))
        echo(f"\nwrote {len(paths)} files: {paths[0]}, ...")


def _list_layers(trained: Trained, as_json: bool) -> None:
    """The convolutions, one line each."""
    from dataclasses import asdict

    from mien.core.errors import UsageError
    from mien.explanation.filters import conv_layers, normalize, white_noise

    found = conv_layers(trained.network, normalize(white_noise(1, trained.preprocessing), trained.preprocessing))
    if not found:
        raise UsageError(trained.name, "has no convolution", "choose a network that has")
    if as_json:
        echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    rows = [
        [each.name, str(each.filters), str(each.inputs), *("x".join(map(str, n)) for n in (each.kernel, each.fineness))]
        for each in found
    ]
    print_table(["layer", "filters", "inputs", "kernel", "output"], rows)


def _chosen(count: str, everything: int) -> list[int]:
    from mien.core.errors import UsageError

    if count != "all" and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UsageError(f"--count {count}", "is neither a number from 1 nor all", "as in --count 64")
    return list(range(everything if count == "all" else min(int(count), everything)))


def _given(
    trained: Trained, picture: Path | None, detector: str, detector_model: Path | None, seed: int
) -> tuple[np.ndarray, str]:
    """(uint8 (S, S[, 3]), what it is): the first face of a picture, or white noise."""
    import numpy as np

    from mien.analysis.detection.detectors import make_detector
    from mien.explanation.filters import white_noise

    if picture is not None:
        finder = make_detector(detector, detector_model)
        return faces_of(picture, finder, trained.preprocessing)[0], picture.name
    noise = white_noise(1, trained.preprocessing, seed, spread=0.2)[0]
    gray = np.round(255 * noise.clamp(0, 1).numpy()).astype(np.uint8)
    return gray.transpose(1, 2, 0) if trained.preprocessing.color else gray[0], "white noise"


def _study_filters(
    trained: Trained, layer: str, chosen: list[int], given: tuple[np.ndarray, str], steps: int, seed: int, quiet: bool
) -> FilterStudy:
    import torch

    from mien.core.progress import progress_bar
    from mien.explanation.filter_pages import FilterStudy
    from mien.explanation.filters import Regularization, ascend, block_outputs, conv_of, layer_output, standardized

    network, preprocessing = trained.network, trained.preprocessing
    image = torch.from_numpy(preprocessing.to_tensor(given[0][None]))
    made, activations = {}, {}
    for rule, regularization in (("plain", None), ("regularized", Regularization())):
        with progress_bar(f"{rule} ascent", len(chosen), quiet=quiet) as bar:
            pictures, activations[rule] = ascend(
                network, layer, chosen, preprocessing, regularization=regularization, steps=steps, seed=seed,
                advance=bar.advance,
            )  # fmt: skip
        made[rule] = standardized(pictures).mean(axis=1)
    return FilterStudy(
        model=trained.name,
        layer=layer,
        filters=chosen,
        weights=conv_of(network, layer).weight.detach().numpy(),
        given=given[0],
        source=given[1],
        blocks=block_outputs(network, image),
        output=layer_output(network, image, layer),
        made=made,
        activations=activations,
    )


def _add_faces(study: FilterStudy, trained: Trained, faces: FaceSet, quiet: bool) -> None:
    """The faces of a data set that excite each filter most."""
    from mien.core.progress import progress_bar
    from mien.explanation.filters import most_exciting

    with progress_bar("faces", len(faces), quiet=quiet) as bar:
        rows, study.exciting = most_exciting(
            trained.network, study.layer, study.filters, faces.images, trained.preprocessing, advance=bar.advance
        )
    study.faces = faces.images[rows]
    study.names = [[str(name) for name in names] for names in faces.names[rows]]

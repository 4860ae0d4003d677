"""`mien filters`: what the filters of a layer respond to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from mien.analysis.detection.detectors import make_detector
from mien.cli.loaders import read_data, refuse_overwrite
from mien.cli.options import Detector, DetectorModel, Json, Model, OutFolder, Quiet, Seed, Split
from mien.core.errors import UsageError
from mien.core.files import make_folder
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.explanation.filter_pages import FilterStudy, make_activation_rows, write_filter_study
from mien.training.scoring.classifiers import require_torch

if TYPE_CHECKING:
    from mien.training.runs.checkpoint import TrainedModel

from mien.cli.explain import OptionalData, crop_picture_faces, require_extras
from mien.cli.messages import emit, format_table


def filters(
    model: Model,
    layer: Annotated[str, typer.Option(help="Name of a convolution. Default: list the convolutions.")] = "",
    out: OutFolder = Path("mien-out"),
    count: Annotated[str, typer.Option(help="Number of filters: the first of the layer, or all.")] = "16",
    picture: Annotated[
        Path | None, typer.Option(help="Show the outputs for the first face of this picture. Default: for white noise.")
    ] = None,
    data: OptionalData = [],  # noqa: B006
    split: Split = "",
    steps: Annotated[int, typer.Option(min=1, help="Steps of gradient ascent.")] = 64,
    detector: Detector = "auto",
    detector_model: DetectorModel = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what the filters of a layer respond to.

    Writes filters.html: the weights of the filters; the outputs of the layer and of every block for a picture or for noise;
    pictures made by gradient ascent from white noise, with and without regularization; and with --data the faces that
    activate each filter most. Each is a PNG too, and the numbers are in filters.json.
    """
    require_torch()
    from mien.explanation.filters import find_convolution
    from mien.training.torch_classifier import open_trained_model

    require_extras([])
    trained = open_trained_model(model)
    if not layer:
        _print_layers(trained, as_json)
        return
    convolution = find_convolution(trained.network, layer)
    chosen = _parse_count(count, convolution.out_channels)
    refuse_overwrite(out, [*([picture] if picture else []), *data])
    shown = _load_picture(trained, picture, detector, detector_model, seed)
    faces = read_data(data, size=trained.preprocessing.size, quiet=quiet or as_json) if data else None
    faces = faces.select_split(split) if faces is not None and split else faces
    study = _study_filters(trained, layer, chosen, shown, steps, seed, quiet or as_json)
    if faces is not None:
        _add_faces(study, trained, faces, quiet or as_json)
    make_folder(out)
    paths = write_filter_study(out, study)
    heads, rows = make_activation_rows(study)
    text = f"{format_table([heads, *rows])}\n\nwrote {len(paths)} files: {paths[0]}, ..."
    emit(json.loads((out / "filters.json").read_text(encoding="utf-8")), text, as_json=as_json, quiet=quiet)


def _print_layers(trained: TrainedModel, as_json: bool) -> None:
    """Print the convolutions, one line each."""
    from mien.explanation.filters import list_convolutions, make_white_noise
    from mien.training.preparation import normalize

    layers = list_convolutions(
        trained.network, normalize(make_white_noise(1, trained.preprocessing), trained.preprocessing)
    )
    if not layers:
        raise UsageError(trained.name, "has no convolution", "choose a network that has")
    rows = [["layer", "filters", "inputs", "kernel", "output"]]
    rows += [
        [
            each.name,
            str(each.filters),
            str(each.inputs),
            *("x".join(map(str, n)) for n in (each.kernel, each.resolution)),
        ]
        for each in layers
    ]
    emit([asdict(each) for each in layers], format_table(rows), as_json=as_json)


def _parse_count(count: str, everything: int) -> list[int]:
    if count != "all" and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UsageError(f"--count {count}", "is neither a number from 1 nor all", "as in --count 64")
    return list(range(everything if count == "all" else min(int(count), everything)))


def _load_picture(
    trained: TrainedModel, picture: Path | None, detector: str, detector_model: Path | None, seed: int
) -> tuple[np.ndarray, str]:
    """(uint8 (S, S[, 3]), what it is): the first face of a picture, or white noise."""
    from mien.explanation.filters import make_white_noise

    if picture is not None:
        finder = make_detector(detector, detector_model)
        return crop_picture_faces(picture, finder, trained.preprocessing)[0], picture.name
    noise = make_white_noise(1, trained.preprocessing, seed, spread=0.2)[0]
    gray = np.round(255 * noise.clamp(0, 1).numpy()).astype(np.uint8)
    return gray.transpose(1, 2, 0) if trained.preprocessing.color else gray[0], "white noise"


def _study_filters(
    trained: TrainedModel,
    layer: str,
    chosen: list[int],
    shown: tuple[np.ndarray, str],
    steps: int,
    seed: int,
    quiet: bool,
) -> FilterStudy:
    import torch

    from mien.explanation.filters import (
        Regularization,
        compute_block_outputs,
        compute_layer_output,
        find_convolution,
        maximize_activations,
        standardize_pictures,
    )

    network, preprocessing = trained.network, trained.preprocessing
    image = torch.from_numpy(preprocessing.to_tensor(shown[0][None]))
    ascents, activations = {}, {}
    for rule, regularization in (("plain", None), ("regularized", Regularization())):
        with progress_bar(f"{rule} ascent", len(chosen), quiet=quiet) as bar:
            pictures, activations[rule] = maximize_activations(
                network, layer, chosen, preprocessing, regularization=regularization, steps=steps, seed=seed,
                advance=bar.advance,
            )  # fmt: skip
        ascents[rule] = standardize_pictures(pictures).mean(axis=1)
    return FilterStudy(
        model=trained.name,
        layer=layer,
        filters=chosen,
        weights=find_convolution(network, layer).weight.detach().numpy(),
        input_picture=shown[0],
        source=shown[1],
        blocks=compute_block_outputs(network, image),
        output=compute_layer_output(network, image, layer),
        ascents=ascents,
        activations=activations,
    )


def _add_faces(study: FilterStudy, trained: TrainedModel, faces: FaceSet, quiet: bool) -> None:
    """The faces of a data set that excite each filter most."""
    from mien.explanation.filters import find_strongest_pictures

    with progress_bar("faces", len(faces), quiet=quiet) as bar:
        rows, study.face_activations = find_strongest_pictures(
            trained.network, study.layer, study.filters, faces.images, trained.preprocessing, advance=bar.advance
        )
    study.faces = faces.images[rows]
    study.names = [[str(name) for name in names] for names in faces.names[rows]]

"""`mien ensemble` and `mien average`: several models as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mien.analysis.inference.classifier import check_tta
from mien.cli.completion import complete_models
from mien.cli.loaders import check_onnx_path, read_data, refuse_overwrite
from mien.cli.messages import emit, print_note
from mien.cli.options import Data, Exclude, Json, LabelsBy, License, Quiet, SkipBad, Tta
from mien.core.errors import ModelError, UsageError
from mien.core.files import write_text
from mien.core.types import FaceSet
from mien.training.scoring.classifiers import classify_images, require_torch

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        autocompletion=complete_models,
        help="Two or more models: names, .onnx files, run folders or .pt files.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        help="How the weights are chosen: likelihood (maximized directly), grid (in tenths, by accuracy), equal, or numbers as "
        "in 0.1,0.3,0.6.",
    ),
]


def ensemble(
    models: Models,
    data: Data,
    out: Annotated[Path, typer.Option(help="The .onnx file to write; its card is written beside it as .md.")],
    split: Annotated[str, typer.Option(help="Split whose faces choose the weights.")] = "validation",
    weights: Weights = "likelihood",
    tta: Tta = "none",
    name: Annotated[str, typer.Option(help="The ensemble's name. Default: that of the file.")] = "",
    license: License = "not stated",
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Combine models into one file that averages their probabilities.

    The weights sum to one and are chosen on validation faces, in each of three ways. The table also shows the score of each way
    on faces that did not choose (each half with the weights of the other half). Score the file on other faces with
    'mien evaluate'.
    """
    require_torch()
    from mien.training.release.ensemble import WEIGHTINGS, format_weightings, join_models, score_weightings
    from mien.training.release.export import export_model
    from mien.training.torch_classifier import TorchClassifier, open_trained_model

    silent = quiet or as_json
    check_tta(tta)
    _check_names(models, data, out)
    check_onnx_path(out)
    numbers = None if weights in WEIGHTINGS else _parse_weights(weights, len(models))
    members = [open_trained_model(model) for model in models]
    _check_classes(models, [member.classes for member in members])
    faces = read_data(
        data,
        size=members[0].preprocessing.size,
        skip_bad=skip_bad,
        quiet=silent,
        exclude=exclude,
        labels_by=labels_by,
        model=TorchClassifier(members[0]),
    )
    faces, split = _select_choosing_faces(faces, split, quiet=silent)
    joined = join_models(members, [1 / len(members)] * len(members), name or out.stem)  # refuses what does not fit
    faces = faces.take(faces.is_labeled).reindex_classes(members[0].classes)
    if len(faces) < 2:
        problem = f"has {len(faces)} labeled faces to choose weights by"
        raise UsageError(", ".join(map(str, data)), problem, "give more of them")
    classifiers = zip(map(TorchClassifier, members), models, strict=True)
    probabilities = np.stack(
        [classify_images(member, faces.images, tta, quiet=silent, title=model) for member, model in classifiers]
    )  # (M, N, K)
    table = score_weightings(models, probabilities, faces.labels)
    if numbers is None and weights not in table["ensembles"]:
        raise UsageError(f"--weights {weights}", f"has too many points for {len(models)} models", "use likelihood")
    chosen = np.array(table["ensembles"][weights]["weights"]) if numbers is None else numbers
    joined = join_models(members, chosen.tolist(), name or out.stem)
    difference = export_model(joined, out, faces.take(np.arange(min(len(faces), 512))), license=license)
    table |= {"written": chosen.tolist(), "split": split, "tta": tta, "faces": len(faces), "file": str(out)}
    card, text = out.with_suffix(".md"), format_weightings(table)
    write_text(card, f"# {joined.name}\n\nA weighted mean of {len(models)} models.\n\n```\n{text}```\n")
    text += (
        f"\nwrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {card.name}; torch and ONNX differ by "
        f"at most {difference:.1e} in probability"
    )
    emit(table, text, as_json=as_json, quiet=quiet)


def average(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Two or more run folders, each initialized with the one before.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    split: Annotated[str, typer.Option(help="Split on which the batch norms are measured again.")] = "train",
    name: Annotated[str, typer.Option(help="The network's name. Default: that of the folder.")] = "",
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Average the weights of runs of which each continues the one before.

    If a run starts with the weights of another, the mean of both is often better than either, at the same cost. Averaging
    independently initialized runs does not work. The result is a run folder: evaluate and export it.
    """
    require_torch()

    from mien.training.release.average import average_runs
    from mien.training.torch_classifier import load_run

    if len(runs) < 2:
        raise UsageError("runs", f"are {len(runs)}", "name two or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}", "is there already", "choose another folder")
    members = [load_run(run) for run in runs]
    size = members[-1].preprocessing.size
    faces = read_data(data, size=size, skip_bad=skip_bad, quiet=quiet or as_json, exclude=exclude)
    training = faces.select_split(split) if len(faces.splits) > 1 or faces.has_split(split) else faces
    averaged, caveat = average_runs(runs, members, training, out, name)
    facts = {"run": str(out), "name": averaged.name, "faces": len(training), "held_out_caveat": caveat}
    text = f"the average of {len(runs)} runs is in {out}; next: mien evaluate {out} --data ..."
    emit(facts, text, as_json=as_json, quiet=quiet)
    if caveat:
        is_counted = "may have" not in caveat
        note = f"note: {caveat}{', so that' if is_counted else '; if so,'} scores on them are too good"
        print_note(note, quiet=quiet or as_json)


def _check_names(models: list[str], data: list[Path], out: Path) -> None:
    if len(models) < 2:
        raise UsageError("mien ensemble", "needs two models at least", "name several")
    if len(set(models)) < len(models):
        raise UsageError("mien ensemble", "names a model twice", "name each once; --weights says how much each counts")
    refuse_overwrite(out, [*data, *(Path(model) for model in models if Path(model).exists())])


def _select_choosing_faces(faces: FaceSet, split: str, *, quiet: bool) -> tuple[FaceSet, str]:
    """Return the faces that choose the weights, those of the split or all of undivided data, and their name."""
    if len(faces.splits) > 1 or faces.has_split(split):
        return faces.select_split(split), split
    note = f"note: the data has no split '{split}': all faces choose the weights, also those that trained the models"
    print_note(note, quiet=quiet)
    return faces, faces.splits[0] or "the data"


def _check_classes(models: list[str], classes: list[tuple[str, ...]]) -> None:
    """Raise ModelError, which names the files, where they have different classes."""
    for model, known in zip(models, classes, strict=True):
        if known != classes[0]:
            problem = f"knows {', '.join(known)}; {models[0]} knows {', '.join(classes[0])}"
            raise ModelError(model, problem, "join models of the same classes in the same order")


def _parse_weights(text: str, count: int) -> np.ndarray:
    """Return the weights of a list of numbers, normalized; UsageError for anything else."""
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise UsageError(
            f"--weights {text}",
            f"is neither likelihood, grid nor equal, nor {count} numbers that are not negative",
            f"as in --weights {','.join(['1'] * count)}",
        )
    return values / values.sum()

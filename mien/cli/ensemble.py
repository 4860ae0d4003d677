"""`mien ensemble` and `mien average`: several models as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mien.analysis.inference.classifier import check_tta
from mien.cli.loaders import check_onnx_path, classify_images, read_data, refuse_overwrite, require_torch
from mien.cli.options import Data, Exclude, Json, LabelsBy, Quiet, SkipBad, Tta
from mien.core.errors import ModelError, UsageError
from mien.core.files import write_text
from mien.core.progress import echo
from mien.core.types import FaceSet


def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Two or more models: names, .onnx files, run folders or .pt files."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="The .onnx file to write; its card is written beside it as .md.")],
    split: Annotated[str, typer.Option(help="The faces that choose the weights.")] = "validation",
    weights: Annotated[
        str,
        typer.Option(
            help="How the weights that are written are chosen: likelihood (directly), grid (in tenths, by accuracy), "
            "equal, or given, as in 0.1,0.3,0.6."
        ),
    ] = "likelihood",
    tta: Tta = "none",
    name: Annotated[str, typer.Option(help="The ensemble's name; default: that of the file.")] = "",
    license: Annotated[str, typer.Option(help="The license of the weights, written into the file.")] = "not stated",
    exclude: Exclude = None,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join models into one file that gives the weighted mean of their probabilities.

    Weights that sum to one are chosen on validation faces, by each of three ways; the table also says what each way scores
    on faces that did not choose (each half of them with the weights of the other half). Score the file on other
    faces with 'mien evaluate'.
    """
    require_torch()

    from mien.training.release.ensemble import WEIGHTINGS, format_weightings, join_models, score_weightings
    from mien.training.release.export import export_model
    from mien.training.torch_classifier import TorchClassifier, open_trained_model

    check_tta(tta)
    _check_names(models, data, out)
    check_onnx_path(out)
    given = None if weights in WEIGHTINGS else _given(weights, len(models))
    members = [open_trained_model(model) for model in models]
    _check_alike(models, [member.classes for member in members])
    faces = read_data(
        data,
        size=members[0].preprocessing.size,
        skip_bad=skip_bad,
        quiet=quiet or as_json,
        exclude=exclude,
        labels_by=labels_by,
        model=TorchClassifier(members[0]),
    )
    faces, split = _that_choose(faces, split, quiet=quiet or as_json)
    joined = join_models(
        members, np.full(len(members), 1 / len(members)), name or out.stem
    )  # refuses what does not fit
    faces = faces.take(faces.is_labeled).reindex_classes(members[0].classes)
    if len(faces) < 2:
        found = f"has {len(faces)} labeled faces to choose weights by"
        raise UsageError(", ".join(map(str, data)), found, "give more of them")
    probabilities = np.stack(
        [
            classify_images(TorchClassifier(member), faces.images, tta, quiet=quiet or as_json, title=model)
            for member, model in zip(members, models, strict=True)
        ]
    )  # (M, N, K)
    table = score_weightings(models, probabilities, faces.labels)
    if given is None and weights not in table["ensembles"]:
        raise UsageError(f"--weights {weights}", f"has too many points for {len(models)} models", "use likelihood")
    chosen = given if given is not None else np.array(table["ensembles"][weights]["weights"])
    joined = join_models(members, chosen, name or out.stem)
    difference = export_model(joined, out, faces.take(np.arange(min(len(faces), 512))), license=license)
    table |= {"written": chosen.tolist(), "split": split, "tta": tta, "faces": len(faces), "file": str(out)}
    text = format_weightings(table)
    write_text(
        out.with_suffix(".md"), f"# {joined.name}\n\nA weighted mean of {len(models)} models.\n\n```\n{text}```\n"
    )
    if as_json:
        echo(json.dumps(table, indent=2))
    elif not quiet:
        echo(text)
        echo(
            f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.md').name}; torch and ONNX differ by "
            f"at most {difference:.1e} in probability"
        )


def average(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Two or more run folders, each begun with the one before.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    split: Annotated[str, typer.Option(help="The faces on which batch norms are measured anew.")] = "train",
    name: Annotated[str, typer.Option(help="The network's name; default: that of the folder.")] = "",
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Average the weights of trainings that went on from each other.

    Where one run began with the weights of another, the mean of both is often better than either and costs nothing to run.
    The mean of runs that began apart knows nothing. The folder is a run as any other: evaluate and export it.
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
    if as_json:
        facts = {"run": str(out), "name": averaged.name, "faces": len(training), "held_out_caveat": caveat}
        echo(json.dumps(facts, indent=2))
    elif not quiet:
        echo(f"the average of {len(runs)} runs is in {out}; next: mien evaluate {out} --data ...")
        if caveat:
            is_counted = "may have" not in caveat
            echo(f"note: {caveat}{', so that' if is_counted else '; if so,'} scores on them are too good", error=True)


def _check_names(models: list[str], data: list[Path], out: Path) -> None:

    if len(models) < 2:
        raise UsageError("mien ensemble", "needs two models at least", "name several")
    if len(set(models)) < len(models):
        raise UsageError("mien ensemble", "names a model twice", "name each once; --weights says how much each counts")
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"--out {out}", "does not end in .onnx", f"as in --out {out.with_suffix('.onnx')}")
    refuse_overwrite(out, [*data, *(Path(model) for model in models if Path(model).exists())])


def _that_choose(faces: FaceSet, split: str, *, quiet: bool) -> tuple[FaceSet, str]:
    """The faces that choose the weights, and what they are called: the split's, or all where none is divided off."""
    if len(faces.splits) > 1 or faces.has_split(split):
        return faces.select_split(split), split
    if not quiet:
        note = f"note: the data has no split '{split}': all of it chooses the weights, also what trained the models"
        echo(note, error=True)
    return faces, faces.splits[0] or "the data"


def _check_alike(models: list[str], classes: list[tuple[str, ...]]) -> None:
    """ModelError, which names the files, where they know different classes."""

    for model, known in zip(models, classes, strict=True):
        if known != classes[0]:
            found = f"knows {', '.join(known)}; {models[0]} knows {', '.join(classes[0])}"
            raise ModelError(model, found, "join models of the same classes in the same order")


def _given(text: str, count: int):
    """Weights from the command line, or UsageError."""

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

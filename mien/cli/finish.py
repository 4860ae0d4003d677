"""`mien finish`: calibrated probabilities, thresholds, a non-face score, and an int8 file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.analysis.inference.model_file import INT8_ENDING, find_model, int8_path, read_model_info
from mien.cli.loaders import check_onnx_path, read_data, refuse_overwrite
from mien.cli.messages import emit, print_error, print_note
from mien.cli.options import Data, Json, LabelsBy, Quiet, Seed, SkipBad
from mien.core.errors import UsageError
from mien.core.files import write_text
from mien.core.types import FaceSet, split_role
from mien.evaluation.calibration import NUM_BINS, Reliability
from mien.evaluation.reports.curves import draw_figure, plot_reliability
from mien.training.scoring.classifiers import require_torch

#: With fewer validation faces, temperature and thresholds are mostly noise.
MIN_FACES = 300


def finish(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or a float .onnx file.")],
    data: Data,
    out: Annotated[
        Path, typer.Option(help="The .onnx file to write; FILE.int8.onnx and the card FILE.md go beside it.")
    ],
    split: Annotated[str, typer.Option(help="Split that fits temperature and thresholds.")] = "validation",
    train_split: Annotated[
        str, typer.Option(help="Split for the calibration of int8 and for the non-face score.")
    ] = "train",
    accuracy: Annotated[
        float, typer.Option(min=0, max=1, help="Accuracy to reach on labels that are not marked as unsure.")
    ] = 0.85,
    no_non_faces: Annotated[bool, typer.Option("--no-non-faces", help="Learn no non-face score.")] = False,
    no_int8: Annotated[bool, typer.Option("--no-int8", help="Write no int8 file.")] = False,
    diagram: Annotated[Path | None, typer.Option(help="Draw the reliability diagram into this PNG file.")] = None,
    seed: Seed = 0,
    labels_by: LabelsBy = "auto",
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Calibrate a model, set its thresholds and quantize it to int8.

    Validation faces fit the temperature and the threshold below which labels are unsure. A non-face score is learned from
    photographs without people (it needs scikit-image, and is best with the votes of FER+). The int8 file is kept only if its
    accuracy is at most 0.2 points lower. The weights of the network stay as they are. This takes minutes, mostly for the
    non-face score.
    """
    require_torch()

    from mien.training.release.card import add_release_sections
    from mien.training.release.finish import ReleaseOptions, finish_model
    from mien.training.release.speed import measure_speed

    if out.suffix.lower() != ".onnx" or out.name.endswith(INT8_ENDING):
        raise UsageError(f"--out {out}", "is to be the float file's name", "as in --out model.onnx")
    refuse_overwrite(out, data)
    check_onnx_path(out)
    source = find_model(model)
    faces = read_data(
        data,
        size=read_model_info(source).preprocessing.size,
        skip_bad=skip_bad,
        quiet=quiet or as_json,
        labels_by=labels_by,
        model=read_model_info(source),
    )
    training = None if no_non_faces and no_int8 else faces.select_split(train_split)
    validation = faces.select_split(split) if len(faces.splits) > 1 or faces.has_split(split) else faces
    options = ReleaseOptions(accuracy, not no_non_faces, not no_int8, seed, quiet or as_json)
    report = finish_model(source, out, training, validation, options)
    old = source.with_suffix(".md")
    text = old.read_text(encoding="utf-8") if old.is_file() else f"# {read_model_info(out).name}\n"
    if diagram is not None:
        _draw_reliability(report, diagram)
    int8 = None if no_int8 or "no_int8" in report else read_model_info(int8_path(out))
    speeds = [measure_speed(file) for file in ([out] if int8 is None else [out, int8_path(out)])]
    card = add_release_sections(text, read_model_info(out), int8, out, diagram, speeds)
    write_text(out.with_suffix(".md"), card)
    if "no_int8" in report:
        print_error(f"there is no int8 file: it {report['no_int8']}")
    info = read_model_info(out)
    text = (
        f"{_summary(report, info.temperature, info.thresholds)}\n"
        f"wrote {out}{'' if int8 is None else f', {int8_path(out).name}'} and {out.with_suffix('.md').name}"
    )
    emit(report | {"file": str(out)}, text, as_json=as_json, quiet=quiet)
    print_note(_caveat(validation), quiet=quiet or as_json)


def _caveat(faces: FaceSet) -> str:
    """Return a note where the faces that fit the temperature may have trained the model, else ""."""
    if not any(name == "" or split_role(name) == "train" for name in faces.splits):
        return ""
    return "note: these faces may have trained the model, which is overconfident on them: give faces that it never saw"


def _draw_reliability(report: dict[str, Any], diagram: Path) -> None:
    """Draw the reliability diagram, on faces that did not fit the temperature, as PNG."""
    count, confidence, accuracy = np.zeros(NUM_BINS, np.int64), np.full(NUM_BINS, np.nan), np.full(NUM_BINS, np.nan)
    for row in report["calibration"]["bins"]:
        place = round(row["from"] * NUM_BINS)
        count[place], confidence[place], accuracy[place] = row["count"], row["confidence"], row["accuracy"]
    draw_figure(plot_reliability(Reliability(np.linspace(0, 1, NUM_BINS + 1), count, confidence, accuracy)), diagram)


def _summary(report: dict[str, Any], temperature: float, thresholds: dict[str, float]) -> str:
    """Return the calibration, the thresholds and the non-face scores as text."""
    from mien.training.release.card import format_accuracy

    calibration, unsure, none = report["calibration"], report["unsure"], report.get("not_a_face")
    lines = [
        f"temperature {temperature:.3f}: expected calibration error {calibration['error_before']:.2%} before, "
        f"{calibration['error']:.2%} after, on faces that did not fit it",
    ]
    if thresholds["unsure"] < 1:
        lines.append(
            f"unsure below {thresholds['unsure']:.3f}: {unsure['answered_elsewhere']:.1%} of the faces are answered, "
            f"{format_accuracy(unsure['right_elsewhere'])} of these answers are right, on faces that did not choose it"
        )
    else:
        lines.append(
            f"unsure: no confidence keeps {unsure['goal']:.0%} of more than a few answers right; every label is marked"
        )
    if report["faces"] < MIN_FACES:
        lines.append(f"note: {report['faces']} faces are few to fit these; give some hundreds")
    if none:
        lines.append(
            f"not a face above {thresholds['not_a_face']:.3f}: {none['lost']:.2%} of real faces lost; found of"
        )
        names = {"finds": "a detector's false finds", "squares": "crops without a face", "ferplus": "FER+'s non-faces"}
        for key, name in names.items():
            if key in none:
                lines.append(
                    f"  {name:<25} {none[key]['recall_at_threshold']:.1%} of {none[key]['count']:,}, "
                    f"area under ROC {none[key]['roc_auc']:.4f}"
                )
    return "\n".join(lines)

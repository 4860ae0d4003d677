"""Write model cards: training, scores, calibration, speed, intended use and limitations. Every number comes from the run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.analysis.inference.model_file import ModelInfo
from mien.data.annotators import ANNOTATORS
from mien.data.splits import OFFICIAL_SIZES
from mien.evaluation.metrics import Scores
from mien.evaluation.tables import format_scores
from mien.training.preparation import BATCH_AUGMENTATIONS, WEAK_AUGMENTATION, list_ancestor_models
from mien.training.recipe import list_teachers, load_recipe, rename_old_keys, shipped_recipes
from mien.training.release.speed import Speed
from mien.training.runs.checkpoint import TrainedModel
from mien.training.torch_classifier import read_log

USES = """\
## Intended use

Research, teaching, film and video work, and prototypes, with people who know about it and agree. The model estimates which
expression a face shows in a picture, and gives a probability for each class.

## Out-of-scope use

- Inferring what a person feels, thinks, intends or is. An expression is not an inner state: people smile without joy and
  feel without showing it. The labels are what annotators saw in a picture.
- Decisions about people: hiring, work, schooling, credit, policing, migration, insurance, diagnosis.
- Inferring emotions at work or in education. Article 5(1)(f) of the EU AI Act forbids this, except for medical and safety
  uses. Other laws may limit other uses."""

LIMITS = """\
## Limitations

- The model has {count} labels for everything a face can do, and one label per picture. Annotators often disagree.
{data}- It expects upright faces seen from the front, about {size} pixels wide. Accuracy is lower for turned, covered, dim and very
  small faces. False detections of the face detector get an expression too.
- How accuracy differs between ages, skin tones and cultures is unknown. Measure it on your own data before use.
- Accuracy is lower for classes with few examples. See their support and recall."""

#: Faces of FER2013's Training, and those of them with a majority label of FER+'s annotators.
FER2013_FACES = (OFFICIAL_SIZES["Training"], 25_060)

#: Added to LIMITS for models trained on these faces.
FER2013_LIMITS = """\
- The training faces come from web searches of 2013 and include posed and acted ones. Ages, skin tones and cultures are
  neither balanced nor recorded.
"""


def make_model_card(
    run: Path,
    trained: TrainedModel,
    file: Path,
    scores: Scores | None,
    data: str,
    parity: float,
    license: str,
    half: bool = False,
) -> str:
    """Return the card in Markdown of a model exported from a run folder or a .pt file in one; ``half``: with 16-bit weights."""
    folder = run if run.is_dir() else run.parent
    header, history = read_log(folder)
    pre = trained.preprocessing
    parts = [
        f"# {trained.name}",
        _describe_recipe(header.get("recipe", {})),
        f"""\
| | |
|---|---|
| classes | {", ".join(trained.classes)} |
| input | {pre.channels} × {pre.size} × {pre.size}, mean {_format_values(pre.mean)}, std {_format_values(pre.std)} of pixels in 0..1; crops framed as in {pre.framing} |
| output | logits and features; the probabilities are the softmax of the logits divided by the temperature |
| network | `{trained.network_name}`, {sum(p.numel() for p in trained.network.parameters()):,} parameters, {json.dumps(trained.network_arguments)} |
| file | {file.stat().st_size / 1e6:.1f} MB ONNX, float32{", weights stored in 16 bits" if half else ""}; probabilities differ from torch by at most {parity:.1e} |
| license of the weights | {license} |""",
        _training_section(header, history, trained),
    ]
    if scores is not None:
        parts.append(f"""\
## Scores on {data}

Without test-time augmentation, with 95 % bootstrap intervals.

```
{format_scores(scores)}```""")
    from_fer2013 = header.get("recipe", {}).get("name") in shipped_recipes() and header["training"] in FER2013_FACES
    limits = LIMITS.format(count=len(trained.classes), size=pre.size, data=FER2013_LIMITS if from_fer2013 else "")
    parts += [USES, limits]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training_section(header: dict[str, Any], history: list[dict[str, Any]], trained: TrainedModel) -> str:
    if not history:
        return ""
    recipe, machine = header["recipe"], header["environment"]
    values = dict(recipe["augment"])
    fixmatch = recipe.get("semi", {}).get("method") == "fixmatch"
    if fixmatch:
        values |= dict.fromkeys(BATCH_AUGMENTATIONS, 0)
    augment = ", ".join(f"{key} {value:g}" for key, value in values.items() if value)
    if fixmatch:
        augment = f"labeled faces: flip {WEAK_AUGMENTATION.flip:g}, shift {WEAK_AUGMENTATION.shift:g}; unlabeled faces: {augment}"
    optimizer, schedule, loss = recipe["optimizer"], recipe["schedule"], recipe["loss"]
    by_annotators = (
        ", labeled by the majority of FER+'s annotators"
        if rename_old_keys(recipe)["data"].get("labels") == ANNOTATORS
        else ""
    )
    start, warmup = recipe.get("start", {}).get("model"), schedule["warmup_epochs"]
    earlier = "an earlier " if start == trained.name else ""
    start_note = f", starting from the weights of {earlier}{start}" if start else ""
    hours = sum(row["seconds"] for row in history) / 3600
    speed = sum(row["images_per_s"] for row in history) / len(history)
    versions = ", ".join(
        f"{name} {machine['versions'][name]}" for name in ("torch", "onnx", "numpy") if machine["versions"].get(name)
    )
    commit = f" ({machine['commit']})" if machine["commit"] else ""
    return f"""\
## Training

- Data: {header["training"]:,} faces{_describe_split(header)}{by_annotators}; {header["validation"]:,} validation faces; {_describe_kept_epoch(recipe, history, trained.epoch, "averaged" in header)}{_describe_overlap(header)}.
- Recipe: {_format_epochs(len(history), schedule["epochs"])} of batches of {schedule["batch_size"]}{start_note}; {optimizer["name"]} with peak learning rate {optimizer["lr"]:g}, momentum {optimizer["momentum"]:g}{", Nesterov" if _uses_nesterov(optimizer) else ""}, weight decay {optimizer["weight_decay"]:g} on weight matrices; {warmup:g} epoch{"" if warmup == 1 else "s"} of warm-up, then {schedule["name"]}; {loss["name"]}, label smoothing {loss["label_smoothing"]:g}{_describe_targets(recipe.get("targets", {}), trained.name)}{_describe_other_settings(recipe)}.
- Augmentation: {augment or "none"}.{_averaging_line(header)}
- Hardware: {machine["device"]}, {machine["processor"]}, {machine["threads"]} threads, {machine["precision"]}; {speed:,.0f} images/s on average, {hours:.1f} hours; one run, seed {machine["seed"]}.
- Software: mien {machine["mien"]}{commit}, Python {machine["python"]}, {versions}."""


def _averaging_line(header: dict[str, Any]) -> str:
    """Return the line about the weights of an averaged run, "" for other runs."""
    if "averaged" not in header:
        return ""
    others = ", ".join(header["averaged"]["with"])
    return (
        f'\n- Weights: the mean of this run and {others} (Wortsman et al., "Model soups", 2022); batch norm statistics '
        f"recomputed on {header['averaged']['faces']:,} faces without augmentation."
    )


def _describe_kept_epoch(
    recipe: dict[str, Any], history: list[dict[str, Any]], epoch: int, averaged: bool = False
) -> str:
    """Return which epoch was kept, and whether the validation faces selected it."""
    accuracies = [row["validation_accuracy"] for row in history]
    if epoch == len(history) and (recipe["run"]["keep"] == "last" or max(accuracies) > accuracies[-1]):
        return "the last epoch was kept" + (
            "" if averaged or _uses_validation(recipe) else ", so the validation faces selected nothing"
        )
    if accuracies[epoch - 1] == max(accuracies):
        return f"epoch {epoch} was kept, the one with the best validation accuracy"
    return f"epoch {epoch} of {len(history)} was kept"


def _describe_overlap(header: dict[str, Any]) -> str:
    """Return a note if held-out faces may have trained a model that the run started from or learned from, else ""."""
    if not header.get("held_out"):
        return ""
    note = header.get("held_out_caveat")
    if note is None:  # a run of an older mien
        others = list_ancestor_models(header["recipe"])
        note = f"{' and '.join(others)} may have learned from these faces" if others else ""
    return f"; they were held out of the training faces, and {note}" if note else ""


def _describe_recipe(recipe: dict[str, Any]) -> str:
    """Return the description of the recipe, and the sections with changed settings."""
    text, name = recipe.get("description", ""), recipe.get("name", "")
    if not text or name not in shipped_recipes():
        return text
    shipped = load_recipe(name).model_dump(mode="json")
    recipe = rename_old_keys(recipe)
    changed = [key for key in shipped if key not in ("run", "description") and recipe.get(key) != shipped[key]]
    return f"{text} (with changed settings in: {', '.join(changed)})" if changed else text


def _describe_split(header: dict[str, Any]) -> str:
    return (
        " of data without splits"
        if header.get("splits") == [""]
        else f" of split `{header['recipe']['data']['train']}`"
    )


def format_accuracy(share: float | None) -> str:
    """Return ``93.1%``, or "none" if nothing was answered."""
    return "none" if share is None else f"{share:.1%}"


def _format_epochs(run: int, planned: int) -> str:
    return f"{planned} epochs" if run == planned else f"{run} of {planned} epochs"


def _uses_nesterov(optimizer: dict[str, Any]) -> bool:
    return optimizer["name"] == "sgd" and optimizer["nesterov"] and optimizer["momentum"] > 0


def _uses_validation(recipe: dict[str, Any]) -> bool:
    """Return whether validation faces affect the last epoch: by the learning rate, early stopping or class weights."""
    schedule, weights = recipe["schedule"], recipe["loss"].get("class_weights")
    return schedule["name"] == "plateau" or bool(schedule.get("early_stop")) or weights == "validation"


def _describe_other_settings(recipe: dict[str, Any]) -> str:
    """Return the other settings that differ from the defaults, each after a semicolon."""
    data, semi, loss = recipe["data"], recipe.get("semi", {}), recipe["loss"]
    parts = []
    if loss["name"] in ("focal", "adaptive"):
        parts.append(f"gamma {loss['gamma']:g}")
    if (weights := loss.get("class_weights", "none")) != "none":
        parts.append(f"class weights {weights if isinstance(weights, str) else ', '.join(map(str, weights))}")
    if data.get("keep_labels", 1) < 1:
        parts.append(f"{data['keep_labels']:.0%} of the labels kept")
    if semi.get("method", "none") != "none":
        parts.append(f"{semi['method']} on unlabeled faces")
    if data.get("oversample"):
        parts.append(f"rare classes oversampled ({data['oversample']:g})")
    if frozen := recipe.get("start", {}).get("freeze"):
        parts.append(f"{', '.join(frozen)} frozen")
    if recipe["optimizer"].get("clip_norm"):
        parts.append(f"gradients clipped at {recipe['optimizer']['clip_norm']:g}")
    if recipe["run"]["ema"]:
        parts.append(f"averaged weights (decay {recipe['run']['ema']:g})")
    return "".join(f"; {part}" for part in parts)


def _describe_targets(settings: dict[str, Any], name: str) -> str:
    """Return what the targets contain besides the labels, "" if nothing. ``name`` is the name of the model itself."""
    parts = []
    if settings.get("votes"):
        parts.append(f", {settings['votes']:.0%} of each label is FER+'s votes")
    if settings.get("teacher"):
        about = "each augmented input" if settings.get("teacher_sees") == "augmented" else "the face"
        teachers = [f"an earlier {name}" if one == name else one for one in list_teachers(settings["teacher"])]
        predict = "predicts" if len(teachers) == 1 else "predict on average"
        parts.append(
            f", {settings['teacher_share']:.0%} of each target is what {' and '.join(teachers)} {predict} for {about}"
        )
    return "".join(parts)


def _format_values(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


#: The sections that `mien finish` writes into a card, and the name that the first one had before.
CALIBRATION, INT8, SPEED, OLD_CALIBRATION = "## Calibration and thresholds", "## int8", "## Speed", "## Doubt"
#: Where these sections are inserted; cards of earlier versions have the second heading.
INSERTION_POINT = re.compile("^(?=## (?:Intended use|Meant for)$)", re.MULTILINE)


def add_release_sections(
    text: str,
    info: ModelInfo,
    int8: ModelInfo | None,
    file: Path,
    diagram: Path | None = None,
    speeds: Sequence[Speed] = (),
) -> str:
    """Return the card with the results of `mien finish`; earlier sections are replaced.

    text: the card so far; info and int8: the metadata of the float file and of its int8 file; file: where the card is
    written; diagram: the file of the reliability diagram, if there is one; speeds: of the model's files, if measured.
    """
    for heading in (CALIBRATION, OLD_CALIBRATION, INT8, SPEED):
        text = re.sub(rf"^{heading}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    sections = [_calibration_section(info, file, diagram)]
    if int8 is not None:
        sections.append(_int8_section(int8))
    if speeds:
        sections.append(_speed_section(speeds))
    before, *after = INSERTION_POINT.split(text, maxsplit=1)
    return "\n\n".join(part for part in (before.strip(), *sections, *(part.strip() for part in after)) if part) + "\n"


def _speed_section(speeds: Sequence[Speed]) -> str:
    rows = [
        f"| {speed.precision} | {speed.megabytes:.1f} MB | {speed.milliseconds:.2f} ms | {speed.crops_per_second:,.0f} crops/s |"
        for speed in speeds
    ]
    return "\n".join([
        SPEED, "", "| file | size | one crop | 64 at once |", "|---|---|---|---|", *rows, "",
        f"Medians including preprocessing, {speeds[0].threads} threads of {speeds[0].processor}, measured by `mien finish`.",
    ])  # fmt: skip


def _calibration_section(info: ModelInfo, file: Path, diagram: Path | None) -> str:
    report = info.uncertainty
    calibration, unsure, none = report["calibration"], report["unsure"], report.get("not_a_face")
    rows = [
        f"| {row['from']:.2f} to {row['to']:.2f} | {row['count']:,} | {row['confidence']:.3f} | {row['accuracy']:.3f} |"
        for row in calibration["bins"]
    ]
    parts = [
        f"""\
{CALIBRATION}

Fitted on {report["faces"]:,} faces of {report["data"]}. The figures for temperature and thresholds are cross-validated: each half of
these faces is scored with the values fitted on the other half.

- Temperature {info.temperature:.3f}. Expected calibration error (15 bins) {calibration["error_before"]:.2%} before,
  {calibration["error"]:.2%} after; log loss {calibration["log_loss_before"]:.4f} before, {calibration["log_loss"]:.4f} after.
{_describe_unsure(unsure, info.thresholds.get("unsure"))}"""
    ]
    if none:
        parts[0] += "\n" + _describe_not_a_face(none, info.thresholds["not_a_face"])
    if diagram is not None:
        place = Path(os.path.relpath(diagram.resolve(), file.resolve().parent)).as_posix()
        parts.append(f"![Reliability diagram: accuracy against confidence]({place})")
    parts.append("\n".join(["| confidence | faces | mean confidence | accuracy |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _describe_unsure(unsure: dict[str, Any], threshold: float | None) -> str:
    if threshold is None or threshold >= 1:
        return f"- Every label is marked as unsure: no confidence threshold reaches an accuracy of {unsure['goal']:.0%} on more than a few faces."
    return (
        f"- Labels with a confidence below {threshold:.3f} are marked as unsure. Coverage {unsure['answered_elsewhere']:.1%},\n"
        f"  accuracy of the other labels {format_accuracy(unsure['right_elsewhere'])} (target {unsure['goal']:.0%})."
    )


def _describe_not_a_face(none: dict[str, Any], threshold: float) -> str:
    """Return the lines about the score ``not_a_face``."""
    names = {
        "finds": "false detections of a Haar cascade, in photographs that were not used for training",
        "squares": "random square crops of these photographs",
        "ferplus": "pictures that FER+'s annotators label as no face",
    }
    lines = [
        f"- `not_a_face` is a separate score. Crops above {threshold:.3f} are marked, and with them {none['lost']:.2%} of"
        f" {none['faces']:,} real faces."
    ]
    lines += [
        f"  - {none[key]['count']:,} {name}: ROC AUC {none[key]['roc_auc']:.4f}, "
        f"recall {none[key]['recall_at_1_percent']:.1%} at 1 % false positives, {none[key]['recall_at_threshold']:.1%} at the threshold."
        for key, name in names.items()
        if key in none
    ]
    return "\n".join(lines)


def _int8_section(info: ModelInfo) -> str:
    facts = info.quantization
    same, of = facts["agreement"], facts["calibration"]
    return f"""\
{INT8}

The int8 file is next to the float file. A shipped name selects the file that is faster on the processor; a path selects that file.

- Quantization: static, per channel, calibrated on {of["faces"]} faces of {of["data"]} (seed {of["seed"]}).
- Accuracy on {same["faces"]:,} validation faces: {same["accuracy"]:.2%}, float file {same["float_accuracy"]:.2%}.
- Both files predict the same label for {same["same"]:.1%} of these faces.
- SHA-256 of the float file: `{facts["sha256"]}`."""

"""The model card: what a model was made of, what it scores, and what it is not for. Every number comes from the run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.analysis.inference.model_file import ModelInfo
from mien.data.splits import OFFICIAL
from mien.evaluation.metrics import Scores
from mien.evaluation.tables import scores_text
from mien.training.checkpoint import Trained
from mien.training.preparation import OF_BATCHES, WEAK, earlier_models
from mien.training.recipe import load_recipe, shipped_recipes, teachers_of
from mien.training.release.speed import Speed
from mien.training.torch_classifier import read_log

USES = """\
## Meant for

Research, teaching, film and footage work, and prototypes, on people who know of it and agree: what expression a face
shows in a picture, with a probability for each.

## Not meant for

- Telling what a person feels, thinks, intends or is. An expression is not an inner state: people smile without joy and
  feel without showing it, and these labels are what raters saw in a picture.
- Decisions about people: hiring, work, schooling, credit, policing, migration, insurance, diagnosis.
- Inferring emotions at work or in education, which Article 5(1)(f) of the EU AI Act forbids (medical and safety uses
  excepted). Other law may limit other uses."""

LIMITS = """\
## Limits

- {count} labels for everything a face can do, and one label a picture where raters often disagree.
{data}- Upright faces seen from the front, about {size} pixels. Turned, covered, dim and very small faces read worse. What a
  detector takes for a face by mistake gets an expression too.
- How the error differs between ages, skin tones and cultures is not known: measure it on your own people before use.
- Classes with few examples are read less surely: see their support and recall before relying on them."""

#: Faces of FER2013's Training, and those of them that most of FER+'s raters see alike.
FER2013_FACES = (OFFICIAL["Training"], 25_060)

#: Said of models trained on these.
FER2013_LIMITS = """\
- Faces from web searches of 2013, posed and acted ones among them; ages, skin tones and cultures are not balanced and
  not recorded.
"""


def model_card(
    run: Path,
    trained: Trained,
    file: Path,
    scores: Scores | None,
    data: str,
    parity: float,
    licence: str,
    half: bool = False,
) -> str:
    """Markdown for the model exported from a run folder (or a .pt file in one), with halved weights or not."""
    folder = run if run.is_dir() else run.parent
    header, history = read_log(folder)
    pre = trained.preprocessing
    parts = [
        f"# {trained.name}",
        _described(header.get("recipe", {})),
        f"""\
| | |
|---|---|
| reads | {", ".join(trained.classes)} |
| input | {pre.channels} × {pre.size} × {pre.size}, mean {_list(pre.mean)}, std {_list(pre.std)} of 0..1 pixels; crops framed as in {pre.framing} |
| output | logits and features; a softmax over the logits, divided by the temperature, gives the probabilities |
| network | `{trained.network_name}`, {sum(p.numel() for p in trained.network.parameters()):,} parameters, {json.dumps(trained.network_arguments)} |
| file | {file.stat().st_size / 1e6:.1f} MB ONNX, float32{", weights stored in 16 bits" if half else ""}; differs from torch by at most {parity:.1e} in probability |
| licence of the weights | {licence} |""",
        _training(header, history, trained),
    ]
    if scores is not None:
        parts.append(f"""\
## Scores on {data}

Without test-time augmentation, with 95 % bootstrap intervals.

```
{scores_text(scores)}```""")
    from_fer2013 = header.get("recipe", {}).get("name") in shipped_recipes() and header["training"] in FER2013_FACES
    limits = LIMITS.format(count=len(trained.classes), size=pre.size, data=FER2013_LIMITS if from_fer2013 else "")
    parts += [USES, limits]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(header: dict[str, Any], history: list[dict[str, Any]], trained: Trained) -> str:
    if not history:
        return ""
    recipe, machine = header["recipe"], header["environment"]
    values = dict(recipe["augment"])
    fixmatch = recipe.get("semi", {}).get("method") == "fixmatch"
    if fixmatch:
        values |= dict.fromkeys(OF_BATCHES, 0)
    augment = ", ".join(f"{key} {value:g}" for key, value in values.items() if value)
    if fixmatch:
        augment = f"of faces with a label flip {WEAK.flip:g}, shift {WEAK.shift:g}; of those without {augment}"
    optimizer, schedule, loss = recipe["optimizer"], recipe["schedule"], recipe["loss"]
    by_raters = ", labelled by the majority of FER+'s raters" if recipe["data"].get("labels") == "raters" else ""
    start, warmup = recipe.get("start", {}).get("model"), schedule["warmup_epochs"]
    earlier = "an earlier " if start == trained.name else ""
    begun = f", begun with the weights of {earlier}{start}" if start else ""
    hours = sum(row["seconds"] for row in history) / 3600
    speed = sum(row["images_per_s"] for row in history) / len(history)
    versions = ", ".join(
        f"{name} {machine['versions'][name]}" for name in ("torch", "onnx", "numpy") if machine["versions"].get(name)
    )
    commit = f" ({machine['commit']})" if machine["commit"] else ""
    return f"""\
## Training

- Data: {header["training"]:,} faces{_of_split(header)}{by_raters}; {header["validation"]:,} faces watched, {_kept(recipe, history, trained.epoch, "averaged" in header)}{_seen_before(header)}.
- Recipe: {_epochs(len(history), schedule["epochs"])} of batches of {schedule["batch_size"]}{begun}; {optimizer["name"]} with peak learning rate {optimizer["lr"]:g}, momentum {optimizer["momentum"]:g}{", Nesterov" if _nesterov(optimizer) else ""}, weight decay {optimizer["weight_decay"]:g} on matrices; {warmup:g} epoch{"" if warmup == 1 else "s"} of warm-up, then {schedule["name"]}; {loss["name"]}, label smoothing {loss["label_smoothing"]:g}{_targets(recipe.get("targets", {}), trained.name)}{_beside(recipe)}.
- Augmentation: {augment or "none"}.{_averaged(header)}
- Hardware: {machine["device"]}, {machine["processor"]}, {machine["threads"]} threads, {machine["precision"]}; {speed:,.0f} images/s on average, {hours:.1f} hours, one run with seed {machine["seed"]}.
- Software: mien {machine["mien"]}{commit}, Python {machine["python"]}, {versions}."""


def _averaged(header: dict[str, Any]) -> str:
    """That the weights are a mean, of an averaged run."""
    if "averaged" not in header:
        return ""
    others = ", ".join(header["averaged"]["with"])
    return (
        f'\n- Weights: the mean of those of this run and of {others} (Wortsman et al., "Model soups", 2022); batch norms measured '
        f"anew on {header['averaged']['faces']:,} faces as they are."
    )


def _kept(recipe: dict[str, Any], history: list[dict[str, Any]], epoch: int, averaged: bool = False) -> str:
    """Which epoch's weights these are, and whether the faces that are watched chose it."""
    accuracies = [row["validation_accuracy"] for row in history]
    if epoch == len(history) and (recipe["run"]["keep"] == "last" or max(accuracies) > accuracies[-1]):
        return "the last epoch was kept" + (
            "" if averaged or _watched_matters(recipe) else ", so the validation faces chose nothing"
        )
    if accuracies[epoch - 1] == max(accuracies):
        return f"epoch {epoch} was kept, the one with the best validation accuracy"
    return f"epoch {epoch} of {len(history)} was kept"


def _seen_before(header: dict[str, Any]) -> str:
    """That faces which were held out of the training split may have taught whatever the run began with or learnt from."""
    if not header.get("held_out"):
        return ""
    note = header.get("held_out_caveat")
    if note is None:  # a run of an older mien
        others = earlier_models(header["recipe"])
        note = f"{' and '.join(others)} may have learned from these faces" if others else ""
    return f"; they were held out of the training faces, and {note}" if note else ""


def _described(recipe: dict[str, Any]) -> str:
    """What the recipe says of itself, and whether its settings were changed."""
    text, name = recipe.get("description", ""), recipe.get("name", "")
    if not text or name not in shipped_recipes():
        return text
    shipped = load_recipe(name).model_dump(mode="json")
    changed = [key for key in shipped if key not in ("run", "description") and recipe.get(key) != shipped[key]]
    return f"{text} (here with other settings of {', '.join(changed)})" if changed else text


def _of_split(header: dict[str, Any]) -> str:
    return (
        " of data that are not divided"
        if header.get("splits") == [""]
        else f" of split `{header['recipe']['data']['train']}`"
    )


def share_right(share: float | None) -> str:
    """``93.1%``; "none" where nothing was answered."""
    return "none" if share is None else f"{share:.1%}"


def _epochs(run: int, planned: int) -> str:
    return f"{planned} epochs" if run == planned else f"{run} of {planned} epochs"


def _nesterov(optimizer: dict[str, Any]) -> bool:
    return optimizer["name"] == "sgd" and optimizer["nesterov"] and optimizer["momentum"] > 0


def _watched_matters(recipe: dict[str, Any]) -> bool:
    """Whether the faces that are watched have a say although the last epoch is kept: in the rate, the end or the weights."""
    schedule, weights = recipe["schedule"], recipe["loss"].get("class_weights")
    return schedule["name"] == "plateau" or bool(schedule.get("early_stop")) or weights == "validation"


def _beside(recipe: dict[str, Any]) -> str:
    """What else was not left as it usually is."""
    data, semi, loss = recipe["data"], recipe.get("semi", {}), recipe["loss"]
    parts = []
    if loss["name"] in ("focal", "adaptive"):
        parts.append(f"gamma {loss['gamma']:g}")
    if (weights := loss.get("class_weights", "none")) != "none":
        parts.append(f"class weights {weights if isinstance(weights, str) else ', '.join(map(str, weights))}")
    if data.get("keep_labels", 1) < 1:
        parts.append(f"{data['keep_labels']:.0%} of the labels kept")
    if semi.get("method", "none") != "none":
        parts.append(f"{semi['method']} on faces without a label")
    if data.get("oversample"):
        parts.append(f"rare classes oversampled ({data['oversample']:g})")
    if frozen := recipe.get("start", {}).get("freeze"):
        parts.append(f"{', '.join(frozen)} frozen")
    if recipe["optimizer"].get("clip_norm"):
        parts.append(f"gradients clipped at {recipe['optimizer']['clip_norm']:g}")
    if recipe["run"]["ema"]:
        parts.append(f"averaged weights (decay {recipe['run']['ema']:g})")
    return "".join(f"; {part}" for part in parts)


def _targets(settings: dict[str, Any], name: str) -> str:
    """What a face's target was made of beside its label: ``", 70 % of each target is what base says"``; name: the model's own."""
    parts = []
    if settings.get("votes"):
        parts.append(f", {settings['votes']:.0%} of each label is FER+'s votes")
    if settings.get("teacher"):
        about = "of each input" if settings.get("teacher_sees") == "augmented" else "of the face"
        teachers = [f"an earlier {name}" if one == name else one for one in teachers_of(settings["teacher"])]
        says = "says" if len(teachers) == 1 else "say on average"
        parts.append(
            f", {settings['teacher_share']:.0%} of each target is what {' and '.join(teachers)} {says} {about}"
        )
    return "".join(parts)


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


#: What `mien finish` writes into a card, from this heading to the next one.
DOUBT, BYTES, SPEED = "## Doubt", "## int8", "## Speed"


def finished_card(
    text: str,
    info: ModelInfo,
    int8: ModelInfo | None,
    file: Path,
    diagram: Path | None = None,
    speeds: Sequence[Speed] = (),
) -> str:
    """The card with what `mien finish` found; sections of an earlier time are replaced.

    ``text`` is the card so far, ``info`` and ``int8`` what the float file and its int8 file say of themselves, ``diagram``
    the reliability diagram's file, if there is one; ``speeds`` those of its files, if they were measured.
    """
    for heading in (DOUBT, BYTES, SPEED):
        text = re.sub(rf"^{heading}\n.*?(?=^## |\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    sections = [_doubt(info, file, diagram)]
    if int8 is not None:
        sections.append(_int8(int8))
    if speeds:
        sections.append(_speed(speeds))
    before, uses, after = text.partition("## Meant for")
    return "\n\n".join(part for part in (before.strip(), *sections, (uses + after).strip()) if part) + "\n"


def _speed(speeds: Sequence[Speed]) -> str:
    rows = [
        f"| {speed.precision} | {speed.megabytes:.1f} MB | {speed.milliseconds:.2f} ms | {speed.crops_per_second:,.0f} crops/s |"
        for speed in speeds
    ]
    return "\n".join([
        SPEED, "", "| file | size | one crop | 64 at once |", "|---|---|---|---|", *rows, "",
        f"Medians with all preparation of the crop, in {speeds[0].threads} threads of {speeds[0].processor}, measured when the model was finished.",
    ])  # fmt: skip


def _doubt(info: ModelInfo, file: Path, diagram: Path | None) -> str:
    found = info.uncertainty
    calibration, unsure, none = found["calibration"], found["unsure"], found.get("not_a_face")
    rows = [
        f"| {row['from']:.2f} to {row['to']:.2f} | {row['count']:,} | {row['confidence']:.3f} | {row['accuracy']:.3f} |"
        for row in calibration["bins"]
    ]
    parts = [
        f"""\
{DOUBT}

Fitted on {found["faces"]:,} faces of {found["data"]}; what is said of temperature and thresholds was measured on the half of them that did not fit it.

- Temperature {info.temperature:.3f}. Expected calibration error (15 bins) {calibration["error_before"]:.2%} before,
  {calibration["error"]:.2%} after; log loss {calibration["log_loss_before"]:.4f} before, {calibration["log_loss"]:.4f} after.
{_unsure(unsure, info.thresholds.get("unsure"))}"""
    ]
    if none:
        parts[0] += "\n" + _none(none, info.thresholds["not_a_face"])
    if diagram is not None:
        place = Path(os.path.relpath(diagram.resolve(), file.resolve().parent)).as_posix()
        parts.append(f"![Reliability diagram: accuracy against confidence]({place})")
    parts.append("\n".join(["| confidence | faces | mean confidence | accuracy |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _unsure(unsure: dict[str, Any], threshold: float | None) -> str:
    if threshold is None or threshold >= 1:
        return f"- Every label is marked as unsure: no confidence keeps {unsure['goal']:.0%} of more than a few answers right."
    return (
        f"- Labels with a confidence below {threshold:.3f} are marked as unsure: {unsure['answered_elsewhere']:.1%} of the faces are\n"
        f"  answered, and {share_right(unsure['right_elsewhere'])} of these answers are right (aimed at: {unsure['goal']:.0%})."
    )


def _none(none: dict[str, Any], threshold: float) -> str:
    """The score for what is no face, as a list below a bullet."""
    names = {
        "finds": "windows that a Haar cascade takes for faces, in photographs that the score did not learn from",
        "squares": "squares cut from these photographs at random",
        "ferplus": "pictures that FER+'s raters call no face",
    }
    lines = [
        f"- `not_a_face` is a score of its own beside the expressions. Above {threshold:.3f} a crop is marked; {none['lost']:.2%} of"
        f" {none['faces']:,} real faces are."
    ]
    lines += [
        f"  - Of {none[key]['count']:,} {name}: area under ROC {none[key]['roc_auc']:.4f}, "
        f"{none[key]['recall_at_1_percent']:.1%} found at 1 % false alarms, {none[key]['recall_at_threshold']:.1%} at the threshold."
        for key, name in names.items()
        if key in none
    ]
    return "\n".join(lines)


def _int8(info: ModelInfo) -> str:
    facts = info.quantisation
    same, of = facts["agreement"], facts["calibration"]
    return f"""\
{BYTES}

The int8 file lies beside the float file. Under a shipped name the one is run that this processor gains by; of a path, the file itself. Static, per channel, calibrated on {of["faces"]} faces of {of["data"]}
(seed {of["seed"]}). On {same["faces"]:,} validation faces it reads {same["accuracy"]:.2%} right, the float file {same["float_accuracy"]:.2%}; both name {same["same"]:.1%} of the
faces alike. Made from the float file with SHA-256 `{facts["sha256"]}`."""

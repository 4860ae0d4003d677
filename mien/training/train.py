"""The training loop, top to bottom; one epoch of it is in epoch.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.core.errors import RecipeError
from mien.core.files import make_folder, write_json, write_text
from mien.core.locks import hold_lock
from mien.core.memory import retain_freed_memory
from mien.core.preprocessing import Preprocessing
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.data.splits import write_names
from mien.evaluation.metrics import confusion_matrix, score
from mien.evaluation.reports.figures import draw_curves
from mien.evaluation.tables import write_scores
from mien.models import MISFITS, build, takes_size
from mien.training.checkpoint import Trained, save_trained
from mien.training.convolution import as_products
from mien.training.epoch import Course, probabilities_of, run_epoch, state_of
from mien.training.hardware import Hardware
from mien.training.lineage import Lineage, caveat, lineage
from mien.training.losses import check_alpha, class_weights, gives_logits, retuned_alpha
from mien.training.optimizers import should_stop
from mien.training.preparation import Rows, choose_rows, earlier_models, fingerprint, input_of, start_from, to_device
from mien.training.recipe import Recipe
from mien.training.resume import saved_state
from mien.training.run_log import batches_note, epoch_line, log_header, opening_line, warmup_note
from mien.training.semi import Unlabeled
from mien.training.targets import targets_of, teacher_fingerprint, teacher_of
from mien.training.tensorboard_log import event_log
from mien.training.torch_classifier import TorchClassifier, load_run

Say = Callable[[str], None]
#: Drawing takes half a second: epochs that are shorter do not draw each time.
CURVES_EVERY_S = 10.0


def train(
    recipe: Recipe, faces: FaceSet, folder: Path, *, resume: bool = False, quiet: bool = False, say: Say = print
) -> list[dict[str, Any]]:
    """Train a network as the recipe says; returns the log, a row an epoch.

    The run folder gets recipe.toml, environment.json, log.jsonl, curves.png, best.pt and last.pt, all brought up to
    date after every epoch, and at the end the scores on the validation faces. With ``resume`` a run that was
    interrupted goes on after its last whole epoch and ends with the same weights, bit for bit on the CPU, as if it had
    not been.

    Raises TrainingDiverged when the loss is no longer a number, OutputError when the folder holds another run, and
    RecipeError or DataError when a run is resumed with other settings or other faces.
    """
    was_there = folder.exists()
    make_folder(folder)
    hint = "wait until that training has ended, or choose another folder with --out"
    try:
        with hold_lock(folder / ".lock", folder, hint):
            return _train(recipe, faces, folder, resume, quiet, say)
    finally:
        if not was_there:
            with suppress(OSError):  # an empty folder, of a training that could not begin
                folder.rmdir()


def _train(recipe: Recipe, faces: FaceSet, folder: Path, resume: bool, quiet: bool, say: Say) -> list[dict[str, Any]]:
    rows = choose_rows(recipe, faces, say)
    hardware = Hardware.choose(recipe.run.device, recipe.run.precision)
    retain_freed_memory()
    identity = {
        "faces": fingerprint(rows, votes=bool(recipe.targets.votes)),
        "hardware": f"{hardware.device.type}, {hardware.precision}",
        "teacher": teacher_fingerprint(recipe.targets, hardware),
    }
    saved = saved_state(folder, recipe, identity, resume)
    if resume and saved is None:
        say(f"{folder} holds no whole epoch to go on from: beginning with the first")
    # Before the network and its random numbers: a teacher draws some too.
    course = course_of(recipe, rows, hardware, say)
    ancestry = _lineage(recipe, rows, saved, say)
    trained = begin_network(recipe, rows.training.classes, course.preprocessing, hardware, say)
    alpha = _alpha(recipe, rows, trained.network, course.preprocessing, hardware) if saved is None else saved["alpha"]
    state = state_of(recipe, trained.network, alpha)
    if saved is not None:
        state.restore(saved)
    trained = replace(trained, network=state.averaged.network)
    header = log_header(recipe, hardware, rows, state, saved) | {"held_out_caveat": _caveat(ancestry, rows)}
    write_text(folder / "recipe.toml", recipe.to_toml())
    write_json(folder / "environment.json", header["environment"])
    write_names(rows.validation, folder / "validation.csv")
    say(opening_line(header))
    say(f"classes: {', '.join(rows.training.classes)}")
    for note in (batches_note(recipe, len(rows.training)), warmup_note(recipe)):
        if note:
            say(note)

    epochs, drawn, count = recipe.schedule.epochs, float("-inf"), len(course.images)
    if len(state.history) >= epochs:
        say(f"all {epochs} epochs are done")
    with (
        progress_bar(recipe.name, epochs * count, done=len(state.history) * count, quiet=quiet) as bar,
        event_log(folder, recipe.run.tensorboard, len(state.history)) as log_events,
    ):
        for epoch in range(len(state.history), epochs):
            if should_stop(state.history, recipe.schedule.early_stop):
                say(f"stopped early: {recipe.schedule.early_stop} bad epochs in a row")
                break
            row = run_epoch(course, state, rows.validation, bar)
            state.history.append(row)
            say(epoch_line(row, epochs))
            log_events(row)

            trained = replace(trained, epoch=epoch + 1)
            if row["validation_accuracy"] > state.best:
                state.best = row["validation_accuracy"]
                save_trained(folder / "best.pt", trained, lineage=ancestry.to_checkpoint())
            write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in (header, *state.history)))
            if time.perf_counter() - drawn > CURVES_EVERY_S:
                draw_curves(state.history, folder / "curves.png", recipe.name)
                drawn = time.perf_counter()
            save_trained(
                folder / "last.pt",
                trained,
                **state.to_checkpoint(),
                recipe=recipe.model_dump_json(),
                identity=identity,
                header=json.dumps(header),
                lineage=ancestry.to_checkpoint(),
            )
    draw_curves(state.history, folder / "curves.png", recipe.name)
    _score_kept(folder, recipe, rows.validation, header["held_out_caveat"])
    return state.history


def course_of(recipe: Recipe, rows: Rows, hardware: Hardware, say: Say = print) -> Course:
    """What the recipe teaches from these rows, moved to where the network is trained."""
    preprocessing = input_of(recipe, rows.training)
    targets = targets_of(rows.training, recipe.targets, say).to(hardware.device)
    images, labels = to_device(rows.training, hardware)
    unlabeled = None
    if recipe.semi.method != "none":
        unlabeled = Unlabeled(to_device(rows.unlabeled, hardware)[0], recipe, preprocessing, hardware)
    teacher = teacher_of(recipe.targets, rows.training.classes, preprocessing, hardware)
    return Course(recipe, hardware, preprocessing, images, labels, targets, teacher, unlabeled)


def begin_network(
    recipe: Recipe, classes: tuple[str, ...], preprocessing: Preprocessing, hardware: Hardware, say: Say
) -> Trained:
    """The recipe's network with the weights that it begins with; RecipeError where it does not give logits."""
    torch.manual_seed(recipe.run.seed)  # initial weights and dropout draw from the global generator
    size = {"size": preprocessing.size} if takes_size(recipe.network.name) else {}
    arguments = {
        "num_classes": len(classes), "channels": preprocessing.channels, **size, **recipe.network.arguments
    }  # fmt: skip
    try:
        network = build(recipe.network.name, **arguments).to(hardware.device, memory_format=torch.channels_last)
        as_products(network, hardware)
        gives_logits(network, preprocessing.channels, preprocessing.size)
    except torch.OutOfMemoryError:
        raise
    except MISFITS as error:
        wanted = f"{preprocessing.channels} x {preprocessing.size} x {preprocessing.size} pixels"
        found = f"{recipe.network.name} cannot take pictures of {wanted} with these arguments ({error})"
        raise RecipeError("network", found, "change input.size or network.arguments") from error
    if recipe.start.model:
        say(start_from(network, recipe.start, classes))
    if recipe.augment.vertical_flip:
        say("note: augment.vertical_flip shows faces upside down, as none is met in use; it usually costs accuracy")
    return Trained(
        network,
        recipe.name,
        recipe.network.name,
        arguments,
        classes,
        preprocessing,
        epoch=0,
        labels_by=recipe.data.labels,
    )


def _alpha(
    recipe: Recipe, rows: Rows, network: nn.Module, preprocessing: Preprocessing, hardware: Hardware
) -> list[float] | None:
    """The weights of the classes in the loss, as loss.class_weights says; None: all alike."""
    how, counts = recipe.loss.class_weights, rows.training.class_counts()
    if how == "none":
        return None
    if how == "validation":  # the confusions of the network as it is before the first step
        images, _ = to_device(rows.validation, hardware)
        predicted = probabilities_of(network, images, preprocessing, hardware).argmax(axis=1)
        return retuned_alpha(confusion_matrix(rows.validation.labels, predicted, len(counts)))
    if isinstance(how, str):
        return class_weights(counts, how)
    check_alpha(how, rows.training.classes)
    return list(how)


def _lineage(recipe: Recipe, rows: Rows, saved: dict[str, Any] | None, say: Say) -> Lineage:
    """Which faces train the network and trained what it begins with or learns from; says what that means for scores."""
    if saved is not None and saved.get("lineage"):
        return Lineage.from_checkpoint(saved["lineage"])
    faces = [rows.training, *([rows.unlabeled] if recipe.semi.method != "none" else [])]
    found = lineage(faces, earlier_models(recipe.model_dump()))
    if note := _caveat(found, rows):
        if found.seen_earlier(rows.validation):
            hint = "hold out the same faces as that run (its run.seed and data.holdout), or give a validation split"
            say(f"note: {note}, so that scores on them are too good; {hint}")
        else:
            say(f"note: {note}; if so, scores on them are too good")
    if rows.held_out and (twins := found.seen(rows.validation)):
        say(f"note: {twins:,} of the held-out faces have an identical picture among the training faces")
    return found


def _caveat(found: Lineage, rows: Rows) -> str:
    """What is to be said of scores on the faces that are watched: only of those that were held out."""
    return caveat(found, rows.validation)[0] if rows.held_out else ""


def _score_kept(folder: Path, recipe: Recipe, validation: FaceSet, caveat: str) -> None:
    """Scores of the weights that the run stands for, in float32, as `mien evaluate` gives them."""
    classifier = TorchClassifier(load_run(folder))
    scores = score(classifier.probabilities(validation.images), validation.labels, classifier.labels)
    which = ", ".join(name for name in validation.splits if name) or "held out"
    which += f" ({caveat})" if caveat else ""
    facts = {"model": recipe.name, "split": which, "tta": "none", "labels_by": recipe.data.labels}
    write_scores(folder, scores, f"{recipe.name} on {which}", facts)

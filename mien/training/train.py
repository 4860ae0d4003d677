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
from mien.models import BUILD_ERRORS, build_network, has_fixed_size
from mien.training.convolution import replace_large_convolutions
from mien.training.epoch import TrainingContext, initial_state, predict_probabilities, run_epoch
from mien.training.hardware import Hardware
from mien.training.losses import (
    check_class_weights,
    check_outputs_logits,
    compute_class_weights,
    compute_recall_weights,
)
from mien.training.optimizers import should_stop
from mien.training.preparation import (
    RunFaces,
    fingerprint_faces,
    list_ancestor_models,
    load_start_weights,
    make_preprocessing,
    move_to_device,
    select_run_faces,
)
from mien.training.recipe import Recipe
from mien.training.runs.checkpoint import TrainedModel, save_trained_model
from mien.training.runs.lineage import Lineage, collect_lineage, describe_overlap
from mien.training.runs.resume import load_resume_state
from mien.training.runs.run_log import (
    format_epoch_line,
    format_opening_line,
    format_steps_note,
    format_warmup_note,
    make_log_header,
)
from mien.training.runs.tensorboard_log import event_log
from mien.training.semi_supervised import UnlabeledLoss
from mien.training.targets import fingerprint_teachers, make_targets, make_teacher
from mien.training.torch_classifier import TorchClassifier, load_run

Echo = Callable[[str], None]
#: Seconds between two drawings of the curves. Drawing takes half a second, so short epochs do not draw each time.
CURVES_EVERY_S = 10.0


def train(
    recipe: Recipe, faces: FaceSet, folder: Path, *, resume: bool = False, quiet: bool = False, echo: Echo = print
) -> list[dict[str, Any]]:
    """Train a network as the recipe says; return the log, one row for each epoch.

    The run folder gets recipe.toml, environment.json, log.jsonl, best.pt and last.pt, updated after each epoch. It also
    gets curves.png, drawn every ten seconds and at the end, and finally the scores on the validation faces. With
    ``resume`` an interrupted run continues after its last finished epoch. On the CPU its final weights are the same, bit
    for bit, as without the interruption.

    Raises TrainingDiverged if the loss becomes NaN or infinite, OutputError if the folder holds another run, and
    RecipeError or DataError if a run is resumed with other settings or other faces.
    """
    was_there = folder.exists()
    make_folder(folder)
    hint = "wait until that training has ended, or choose another folder as `out`"
    try:
        with hold_lock(folder / ".lock", folder, hint):
            return _train(recipe, faces, folder, resume, quiet, echo)
    finally:
        if not was_there:
            with suppress(OSError):  # the empty folder of a training that did not start
                folder.rmdir()


def _train(recipe: Recipe, faces: FaceSet, folder: Path, resume: bool, quiet: bool, echo: Echo) -> list[dict[str, Any]]:
    rows = select_run_faces(recipe, faces, echo)
    hardware = Hardware.choose(recipe.run.device, recipe.run.precision)
    retain_freed_memory()
    identity = {
        "faces": fingerprint_faces(rows, votes=bool(recipe.targets.votes)),
        "hardware": f"{hardware.device.type}, {hardware.precision}",
        "teacher": fingerprint_teachers(recipe.targets, hardware),
    }
    saved = load_resume_state(folder, recipe, identity, resume)
    if resume and saved is None:
        echo(f"{folder} holds no finished epoch to resume from: starting with the first")
    # Before the network is initialized: a teacher draws random numbers, too.
    context = make_context(recipe, rows, hardware, echo)
    ancestry = _make_lineage(recipe, rows, saved, echo)
    trained = initialize_network(recipe, rows.training.classes, context.preprocessing, hardware, echo)
    alpha = (
        _make_class_weights(recipe, rows, trained.network, context.preprocessing, hardware)
        if saved is None
        else saved["alpha"]
    )
    state = initial_state(recipe, trained.network, alpha)
    if saved is not None:
        state.restore(saved)
    trained = replace(trained, network=state.averaged.network)
    header = make_log_header(recipe, hardware, rows, state, saved) | {
        "held_out_caveat": _describe_held_out_overlap(ancestry, rows)
    }
    write_text(folder / "recipe.toml", recipe.to_toml())
    write_json(folder / "environment.json", header["environment"])
    write_names(rows.validation, folder / "validation.csv")
    echo(format_opening_line(header))
    echo(f"classes: {', '.join(rows.training.classes)}")
    for note in (format_steps_note(recipe, len(rows.training)), format_warmup_note(recipe)):
        if note:
            echo(note)

    epochs, drawn_at, count = recipe.schedule.epochs, time.perf_counter(), len(context.images)
    if len(state.history) >= epochs:
        echo(f"all {epochs} epochs are done")
    with (
        progress_bar(recipe.name, epochs * count, done=len(state.history) * count, quiet=quiet) as bar,
        event_log(folder, recipe.run.tensorboard, len(state.history)) as log_events,
    ):
        for epoch in range(len(state.history), epochs):
            if should_stop(state.history, recipe.schedule.early_stop):
                echo(f"stopped early: {recipe.schedule.early_stop} bad epochs in a row")
                break
            row = run_epoch(context, state, rows.validation, bar)
            state.history.append(row)
            echo(format_epoch_line(row, epochs))
            log_events(row)

            trained = replace(trained, epoch=epoch + 1)
            if row["validation_accuracy"] > state.best_accuracy:
                state.best_accuracy = row["validation_accuracy"]
                save_trained_model(folder / "best.pt", trained, lineage=ancestry.to_checkpoint())
            write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in (header, *state.history)))
            if time.perf_counter() - drawn_at > CURVES_EVERY_S:
                draw_curves(state.history, folder / "curves.png", recipe.name)
                drawn_at = time.perf_counter()
            save_trained_model(
                folder / "last.pt",
                trained,
                **state.to_checkpoint(),
                recipe=recipe.model_dump_json(),
                identity=identity,
                header=json.dumps(header),
                lineage=ancestry.to_checkpoint(),
            )
    draw_curves(state.history, folder / "curves.png", recipe.name)
    _score_run(folder, recipe, rows.validation, header["held_out_caveat"])
    return state.history


def make_context(recipe: Recipe, rows: RunFaces, hardware: Hardware, echo: Echo = print) -> TrainingContext:
    """Return the data and settings of a training, on the device of the hardware."""
    preprocessing = make_preprocessing(recipe, rows.training)
    targets = make_targets(rows.training, recipe.targets, echo).to(hardware.device)
    images, labels = move_to_device(rows.training, hardware)
    unlabeled = None
    if recipe.semi.method != "none":
        unlabeled = UnlabeledLoss(move_to_device(rows.unlabeled, hardware)[0], recipe, preprocessing, hardware)
    teacher = make_teacher(recipe.targets, rows.training.classes, preprocessing, hardware)
    return TrainingContext(recipe, hardware, preprocessing, images, labels, targets, teacher, unlabeled)


def initialize_network(
    recipe: Recipe, classes: tuple[str, ...], preprocessing: Preprocessing, hardware: Hardware, echo: Echo
) -> TrainedModel:
    """Return the recipe's network with its initial weights.

    Raises RecipeError if it cannot take the inputs, and ModelError if it does not return logits.
    """
    torch.manual_seed(recipe.run.seed)  # initial weights and dropout draw from the global generator
    size = {"size": preprocessing.size} if has_fixed_size(recipe.network.name) else {}
    arguments = {
        "num_classes": len(classes), "channels": preprocessing.channels, **size, **recipe.network.arguments
    }  # fmt: skip
    try:
        network = hardware.move_network(build_network(recipe.network.name, **arguments))
        replace_large_convolutions(network, hardware)
        check_outputs_logits(network, preprocessing.channels, preprocessing.size)
    except torch.OutOfMemoryError:
        raise
    except BUILD_ERRORS as error:
        shape = f"{preprocessing.channels} x {preprocessing.size} x {preprocessing.size} pixels"
        problem = f"{recipe.network.name} cannot take inputs of {shape} with these arguments ({error})"
        raise RecipeError("network", problem, "change `input.size` or `network.arguments`") from error
    if recipe.start.model:
        echo(load_start_weights(network, recipe.start, classes))
    if recipe.augment.vertical_flip:
        echo("note: augment.vertical_flip trains on upside-down faces, which usually lowers the accuracy")
    return TrainedModel(
        network,
        recipe.name,
        recipe.network.name,
        arguments,
        classes,
        preprocessing,
        epoch=0,
        labels_by=recipe.data.labels,
    )


def _make_class_weights(
    recipe: Recipe, rows: RunFaces, network: nn.Module, preprocessing: Preprocessing, hardware: Hardware
) -> list[float] | None:
    """Return the class weights of the loss as ``loss.class_weights`` says; None for equal weights."""
    how, counts = recipe.loss.class_weights, rows.training.class_counts()
    if how == "none":
        return None
    if how == "validation":  # from the confusion matrix of the network before the first step
        images, _ = move_to_device(rows.validation, hardware)
        predicted = predict_probabilities(network, images, preprocessing, hardware).argmax(axis=1)
        return compute_recall_weights(confusion_matrix(rows.validation.labels, predicted, len(counts)))
    if isinstance(how, str):
        return compute_class_weights(counts, how)
    check_class_weights(how, rows.training.classes)
    return list(how)


def _make_lineage(recipe: Recipe, rows: RunFaces, saved: dict[str, Any] | None, echo: Echo) -> Lineage:
    """Return the lineage of the network, and print a note if it makes held-out scores too high."""
    if saved is not None and saved.get("lineage"):
        return Lineage.from_checkpoint(saved["lineage"])
    faces = [rows.training, *([rows.unlabeled] if recipe.semi.method != "none" else [])]
    lineage = collect_lineage(faces, list_ancestor_models(recipe.model_dump()))
    if note := _describe_held_out_overlap(lineage, rows):
        if lineage.count_seen_by_ancestors(rows.validation):
            hint = "hold out the same faces as that run (the same run.seed and data.holdout), or use a validation split"
            echo(f"note: {note}, so scores on them are too high; {hint}")
        else:
            echo(f"note: {note}; if so, scores on them are too high")
    if rows.held_out and (duplicates := lineage.count_seen(rows.validation)):
        echo(f"note: {duplicates:,} of the held-out faces have an identical picture among the training faces")
    return lineage


def _describe_held_out_overlap(lineage: Lineage, rows: RunFaces) -> str:
    """Return the note on scores of the validation faces, "" if they were not held out of the training split."""
    return describe_overlap(lineage, rows.validation)[0] if rows.held_out else ""


def _score_run(folder: Path, recipe: Recipe, validation: FaceSet, caveat: str) -> None:
    """Write the scores of the kept epoch's weights in float32, as `mien evaluate` computes them."""
    classifier = TorchClassifier(load_run(folder))
    scores = score(classifier.probabilities(validation.images), validation.labels, classifier.labels)
    which = ", ".join(name for name in validation.splits if name) or "held out"
    which += f" ({caveat})" if caveat else ""
    facts = {"model": recipe.name, "split": which, "tta": "none", "labels_by": recipe.data.labels}
    write_scores(folder, scores, f"{recipe.name} on {which}", facts)

"""The header of a training's log, and the lines that it prints."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mien.training.epoch import TrainingState
from mien.training.hardware import Hardware
from mien.training.preparation import RunFaces
from mien.training.recipe import Recipe
from mien.training.runs.environment import describe_environment


def make_log_header(
    recipe: Recipe, hardware: Hardware, rows: RunFaces, state: TrainingState, saved: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the first line of the log: recipe, environment and faces of the run, and the environments of each resume."""
    here = describe_environment(hardware.device, hardware.precision, recipe.run.seed)
    if saved is not None:
        header = json.loads(saved["header"])
        if len(json.loads(saved["history"])) < recipe.schedule.epochs:
            header["resumed"].append(here)
        return header
    return {
        "recipe": recipe.model_dump(),
        "environment": here,
        "training": len(rows.training),
        "validation": len(rows.validation),
        "unlabeled": len(rows.unlabeled),
        "held_out": rows.held_out,
        "classes": list(rows.training.classes),
        "splits": list(rows.training.splits),
        "parameters": sum(p.numel() for p in state.network.parameters()),
        "alpha": state.alpha,
        "resumed": [],
    }


def format_opening_line(header: dict[str, Any]) -> str:
    """Return the network, the numbers of faces and the hardware in one line."""
    here = (header["resumed"] or [header["environment"]])[-1]
    device = here["processor"] if here["device"] == "cpu" else here["device"]
    return (
        f"{header['recipe']['network']['name']}, {header['parameters']:,} parameters, {header['training']:,} training faces, "
        f"{header['validation']:,} validation faces; {device}, {here['threads']} threads, {here['precision']}, {here['started']}"
    )


def format_epoch_line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>3}/{epochs}  lr {row['lr']:.4f}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.1%}  "
        f"validation loss {row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.2%}  "
        f"macro-F1 {row['validation_macro_f1']:.3f}  {row['images_per_s']:,.0f} images/s"
    )


def format_steps_note(recipe: Recipe, count: int) -> str:
    """Return a note if an epoch has fewer than ten steps, "" otherwise."""
    batch = min(recipe.schedule.batch_size, count)
    steps, left = divmod(count, batch)
    if steps >= 10 or batch < 8:
        return ""
    smaller = max(4, 2 ** int(np.log2(max(count / 20, 4))))
    return (
        f"note: {count:,} faces give {steps} step{'s' if steps > 1 else ''} of {batch} per epoch"
        + (f", which leave out {left} faces" if left else "")
        + (f"; schedule.batch_size={smaller} gives more steps" if smaller < batch else "")
    )


def format_warmup_note(recipe: Recipe) -> str:
    """Return a note if the warm-up takes all epochs, "" otherwise."""
    warmup, epochs = recipe.schedule.warmup_epochs, recipe.schedule.epochs
    if warmup < epochs or not warmup:
        return ""
    fewer = f"{epochs / 5:g}"
    return (
        f"note: the warm-up of {warmup:g} epochs takes all {epochs} epochs, so the training ends at its highest learning "
        f"rate; schedule.warmup_epochs={fewer} leaves the other epochs to the schedule"
    )

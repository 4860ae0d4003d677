"""Trainings that end between two epochs, as by Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.core.types import FaceSet
from mien.training.recipe import Recipe
from mien.training.train import train


def silent(text: str) -> None:
    """Print nothing."""


def train_epochs_then_interrupt(epochs: int, recipe: Recipe, faces: FaceSet, folder: Path) -> None:
    """Train into ``folder`` and interrupt after so many epochs: when the next one is reported, before it is stored."""

    def interrupt(text: str) -> None:
        if text.startswith(f"epoch {epochs + 1:3d}"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, faces, folder, quiet=True, echo=interrupt)

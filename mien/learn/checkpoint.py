"""Checkpoints: what a run needs to go on, and what a trained network needs to be used. Written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.core.errors import ModelError
from mien.core.files import replacing
from mien.core.preprocess import Preprocessing
from mien.models import build

FORMAT = 1


@dataclass(frozen=True)
class Trained:
    """A trained network with what it takes to use it.

    temperature: divides the logits before the softmax; epoch: how many were trained, 0 where it is not known.
    labels_by: whose labels it learnt, "given" or FER+'s "raters".
    """

    network: nn.Module
    name: str
    network_name: str
    network_arguments: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    epoch: int
    temperature: float = 1.0
    labels_by: str = "given"

    def describe(self) -> dict[str, Any]:
        """Everything but the weights, as plain values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "network": self.network_name,
            "arguments": self.network_arguments,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            "epoch": self.epoch,
            "labels_by": self.labels_by,
        }


def save_trained(path: Path, trained: Trained, **more: Any) -> None:
    """Write weights (of ``trained.network``) and description; ``more`` holds the state that only resuming needs."""
    with replacing(path) as temporary:
        torch.save({**trained.describe(), "weights": trained.network.state_dict(), **more}, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The raw contents. Only tensors and plain values are accepted: a checkpoint cannot run code."""
    if not path.is_file():
        raise ModelError(path, "does not exist", "check the path, or train first with 'mien train'")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
        raise ModelError(path, "is not a checkpoint that can be read", "train again, or name another file") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise ModelError(path, "is not a checkpoint of mien", "name a run folder or one of its .pt files")
    return contents


def load_trained(path: Path) -> Trained:
    """The network of a .pt file, in evaluation mode on the CPU."""
    contents = read_checkpoint(path)
    network = build(contents["network"], **contents["arguments"])
    network.load_state_dict(contents["weights"])
    return Trained(
        network.eval(),
        contents["name"],
        contents["network"],
        contents["arguments"],
        tuple(contents["classes"]),
        Preprocessing.from_json(contents["preprocessing"]),
        contents["epoch"],
        labels_by=contents.get("labels_by", "given"),
    )

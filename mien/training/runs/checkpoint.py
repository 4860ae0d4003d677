"""Checkpoints: the state to resume a training, and the description to use its network. Files are written atomically."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.core.errors import ModelError
from mien.core.files import replace_file
from mien.core.preprocessing import Preprocessing
from mien.data.annotators import rename_label_source
from mien.models import BUILD_ERRORS, build_network_for_weights, check_finite_weights

FORMAT = 1


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with its classes and preprocessing.

    temperature: divides the logits before the softmax.
    epoch: number of epochs trained, 0 if unknown.
    labels_by: source of the training labels, "given" or FER+'s "annotators".
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
        """Return everything except the weights as plain values."""
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


def save_trained_model(path: Path, trained: TrainedModel, **more: Any) -> None:
    """Write the weights of ``trained.network`` and its description; ``more`` holds the state for resuming and the lineage.

    Raises OutputError if the file cannot be written completely, for example on a full disk.
    """
    # Pass an open file: with a path, torch hides the reason of the operating system.
    with replace_file(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({**trained.describe(), "weights": trained.network.state_dict(), **more}, file)
        except RuntimeError as error:  # torch's "enforce fail", raised over the system's own error
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the raw contents of a checkpoint. Only tensors and plain values are loaded, so a file cannot run code."""
    if not path.is_file():
        raise ModelError(path, "does not exist", "check the path, or train a network first")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        raise ModelError(path, "is not a readable checkpoint", "train again, or name another file") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise ModelError(path, "is not a checkpoint of mien", "name a run folder or one of its .pt files")
    return contents


def load_trained_model(path: Path) -> TrainedModel:
    """Return the network of a .pt file, in evaluation mode on the CPU.

    Raises ModelError if the file describes no network, lacks weights, or has weights that are not finite.
    """
    contents = read_checkpoint(path)
    try:
        arguments = dict(contents["arguments"])
        network = build_network_for_weights(contents["weights"], _require_text(contents["network"]), **arguments)
        network.load_state_dict(contents["weights"])
        trained = TrainedModel(
            network.eval(),
            _require_text(contents["name"]),
            contents["network"],
            arguments,
            tuple(_require_text(name) for name in contents["classes"]),
            Preprocessing.from_json(contents["preprocessing"]),
            int(contents["epoch"]),
            labels_by=rename_label_source(_require_text(contents.get("labels_by", "given"))),
        )
        if len(trained.classes) != arguments.get("num_classes", len(trained.classes)):
            raise ValueError(f"{len(trained.classes)} class names for {arguments['num_classes']} classes")
    except (*BUILD_ERRORS, KeyError, TypeError, AttributeError, ModelError) as error:
        reason = " ".join(str(error).split())[:200]
        problem = f"is a damaged checkpoint ({type(error).__name__}: {reason})"
        raise ModelError(path, problem, "train again, or name another file") from error
    check_finite_weights(network, path)
    return trained


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.50} is not a text")
    return value

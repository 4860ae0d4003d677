"""Weights of several trainings of one network, averaged (Wortsman et al., "Model soups", 2022)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from mien.core.errors import ModelError
from mien.core.files import make_folder, write_json, write_text
from mien.core.types import FaceSet
from mien.learn.checkpoint import Trained, save_trained
from mien.learn.inference import read_log
from mien.learn.recipe import load_recipe


def average(members: Sequence[Trained], images: torch.Tensor, batch_size: int = 512) -> Trained:
    """The last member, whose network is given the mean of the weights of all; its running statistics are measured anew on ``images``.

    It pays where one training went on from the other, so that both lie in the same valley of the loss; the mean of
    trainings that began apart knows nothing. images: float32 (N, C, S, S), normalised as the network takes them.
    Raises ModelError where the networks, classes or inputs differ.
    """
    last = members[-1]
    for member in members:
        for what in ("network_name", "network_arguments", "classes", "preprocessing", "labels_by"):
            mine, theirs = getattr(member, what), getattr(last, what)
            if mine != theirs:
                found = f"has {what.replace('_', ' ')} {mine}, and {last.name} {theirs}"
                raise ModelError(member.name, found, "average trainings of one network on the same classes and inputs")
    states = [member.network.state_dict() for member in members]
    network = last.network
    mean = {
        name: sum(state[name] for state in states) / len(states) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }
    network.load_state_dict(mean)
    _measure_anew(network, images, batch_size)
    return replace(last, network=network.eval())


@torch.no_grad()
def _measure_anew(network: nn.Module, images: torch.Tensor, batch_size: int) -> None:
    """The running statistics of all batch norms, as plain means over the batches."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in images.split(batch_size):
        if norms and len(batch) > 1:
            network(batch.contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def average_runs(
    runs: Sequence[Path], members: Sequence[Trained], training: FaceSet, out: Path, name: str = ""
) -> Trained:
    """The average of several runs as a run folder, which holds the log of the last of them and says what it is.

    members: their networks, in order; that of the last becomes the average. training: faces uint8 as the runs were
    given, without changes. Raises ModelError where the runs do not fit or watched other faces.
    """
    preprocessing = members[-1].preprocessing
    averaged = average(members, torch.from_numpy(preprocessing.to_tensor(training.images)))
    averaged = replace(averaged, name=name or out.name)
    watched = [
        (run / "validation.csv").read_text(encoding="utf-8") for run in runs if (run / "validation.csv").is_file()
    ]
    if len(set(watched)) > 1:
        found = "did not watch the same faces, so that what one held out may have taught another"
        raise ModelError(", ".join(map(str, runs)), found, "average runs on the same data")
    make_folder(out)
    last = runs[-1] if runs[-1].is_dir() else runs[-1].parent
    header, history = read_log(last)
    if header:
        header["averaged"] = {"with": [run.name for run in runs[:-1]], "faces": len(training)}
        write_text(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in (header, *history)))
        write_json(out / "environment.json", header["environment"])
    for file in ("validation.csv", "curves.png"):
        if (last / file).is_file():
            shutil.copyfile(last / file, out / file)
    write_text(out / "recipe.toml", load_recipe(last / "recipe.toml", ["run.keep=last"]).to_toml())
    save_trained(out / "last.pt", averaged)
    return averaged

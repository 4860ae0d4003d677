"""Average the weights of several trainings of one network (Wortsman et al., "Model soups", 2022)."""

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
from mien.training.recipe import load_recipe
from mien.training.runs.checkpoint import TrainedModel, save_trained_model
from mien.training.runs.lineage import combine_lineages, describe_stored_overlap, read_lineage
from mien.training.torch_classifier import read_log


def average_models(
    members: Sequence[TrainedModel], images: torch.Tensor, batch_size: int = 512, seed: int = 0
) -> TrainedModel:
    """Return the last member with the mean weights of all members and batch norm statistics recomputed on ``images``.

    Averaging works if one training continued another, so that both are in the same basin of the loss. Averaging
    independently initialized trainings does not work.

    images: float32 (N, C, S, S), normalized, in any order: they are shuffled by ``seed``.
    Raises ModelError if the networks, classes or inputs differ.
    """
    last = members[-1]
    for member in members:
        for what in ("network_name", "network_arguments", "classes", "preprocessing", "labels_by"):
            mine, theirs = getattr(member, what), getattr(last, what)
            if mine != theirs:
                problem = f"has {what.replace('_', ' ')} {mine}, and {last.name} {theirs}"
                raise ModelError(
                    member.name, problem, "average trainings of one network on the same classes and inputs"
                )
    states = [member.network.state_dict() for member in members]
    network = last.network
    mean = {
        name: sum(state[name] for state in states) / len(states) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }
    network.load_state_dict(mean)
    update_batch_norms(network, images, batch_size, torch.Generator().manual_seed(seed))
    return replace(last, network=network.eval())


@torch.no_grad()
def update_batch_norms(network: nn.Module, images: torch.Tensor, batch_size: int, generator: torch.Generator) -> None:
    """Set the running statistics of all batch norms to their means over shuffled batches, weighted by batch size.

    images: float32 (N, C, S, S). They are shuffled because data may be sorted by class: the variance of such a batch
    would be that of one class.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    seen = 0
    for rows in torch.randperm(len(images), generator=generator).split(batch_size) if norms else ():
        if len(rows) == 1:  # has no variance
            continue
        seen += len(rows)
        for norm in norms:
            norm.momentum = len(rows) / seen
        network(images[rows].contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def average_runs(
    runs: Sequence[Path], members: Sequence[TrainedModel], training: FaceSet, out: Path, name: str = ""
) -> tuple[TrainedModel, str]:
    """Write the average of several runs as a run folder with the log of the last one. Return the averaged model and a
    note on scores of the faces that the last run held out, "" if there is none.

    members: the networks of the runs, in order; that of the last run becomes the average. training: the training faces,
    uint8, without augmentation. Raises ModelError if the runs do not fit or have other validation faces.
    """
    folders = [run if run.is_dir() else run.parent for run in runs]
    watched = [
        (run / "validation.csv").read_text(encoding="utf-8") for run in folders if (run / "validation.csv").is_file()
    ]
    if len(set(watched)) > 1:
        problem = "have different validation faces, so faces that one run held out may have trained another"
        raise ModelError(", ".join(map(str, runs)), problem, "average runs on the same data")
    preprocessing = members[-1].preprocessing
    averaged = average_models(members, torch.from_numpy(preprocessing.to_tensor(training.images)))
    averaged = replace(averaged, name=name or out.name)
    ancestry = combine_lineages([read_lineage(run) for run in runs], [str(run) for run in runs])
    make_folder(out)
    last = folders[-1]
    header, history = read_log(last)
    note = describe_stored_overlap(ancestry, last / "validation.csv") if header.get("held_out") else ""
    if header:
        header["averaged"] = {"with": [run.name for run in runs[:-1]], "faces": len(training)}
        header.pop("held_out_caveat", None)
        if ancestry:
            header["held_out_caveat"] = note
        write_text(out / "log.jsonl", "".join(json.dumps(row) + "\n" for row in (header, *history)))
        write_json(out / "environment.json", header["environment"])
    for file in ("validation.csv", "curves.png"):
        if (last / file).is_file():
            shutil.copyfile(last / file, out / file)
    write_text(out / "recipe.toml", load_recipe(last / "recipe.toml", ["run.keep=last"]).to_toml())
    save_trained_model(out / "last.pt", averaged, **({"lineage": ancestry.to_checkpoint()} if ancestry else {}))
    return averaged, note

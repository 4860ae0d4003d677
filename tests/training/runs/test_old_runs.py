"""Recipes and run folders of version 0.1, whose keys have other names since, are read and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mien.training.recipe import load_recipe, parse_recipe
from mien.training.runs.checkpoint import load_trained_model, read_checkpoint
from mien.training.torch_classifier import load_run, read_log
from mien.training.train import train
from tests.conftest import patterns, small_recipe
from tests.training.interruption import silent, train_epochs_then_interrupt


def rename_to_old_keys(recipe: dict[str, Any]) -> None:
    """Write the present keys as version 0.1 did."""
    recipe["input"]["normalise"] = recipe["input"].pop("normalize")
    recipe["data"]["against"] = recipe["data"].pop("one_vs_rest")


def make_old_run(folder: Path) -> None:
    """Turn a run folder into one of version 0.1: its recipe.toml, its log and its last.pt."""
    toml = folder / "recipe.toml"
    text = toml.read_text(encoding="utf-8")
    assert "\nnormalize = " in text and "\none_vs_rest = " in text
    toml.write_text(
        text.replace("\nnormalize = ", "\nnormalise = ").replace("\none_vs_rest = ", "\nagainst = "), encoding="utf-8"
    )
    saved = read_checkpoint(folder / "last.pt")
    recipe, header = json.loads(saved["recipe"]), json.loads(saved["header"])
    rename_to_old_keys(recipe)
    rename_to_old_keys(header["recipe"])
    torch.save(saved | {"recipe": json.dumps(recipe), "header": json.dumps(header)}, folder / "last.pt")
    rows = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    (folder / "log.jsonl").write_text("\n".join([json.dumps(header), *rows]) + "\n", encoding="utf-8")


def test_a_recipe_with_the_old_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('[input]\nnormalise = "half"\n[data]\nagainst = "sad"\n', encoding="utf-8")
    recipe = load_recipe(tmp_path / "old.toml")
    assert (recipe.input.normalize, recipe.data.one_vs_rest) == ("half", "sad")
    assert load_recipe("base", ["input.normalise=unit", "data.against=sad"]) == load_recipe(
        "base", ["input.normalize=unit", "data.one_vs_rest=sad"]
    )
    assert load_recipe("base", ["data.labels=raters"]).data.labels == "annotators"


def test_a_checkpoint_with_the_old_source_of_labels_is_read(run_folder: Path, tmp_path: Path) -> None:
    torch.save(read_checkpoint(run_folder / "best.pt") | {"labels_by": "raters"}, tmp_path / "old.pt")
    assert load_trained_model(tmp_path / "old.pt").labels_by == "annotators"


def test_a_training_that_was_begun_with_the_old_keys_resumes_exactly(tmp_path: Path) -> None:
    recipe = small_recipe(data={"one_vs_rest": "sad"}, input={"normalize": "half"}, schedule={"epochs": 2})
    train(recipe, patterns(140), tmp_path / "whole", quiet=True, echo=silent)

    train_epochs_then_interrupt(1, recipe, patterns(140), tmp_path / "cut")
    make_old_run(tmp_path / "cut")
    assert load_recipe(tmp_path / "cut" / "recipe.toml") == recipe
    assert parse_recipe(read_log(tmp_path / "cut")[0]["recipe"], "log") == recipe
    assert load_run(tmp_path / "cut").epoch == 1
    reworded = recipe.model_copy(update={"description": "in other words"})
    train(reworded, patterns(140), tmp_path / "cut", resume=True, quiet=True, echo=silent)
    whole, cut = (read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    assert len(json.loads(cut["history"])) == 2
    for key in ("weights", "raw_weights"):
        assert whole[key].keys() == cut[key].keys()
        assert all(torch.equal(whole[key][name], cut[key][name]) for name in whole[key])

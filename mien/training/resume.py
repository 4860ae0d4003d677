"""Going on with a run: its last checkpoint, if it is of the very run that is to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mien.core.errors import DataError, ModelError, OutputError, RecipeError
from mien.training.checkpoint import read_checkpoint
from mien.training.recipe import Recipe, parse_recipe

#: What a checkpoint of a training holds beside its network.
REQUIRED_KEYS = ("raw_weights", "optimizer", "averaged_steps", "generator", "torch_rng", "cuda_rng", "alpha", "history", "best",
          "recipe", "identity", "header")  # fmt: skip


def load_resume_state(folder: Path, recipe: Recipe, identity: dict[str, str], resume: bool) -> dict[str, Any] | None:
    """The last checkpoint of an interrupted run, None for a new one. A run is never overwritten by accident."""
    last = folder / "last.pt"
    if not last.exists():
        return None
    if not resume:
        raise OutputError(
            folder, "holds a run already", "go on with it by --resume, or choose another folder with --out"
        )
    saved = read_checkpoint(last)
    if missing := [name for name in REQUIRED_KEYS if name not in saved]:
        found = f"holds weights, but no training that can go on (its last.pt has no {', '.join(missing[:3])})"
        raise OutputError(folder, found, "begin a new run with --set start.model=RUN")
    try:
        begun = parse_recipe(json.loads(saved["recipe"]), str(folder))
        json.loads(saved["history"]), json.loads(saved["header"])["environment"], saved["identity"].keys()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            last, f"is a damaged checkpoint ({type(error).__name__}: {error})", "begin a new run"
        ) from error
    if begun != recipe:
        other = ", ".join(list_differences(begun, recipe))
        hint = "resume without --set; to train on with others, begin a new run with --set start.model=RUN"
        raise RecipeError(folder, f"was trained with other settings ({other})", hint)
    for what, hint in (
        ("faces", "give the same --data, --exclude and --skip-bad"),
        ("hardware", "go on where it began, or set run.device and run.precision to what it had"),
        ("teacher", "set targets.teacher to the one it began with"),
    ):
        before = saved["identity"].get(what, identity[what])
        if before != identity[what]:
            found = f"was trained with other {what} ({before}; now {identity[what]})"
            raise DataError(folder, found, hint)
    return saved


def list_differences(begun: Recipe, recipe: Recipe) -> list[str]:
    """``["schedule.epochs was 10, now 14"]``."""
    before, now = begun.model_dump(), recipe.model_dump()
    sections = [name for name, value in now.items() if isinstance(value, dict)]
    found = [f"{name} was {before[name]!r}, now {now[name]!r}" for name in now
             if name not in sections and before[name] != now[name]]  # fmt: skip
    return found + [
        f"{section}.{name} was {before[section][name]!r}, now {value!r}"
        for section in sections
        for name, value in now[section].items()
        if before[section][name] != value
    ]

"""Resume a run: read its last checkpoint and check that it belongs to the same recipe, faces and hardware."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mien.core.errors import DataError, ModelError, OutputError, RecipeError
from mien.training.runs.checkpoint import read_checkpoint
from mien.training.recipe import Recipe, parse_recipe

#: The keys that a checkpoint needs for resuming.
REQUIRED_KEYS = ("raw_weights", "optimizer", "averaged_steps", "generator", "torch_rng", "cuda_rng", "alpha", "history", "best",
          "recipe", "identity", "header")  # fmt: skip


def load_resume_state(folder: Path, recipe: Recipe, identity: dict[str, str], resume: bool) -> dict[str, Any] | None:
    """Return the last checkpoint of an interrupted run, None for a new run.

    Raises OutputError if the folder holds a run and ``resume`` is False, so that no run is overwritten by accident.
    """
    last = folder / "last.pt"
    if not last.exists():
        return None
    if not resume:
        raise OutputError(
            folder, "holds a run already", "continue it with `resume=True`, or choose another folder as `out`"
        )
    saved = read_checkpoint(last)
    if missing := [name for name in REQUIRED_KEYS if name not in saved]:
        found = f"holds weights, but no training to resume (its last.pt has no {', '.join(missing[:3])})"
        raise OutputError(folder, found, "start a new run with `start.model=RUN`")
    try:
        begun = parse_recipe(json.loads(saved["recipe"]), str(folder))
        json.loads(saved["history"]), json.loads(saved["header"])["environment"], saved["identity"].keys()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(
            last, f"is a damaged checkpoint ({type(error).__name__}: {error})", "start a new run"
        ) from error
    if begun != recipe:
        other = ", ".join(list_differences(begun, recipe))
        hint = "resume with the same settings; to train further with others, start a new run with `start.model=RUN`"
        raise RecipeError(folder, f"was trained with other settings ({other})", hint)
    for what, hint in (
        ("faces", "give the same `data`, `exclude` and `skip_bad`"),
        ("hardware", "resume on the same kind of hardware, or set `run.device` and `run.precision` to its values"),
        ("teacher", "set `targets.teacher` to the teacher of the first epochs"),
    ):
        before = saved["identity"].get(what, identity[what])
        if before != identity[what]:
            found = f"was trained with other {what} ({before}; now {identity[what]})"
            raise DataError(folder, found, hint)
    return saved


def list_differences(begun: Recipe, recipe: Recipe) -> list[str]:
    """Return the settings that differ, as in ``["schedule.epochs was 10, now 14"]``."""
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

"""Write the ladder as one Markdown page: the effect of each change, from the logs of `mien reproduce ladder`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mien.reproduction.page import describe_machine
from mien.reproduction.studies import LADDER

INTRO = """\
# Accuracy of single changes

This page shows how much each change of the recipe `base` affects accuracy. It is generated from the logs of this command:

```sh
mien reproduce ladder --data fer2013.csv
```

## Method

- Each row makes one change to the baseline. Changes are not combined.
- All runs train on FER2013's Training and are scored on PublicTest. PublicTest also selects among the rows, so these are validation scores.
- The network is small: `residual` with widths 40, 80 and 160 and one block per stage, the first architecture of `nano`.
- The schedule is short. Regularization helps more in longer trainings.
- In the rows with a teacher, the teacher is the first version of `base`, trained once on the labels alone."""

#: Rows that differ by their seed alone: their spread says which differences mean something.
SEEDS = ("start", "start-1", "start-2")


def make_page(result: dict[str, Any]) -> str:
    """Return docs/accuracy.md, made from the study's result."""
    runs = {name: run for name, run in result["runs"].items() if run["scores"]}
    found = [name for name in SEEDS if name in runs]
    starts = np.array([_accuracy_percent(runs[name]) for name in found])
    parts = [INTRO, f"## {LADDER.title}"]
    rows = [
        "| change | accuracy (%) | difference | macro-F1 | accuracy of the best epoch | images/s |",
        "|---|---|---|---|---|---|",
    ]
    if found:
        macro = np.mean([runs[name]["scores"]["none"]["macro_f1"] for name in found])
        several = f"{starts.min():.2f} to {starts.max():.2f}, {len(found)} seeds"
        spread = f"{starts.mean():.2f} ({several if len(found) > 1 else 'one seed'})"
        rows.append(
            f"| baseline: the recipe `base` | {spread} | | {macro:.3f} | | {_find_fastest_speed(runs, found):,.0f} |"
        )
    settings = {run.name: run.settings for run in LADDER.runs}
    for name in (name for name in settings if name in runs and name not in SEEDS):
        run, best = runs[name], max(row["validation_accuracy"] for row in runs[name]["history"])
        against = f"{_accuracy_percent(run) - starts.mean():+.2f}" if found else ""
        changed = ", ".join(f"`{setting}`" for setting in settings[name][2:]) or f"{len(run['history'])} epochs"
        macro = run["scores"]["none"]["macro_f1"]
        rows.append(
            f"| {changed} | {_accuracy_percent(run):.2f} | {against} | {macro:.3f} | {100 * best:.2f} | {_find_fastest_speed(runs, [name]):,.0f} |"
        )
    for tta in ("flip", "ten-crop"):
        scored = {name: 100 * runs[name]["scores"][tta]["accuracy"] for name in found if tta in runs[name]["scores"]}
        if scored:
            mean = np.mean(list(scored.values()))
            gain = mean - np.mean([_accuracy_percent(runs[name]) for name in scored])
            rows.append(f"| baseline, scored with `--tta {tta}` | {mean:.2f} | {gain:+.2f} | | | |")
    parts.append("\n".join(rows))
    seeds = "one seed except for the baseline" if len(found) > 1 else "one seed"
    machines = "\n".join(f"- {name}" for name in sorted({describe_machine(run) for run in runs.values()}))
    parts.append(
        f"Accuracy of the last epoch on 3,589 faces, {seeds}. One face is 0.03 points. The 95 % interval of one row is ±1.6 points. "
        "Differences are in points, from the mean of the baseline."
    )
    parts.append(f"Hardware:\n\n{machines}")
    return "\n\n".join(parts) + "\n"


def _accuracy_percent(run: dict[str, Any]) -> float:
    return 100 * run["scores"]["none"]["accuracy"]


def _find_fastest_speed(runs: dict[str, Any], names: list[str]) -> float:
    """Return the images/s of the fastest epoch, which other work on the machine disturbed least."""
    return max(row["images_per_s"] for name in names for row in runs[name]["history"])

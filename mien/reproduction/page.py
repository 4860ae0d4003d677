"""Write the results of `mien reproduce` as one Markdown page with figures; every number comes from the logs of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from mien.core.files import write_text
from mien.evaluation.reports.figures import draw_points, draw_run_curves
from mien.reproduction.studies import ALL, REFERENCES, STUDIES

Result = dict[str, Any]

#: What benchmarks add to the page: name → title.
BENCHMARK_TITLES = {"before-the-loss": "A softmax or a ReLU before cross-entropy: R1's first network"}

#: Student's t at 95 %, two-sided, for one and two degrees of freedom: two and three paired runs.
T_95 = {2: 12.706, 3: 4.303}

#: A run that was cut to fewer epochs has no result; it is in the table of costs alone.
MIN_EPOCHS = 10

INTRO = """\
# Reproduction

This page compares five reference systems with our training recipe on the same networks, and answers questions that their reports left open.
It is generated from the logs that `mien reproduce` writes as `NAME.json`.

```sh
mien reproduce r4-cnn --data fer2013.csv            # one system or study
mien reproduce all --data fer2013.csv --short       # all of them, on schedules for two CPU cores
```

## The reports

R1 to R5 are the reports on facial expression recognition that mien grew out of.

| report | content |
|---|---|
| R1 | networks from LeNet to one of its own |
| R2 | accuracy raised from a baseline to 66 %, one change at a time |
| R3 | five classes and little data |
| R4 | a deep VGG against a dense network of the same size |
| R5 | a loss for unbalanced classes, and ensembles |

## Method

- Each row is one run with one seed, unless stated otherwise.
- Nothing was selected on the faces that are scored.
- The splits are drawn from Training and PublicTest of FER2013.
- The reference numbers are those of the authors, on their own splits. Some authors selected weights and epochs on the test set.
- "Epochs" gives the number of epochs that were run, and the number in the full recipe."""


def read_results(folder: Path) -> dict[str, Result]:
    """Return study → result, of the studies that have run."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
        if path.stem in ALL or path.stem in BENCHMARK_TITLES
    }


def write_page(results: dict[str, Result], page: Path, pictures: Path) -> None:
    """Write ``page`` in Markdown, and its pictures into the folder ``pictures``, which is beside or below it."""
    pictures.mkdir(parents=True, exist_ok=True)
    for name in CURVES:
        histories = {run: result["history"] for run, result in _select_runs(name, results).items() if result["history"]}
        if histories:
            draw_run_curves(histories, pictures / f"{name}.png", _list_titles()[name])
    if "semi-supervised" in results:
        _draw_shares(results["semi-supervised"], pictures / "semi-supervised.png")
    write_text(page, make_page(results, pictures.relative_to(page.parent).as_posix()))


def make_page(results: dict[str, Result], pictures: str) -> str:
    """Return the page; ``pictures`` is the path of its pictures."""
    parts = [INTRO, _make_reference_table(results), _make_cost_table(results)]
    for name, title in _list_titles().items():
        if name in results and ((runs := _select_runs(name, results)) or "derived" in results[name]):
            parts += [f"## {title}", TABLES.get(name, _make_plain_table)(results[name] | {"runs": runs})]
            if name in CURVES or name == "semi-supervised":
                parts.append(f"![{title}]({pictures}/{name}.png)")
    return "\n\n".join(part for part in parts if part) + "\n"


def _list_titles() -> dict[str, str]:
    """Return the titles that follow the table of references, in this order."""
    return {study.name: study.title for study in STUDIES} | BENCHMARK_TITLES


def _make_reference_table(results: dict[str, Result]) -> str:
    rows = [
        "## The reference systems",
        "| system | reference | author's recipe | epochs | our recipe, same network | epochs | macro-F1 | images/s | hours | machine | seed |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ran = [run for result in results.values() for run in result["runs"].values() if run["history"]]
    machines = dict(zip(sorted({describe_machine(run) for run in ran}), ascii_uppercase, strict=False))
    beaten = 0
    for study in REFERENCES:
        runs = results.get(study.name, {}).get("runs", {})
        author, ours = runs.get("author"), runs.get("ours")
        won = bool(
            ours and ours["scores"] and _is_result(ours) and _accuracy_as_reference(ours) > (study.reference or 0)
        )
        beaten += won
        speed, hours, machine, macro, seed = "", "", "", "", ""
        if ours and ours["scores"]:
            speed, hours, machine = (
                f"{_fastest_speed(ours):,.0f}",
                f"{_estimate_hours(ours):.1f}",
                machines[describe_machine(ours)],
            )
            macro = f"{_plain_scores(ours)['macro_f1']:.3f}" if _is_result(ours) else ""
            seed = str(ours["recipe"]["run"]["seed"])
        cells = [
            f"`{study.name}`, {study.title}",
            f"{study.reference:.2f} ({study.what})",
            _format_accuracy(author),
            _format_epochs(author),
            (f"**{_format_accuracy(ours)}**" if won else _format_accuracy(ours)) + _describe_teacher(ours),
            _format_epochs(ours),
            macro,
            speed,
            hours,
            machine,
            seed,
        ]
        rows[-1] += "\n| " + " | ".join(cells) + " |"
    rows.append(
        f"Accuracy in percent. Bold: our recipe is above the reference ({beaten} of {len(REFERENCES)}). "
        "Ten-crop: the accuracy with predictions averaged over ten crops, as in R5. "
        f"Too short: a run of fewer than {MIN_EPOCHS} epochs has no result yet. "
        "Images/s and hours are based on the fastest epoch, because other programs ran on the machines at times."
    )
    rows.append(
        "\n".join(
            ["| machine | hardware |", "|---|---|", *(f"| {letter} | {name} |" for name, letter in machines.items())]
        )
    )
    if any(_describe_teacher(run) for run in ran):
        rows.append(
            "Distilled: 70 % of each target is the teacher's prediction for the augmented input. `base` was trained on all "
            "of Training. It has seen the validation faces, which select nothing, but none of the faces that are scored. "
            "It has seen scored faces of R2's and R3's splits, so it is not a teacher there."
        )
    return "\n\n".join(rows)


def _describe_teacher(run: Result | None) -> str:
    teacher = run["recipe"].get("targets", {}).get("teacher", "") if run else ""  # older logs know no targets
    return f", distilled from `{teacher}`" if teacher else ""


def _make_cost_table(results: dict[str, Result]) -> str:
    """Return the table of the time that full schedules take at the measured speed, with their commands."""
    lines = []
    for study in (*REFERENCES, *STUDIES):
        runs = results.get(study.name, {}).get("runs", {})
        cut = {name: run for name, run in runs.items() if run["history"] and _planned_epochs(run) < run["full_epochs"]}
        if cut:
            hours = ", ".join(
                f"{name} {run['full_epochs']} epochs, {run['full_epochs'] * _estimate_hours(run) / len(run['history']):,.1f} h"
                for name, run in cut.items()
            )
            lines.append(f"| `mien reproduce {study.name} --data fer2013.csv` | {hours} |")
    if not lines:
        return ""
    head = (
        "## Cost of the full schedules\n\nExtrapolated from the measured speed, on the same machines.\n\n"
        "| command | training time |\n|---|---|\n"
    )
    return head + "\n".join(lines)


def _make_plain_table(result: Result) -> str:
    rows = ["| run | accuracy | macro-F1 | epochs | last validation accuracy |", "|---|---|---|---|---|"]
    for name, run in result["runs"].items():
        if not run["scores"]:
            rows.append(f"| {name} | {run['diverged'] or 'not run'} | | | |")
            continue
        last = run["history"][-1]["validation_accuracy"]
        note = f"; {run['diverged']}" if run["diverged"] else ""
        rows.append(
            f"| {name} | {_format_accuracy(run)} | {_plain_scores(run)['macro_f1']:.3f} | {_format_epochs(run)}{note} | {100 * last:.2f} |"
        )
    return "\n".join(rows)


def _make_adaptive_table(result: Result) -> str:
    """Return means and spreads over seeds, and the paired difference with its t-interval; with fewer than two pairs,
    what there is."""
    values: dict[str, dict[str, list[float]]] = {}
    scored = [name.rsplit("-", 1) for name, run in result["runs"].items() if run["scores"]]
    seeds = [seed for _, seed in scored]
    if sum(seeds.count(seed) == 2 for seed in set(seeds)) < 2:
        return _make_plain_table(result) + "\n\nThe comparison of the losses needs two seeds with both losses."
    for loss, seed in scored:
        if seeds.count(seed) < 2:  # pairs of one seed are compared
            continue
        run = result["runs"][f"{loss}-{seed}"]
        scores = _plain_scores(run)
        recall = {row["class"]: row["recall"] for row in scores["per_class"]}
        measured = {
            "accuracy (%)": 100 * scores["accuracy"],
            "ten-crop accuracy (%)": 100 * run["scores"]["ten-crop"]["accuracy"],
            "macro-F1": scores["macro_f1"],
            "recall of disgust": recall["disgust"],
            "recall of fear": recall["fear"],
        }
        for what, value in measured.items():
            values.setdefault(what, {}).setdefault(loss, []).append(value)
    rows = [
        "| | cross-entropy | adaptive | adaptive − cross-entropy, 95 % interval | significant |",
        "|---|---|---|---|---|",
    ]
    for what, by_loss in values.items():
        a, b = (np.array(by_loss[loss]) for loss in ("adaptive", "cross-entropy"))
        form = "{:.2f}" if "%" in what else "{:.3f}"
        cells = [_format_mean_and_range(part, form) for part in (b, a)]
        difference = a - b
        half = T_95.get(len(a), float("nan")) * difference.std(ddof=1) / np.sqrt(len(a))
        low, high = difference.mean() - half, difference.mean() + half
        cells += [
            f"{form.format(difference.mean())} ({form.format(low)} to {form.format(high)})",
            "yes" if low > 0 or high < 0 else "no",
        ]
        rows.append(f"| {what} | " + " | ".join(cells) + " |")
    rows.append("\nMean and range over the seeds. Differences are paired by seed; their intervals use Student's t.")
    return "\n".join(rows)


def _make_semi_supervised_table(result: Result) -> str:
    rows = [
        "| labels kept | supervised | supervised, weak augmentation | pseudo-label | FixMatch |",
        "|---|---|---|---|---|",
    ]
    for share, by_method in sorted(_group_by_share(result).items()):
        cells = [
            _format_mean_and_range(np.array(by_method.get(m, [])), "{:.2f}")
            for m in ("supervised", "supervised-weak", "pseudo-label", "fixmatch")
        ]
        rows.append(f"| {share} % | " + " | ".join(cells) + " |")
    rows.append(
        "\nAccuracy in percent; mean and range if there are several seeds. FixMatch uses weak augmentation (mirror image and "
        "shift) for labeled faces; the other methods use that of the recipe. The second column shows the effect of weak "
        "augmentation alone."
    )
    return "\n".join(rows)


def _group_by_share(result: Result) -> dict[int, dict[str, list[float]]]:
    accuracies: dict[int, dict[str, list[float]]] = {}
    for name, run in result["runs"].items():
        method, share, _ = name.rsplit("-", 2)
        if run["scores"]:
            accuracies.setdefault(int(share), {}).setdefault(method, []).append(100 * _plain_scores(run)["accuracy"])
    return accuracies


def _draw_shares(result: Result, path: Path) -> None:
    by_share = _group_by_share(result)
    methods = {method: None for by_method in by_share.values() for method in by_method}
    series = {
        method: [
            (float(share), by_method[method]) for share, by_method in sorted(by_share.items()) if method in by_method
        ]
        for method in methods
    }
    draw_points(series, path, "Labels removed", "labels kept (%)", "accuracy on PublicTest (%)")


def _make_rare_class_table(result: Result) -> str:
    rows = ["| method | accuracy | macro-F1 | recall of disgust | precision of disgust |", "|---|---|---|---|---|"]
    scored = {name: _plain_scores(run) for name, run in result["runs"].items() if run["scores"] and name != "expert"}
    derived = result.get("derived")
    if derived:
        scored[f"plain and expert, share {derived['share']:.2f}"] = derived["scores"]
    for name, scores in scored.items():
        disgust = next(row for row in scores["per_class"] if row["class"] == "disgust")
        rows.append(
            f"| {name} | {100 * scores['accuracy']:.2f} | {scores['macro_f1']:.3f} | {disgust['recall']:.3f} | {disgust['precision']:.3f} |"
        )
    if derived:
        alone = derived["expert_alone"]["per_class"][1]
        rows.append(
            "\nThe expert is a binary classifier for disgust. Alone it reaches a recall of "
            f"{alone['recall']:.3f} and a precision of {alone['precision']:.3f}. Its share maximizes macro-F1 on the validation "
            "faces. PublicTest has 56 faces of disgust, so one face is 1.8 points of recall."
        )
    return "\n".join(rows)


def _make_ensemble_table(result: Result) -> str:
    derived = result["derived"]
    rows = ["| | accuracy | macro-F1 | weights |", "|---|---|---|---|"]
    for name, scores in derived["members"].items():
        rows.append(f"| `{name}` | {100 * scores['accuracy']:.2f} | {scores['macro_f1']:.3f} | |")
    for way, found in derived["ensembles"].items():
        weights = ", ".join(f"{weight:.2f}" for weight in found["weights"])
        scores = found["scores"]
        rows.append(f"| {way} | {100 * scores['accuracy']:.2f} | {scores['macro_f1']:.3f} | {weights} |")
    rows.append("\nAll scores with ten-crop, on PublicTest. The weights were chosen on the held-out tenth of Training.")
    return "\n".join(rows)


#: Studies that are shown as curves side by side.
CURVES = ("batch-norm", "augmentation", "learning-rate", *BENCHMARK_TITLES)
TABLES = {
    "adaptive-loss": _make_adaptive_table,
    "semi-supervised": _make_semi_supervised_table,
    "rare-class": _make_rare_class_table,
    "ensemble": _make_ensemble_table,
}


def _select_runs(study: str, results: dict[str, Result]) -> dict[str, Any]:
    """Return a study's runs that count as results, and the run of another study that belongs beside them."""
    runs = dict(results[study]["runs"]) if study in results else {}
    if study == "augmentation" and (author := results.get("r4-cnn", {}).get("runs", {}).get("author")):
        runs["with"] = author
    return {name: run for name, run in runs.items() if _is_result(run)}


def _is_result(run: Result) -> bool:
    """Return whether a run was planned for its whole schedule or MIN_EPOCHS; one that diverged or stopped early is a result, too."""
    return _planned_epochs(run) >= min(MIN_EPOCHS, run["full_epochs"])


def _plain_scores(run: Result) -> dict[str, Any]:
    return run["scores"]["none"]


def _accuracy_as_reference(run: Result) -> float:
    """Return the accuracy in percent as the reference measured it: ten-crop if the run has it."""
    return 100 * run["scores"].get("ten-crop", run["scores"]["none"])["accuracy"]


def _format_accuracy(run: Result | None) -> str:
    if not run:
        return "not run"
    if not run["scores"]:
        return "diverged"
    if not _is_result(run):
        return "too short"
    plain = f"{100 * _plain_scores(run)['accuracy']:.2f}"
    return plain + (f", ten-crop {_accuracy_as_reference(run):.2f}" if "ten-crop" in run["scores"] else "")


def _planned_epochs(run: Result) -> int:
    return run["recipe"]["schedule"]["epochs"]


def _format_epochs(run: Result | None) -> str:
    if not run:
        return ""
    done, planned, full = len(run["history"]), _planned_epochs(run), run["full_epochs"]
    stopped = " (stopped early)" if done < planned and not run["diverged"] else ""
    return f"{done} of {full}{stopped}"


def _fastest_speed(run: Result) -> float:
    """Return the images/s of the fastest epoch, which other work on the machine disturbed least."""
    return max(row["images_per_s"] for row in run["history"])


def _estimate_hours(run: Result) -> float:
    """Estimate the hours from the speed of the fastest epoch."""
    return min(row["seconds"] for row in run["history"]) * len(run["history"]) / 3600


def describe_machine(run: Result) -> str:
    here = run["header"]["environment"]
    device = here["processor"] if here["device"] == "cpu" else here["device"]
    threads = f"{here['threads']} thread{'' if here['threads'] == 1 else 's'}"
    return f"{device}, {threads}, {here['precision']}, torch {here['versions']['torch']}"


def _format_mean_and_range(values: Iterable[float], form: str) -> str:
    values = np.asarray(values)
    if not len(values):
        return "not run"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(values.mean())} ({form.format(values.min())} to {form.format(values.max())})"

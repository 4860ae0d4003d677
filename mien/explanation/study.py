"""Compare several methods on the same faces: their maps, sanity checks, and shares of face regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.core.errors import UsageError
from mien.core.progress import progress_bar
from mien.explanation.attribution import METHODS, compute_attributions, compute_importance
from mien.explanation.regions import compute_shares_by_class
from mien.explanation.sanity import (
    CONTROLS,
    Curves,
    bootstrap_difference,
    compute_curves,
    compute_rank_correlation,
    make_random_maps,
    randomize_network,
)

#: Maximal number of faces for maps of a random network, which take as long as the real ones.
CONTROL_FACES = 28
#: Minimal number of faces for an interval.
MIN_FACES = 10


@dataclass(frozen=True)
class ExplainedFaces:
    """What is explained.

    pictures       uint8 (N, S, S[, 3]), as the network reads them
    inputs         float32 (N, C, S, S), as it is given them
    names          N
    truths         int64 (N,), index into classes, -1 where it is not known
    probabilities  float32 (N, K)
    targets        int64 (N,), the class whose logit is explained
    """

    pictures: np.ndarray
    inputs: Tensor
    names: Sequence[str]
    truths: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def is_correct(self) -> np.ndarray:
        """Return whether each prediction equals the label, bool (N,); False without a label."""
        return self.predicted == self.truths


@dataclass
class Findings:
    """maps: method → float32 (N, S, S); curves: method or control → Curves; numbers: what goes into explain.json."""

    maps: dict[str, np.ndarray]
    curves: dict[str, Curves] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def parse_methods(text: str) -> list[str]:
    """Parse a comma-separated list, or "all", into names of METHODS, each once. Raises UsageError for unknown names."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    names = list(METHODS) if names == ["all"] else list(dict.fromkeys(names))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise UsageError(f"`method={text}`", f"'{', '.join(unknown)}' is unknown" if unknown else "names no method",
                         f"choose from {', '.join(METHODS)}, or all")  # fmt: skip
    return names


def run_study(
    network: nn.Module,
    faces: ExplainedFaces,
    methods: Sequence[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
    sanity: bool = True,
    temperature: float = 1.0,
    seed: int = 0,
    quiet: bool = True,
) -> Findings:
    """Compute the maps of every method; with ``sanity`` also their curves against the controls.

    options: method → its own options. seed: of the random maps and the random network.
    """
    targets, options_by_method = torch.from_numpy(faces.targets), options or {}
    findings = Findings({})
    for name in methods:
        with progress_bar(name, len(faces), quiet=quiet) as bar:
            findings.maps[name] = compute_attributions(
                network, faces.inputs, targets, name, advance=bar.advance, **options_by_method.get(name, {})
            )
        findings.numbers[name] = {"shares": compute_shares_by_class(findings.maps[name], faces.targets, faces.classes)}
    if sanity:
        size = faces.inputs.shape[-1]
        ordered = {name: compute_importance(maps, name) for name, maps in findings.maps.items()}
        ordered |= {name: make_random_maps(len(faces), size, name, seed) for name in CONTROLS}
        for name, maps in ordered.items():
            with progress_bar(f"curves of {name}", len(faces), quiet=quiet) as bar:
                findings.curves[name] = compute_curves(
                    network, faces.inputs, targets, maps, temperature=temperature, advance=bar.advance
                )
        _compare_with_controls(findings)
        _compare_with_random_network(findings, network, faces, options_by_method, temperature, seed, quiet)
    return findings


def _compare_with_controls(findings: Findings) -> None:
    """Compute mean areas of every method and control; for methods also the differences to each control over the same
    faces."""
    areas = {name: each.compute_areas() for name, each in findings.curves.items()}
    for name, (deletion, insertion) in areas.items():
        numbers = findings.numbers.setdefault(name, {})
        numbers |= {"deletion": _round_mean(deletion), "insertion": _round_mean(insertion)}
        curves = findings.curves[name]
        numbers["mean curves"] = {
            what: getattr(curves, what).mean(axis=0).astype(float).round(4).tolist()
            for what in ("deletion", "insertion")
        }
        if name in findings.maps:
            numbers["against"] = {
                control: {
                    "deletion": bootstrap_difference(deletion, areas[control][0]),
                    "insertion": bootstrap_difference(insertion, areas[control][1]),
                }
                for control in CONTROLS
            }


def _compare_with_random_network(
    findings: Findings,
    network: nn.Module,
    faces: ExplainedFaces,
    options: dict[str, dict[str, Any]],
    temperature: float,
    seed: int,
    quiet: bool,
) -> None:
    """The same methods on a network with random weights: areas of its maps, judged by the trained network, and
    likeness.

    Of many faces only CONTROL_FACES take part, at even distances.
    """
    rows = np.unique(np.linspace(0, len(faces) - 1, min(len(faces), CONTROL_FACES)).round().astype(int))
    inputs, targets = faces.inputs[rows], torch.from_numpy(faces.targets[rows])
    untrained = randomize_network(network, seed)
    for name, maps in findings.maps.items():
        with progress_bar(f"{name} of a random network", len(rows), quiet=quiet) as bar:
            theirs = compute_attributions(
                untrained, inputs, targets, name, advance=bar.advance, **options.get(name, {})
            )
            drawn = compute_curves(network, inputs, targets, compute_importance(theirs, name), temperature=temperature)
        deletion, insertion = drawn.compute_areas()
        ours = [values[rows] for values in findings.curves[name].compute_areas()]
        findings.numbers[name]["random network"] = {
            "faces": len(rows),
            "deletion": _round_mean(deletion),
            "insertion": _round_mean(insertion),
            "deletion of the trained": bootstrap_difference(ours[0], deletion),
            "insertion of the trained": bootstrap_difference(ours[1], insertion),
            "rank correlation of the maps": _round_mean(compute_rank_correlation(maps[rows], theirs)),
        }


def judge_method(numbers: dict[str, Any], count: int, what: str = "deletion") -> str:
    """Return which controls a method's area beats, by the 95 % intervals: "both", "random blobs only", "neither"."""
    if count < MIN_FACES:
        return "too few faces"
    beaten = [control for control, differences in numbers["against"].items() if _is_better(differences[what], what)]
    return "both" if len(beaten) == len(CONTROLS) else f"{beaten[0]} only" if beaten else "neither"


def judge_against_random_network(numbers: dict[str, Any]) -> str:
    """Return whether the maps of the trained network have better areas than those of a random one: "both areas", "neither" ..."""
    theirs = numbers["random network"]
    if theirs["faces"] < MIN_FACES:
        return "too few faces"
    better = [what for what in ("deletion", "insertion") if _is_better(theirs[f"{what} of the trained"], what)]
    return "both areas" if len(better) == 2 else f"{better[0]} only" if better else "neither"


def _is_better(interval: dict[str, float], what: str) -> bool:
    """Return whether the whole interval of a difference is on the better side of zero."""
    return interval["high"] < 0 if what == "deletion" else interval["low"] > 0


def _round_mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4)

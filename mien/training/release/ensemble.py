"""Ensembles: choose weights on validation faces, and join several trained networks into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import comb
from typing import Any

import numpy as np

from mien.core.errors import ModelError, UsageError
from mien.core.preprocessing import Preprocessing
from mien.data.splits import split_halves
from mien.evaluation.metrics import log_losses
from mien.models import build_network
from mien.models.ensemble import Ensemble
from mien.training.runs.checkpoint import TrainedModel

#: A grid with more points is refused: it would take minutes, and maximum likelihood works as well.
MAX_POINTS = 200_000


def choose_equal_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 / M for each of M members."""
    return np.full(len(probabilities), 1 / len(probabilities))


def search_weights(probabilities: np.ndarray, labels: np.ndarray, parts: int = 10) -> np.ndarray:
    """Return the weights in tenths with the best accuracy, as R5 searched them; ties go to the lower log loss.

    probabilities (M, N, K), labels (N,) → (M,) with sum 1. Raises UsageError if the grid is too large.
    """
    points = comb(parts + len(probabilities) - 1, parts)
    if points > MAX_POINTS:
        raise UsageError("`weights=grid`", f"has {points:,} points for {len(probabilities)} members", "use likelihood")
    best, chosen = (-1.0, 0.0), np.empty(0)
    for shares in _list_compositions(parts, len(probabilities)):
        weights = np.array(shares) / parts
        mixed = np.tensordot(weights, probabilities, 1)
        of_truth = mixed[np.arange(len(labels)), labels]
        value = (float((mixed.argmax(axis=1) == labels).mean()), -float(log_losses(of_truth).mean()))
        if value > best:
            best, chosen = value, weights
    return chosen


def _list_compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all tuples of ``parts`` integers ≥ 0 with the sum ``total``."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _list_compositions(total - first, parts - 1):
            yield (first, *rest)


def fit_weights(probabilities: np.ndarray, labels: np.ndarray, steps: int = 500) -> np.ndarray:
    """Return the weights with the maximum likelihood of the labels.

    The log-likelihood of a mixture is concave in its weights. Expectation-maximization (Dempster et al., 1977) finds its
    maximum and stays on the simplex: wᵢ ← wᵢ · meanₙ(pᵢₙ / Σⱼ wⱼ pⱼₙ), with p the probability of the true class.
    probabilities (M, N, K), labels (N,) → (M,) with sum 1.
    """
    of_truth = np.maximum(probabilities[:, np.arange(len(labels)), labels], 1e-12).astype(np.float64)  # (M, N)
    weights = np.full(len(of_truth), 1 / len(of_truth))
    for _ in range(steps):
        weights = weights * (of_truth / (weights @ of_truth)).mean(axis=1)
    weights[weights < 1e-3] = 0
    return weights / weights.sum()


Weighting = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Name → function that chooses weights: (probabilities (M, N, K), labels (N,)) → (M,).
WEIGHTINGS: dict[str, Weighting] = {
    "equal": choose_equal_weights,
    "grid": search_weights,
    "likelihood": fit_weights,
}


def mix_probabilities(weights: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the weighted mean (N, K) of probabilities (M, N, K) with weights (M,)."""
    return np.tensordot(weights, probabilities, 1)


def cross_fit_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, choose: Weighting, seed: int = 0
) -> np.ndarray:
    """Return mixed probabilities (N, K); the weights of each row are chosen on the other half of the faces.

    Their accuracy estimates that on new faces. On the faces that chose the weights it is too high.
    """
    result = np.empty(probabilities.shape[1:], probabilities.dtype)
    for mine, other in split_halves(labels, seed):
        result[mine] = mix_probabilities(choose(probabilities[:, other], labels[other]), probabilities[:, mine])
    return result


def join_models(members: Sequence[TrainedModel], weights: Sequence[float], name: str) -> TrainedModel:
    """Join several networks into one; members with weight 0 are left out.

    Raises ModelError if the members have different classes, in other order, or inputs of different sizes.
    """
    first = members[0]
    for member in members[1:]:
        if member.classes != first.classes:
            raise ModelError(
                member.name, f"has the classes {', '.join(member.classes)}; {first.name} has {', '.join(first.classes)}",
                "join models of the same classes",
            )  # fmt: skip
        if member.preprocessing.size != first.preprocessing.size:
            raise ModelError(
                member.name,
                f"takes {member.preprocessing.size} pixels, {first.name} {first.preprocessing.size}",
                "join models of one size",
            )
    weighted = [(member, float(weight)) for member, weight in zip(members, weights, strict=True) if weight > 0]
    arguments = {
        "members": [
            {
                "name": member.network_name,
                "arguments": member.network_arguments,
                "mean": list(member.preprocessing.mean),
                "std": list(member.preprocessing.std),
                "temperature": member.temperature,
            }
            for member, _ in weighted
        ],
        "weights": [weight for _, weight in weighted],
    }
    network = build_network("ensemble", **arguments)
    assert isinstance(network, Ensemble)
    for part, (member, _) in zip(network.networks, weighted, strict=True):
        part.load_state_dict(member.network.state_dict())
    unit = Preprocessing(first.preprocessing.size, 1, (0.0,), (1.0,), first.preprocessing.framing)
    return TrainedModel(
        network.eval(),
        name,
        "ensemble",
        arguments,
        first.classes,
        unit,
        epoch=0,
        labels_by=first.labels_by if len({member.labels_by for member in members}) == 1 else "given",
    )


def score_weightings(names: Sequence[str], probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return accuracy and log loss of each member and each weighting on the faces that chose the weights, and the
    cross-fitted accuracy of each weighting. probabilities (M, N, K), labels (N,)."""

    def scores(each: np.ndarray) -> dict[str, float]:
        losses = log_losses(each[np.arange(len(labels)), labels])
        return {"accuracy": float((each.argmax(axis=1) == labels).mean()), "log_loss": float(losses.mean())}

    ensembles = {}
    for way, choose in WEIGHTINGS.items():
        try:
            weights = choose(probabilities, labels)
        except UsageError:  # a grid of too many points
            continue
        others = cross_fit_probabilities(probabilities, labels, choose)
        ensembles[way] = {
            "weights": weights.tolist(),
            **scores(mix_probabilities(weights, probabilities)),
            "cross_fitted_accuracy": scores(others)["accuracy"],
        }
    members = [{"model": name, **scores(each)} for name, each in zip(names, probabilities, strict=True)]
    return {"members": members, "ensembles": ensembles}


def format_weightings(table: dict[str, Any]) -> str:
    """Format the result of `score_weightings` as a text table."""
    width = max(11, *(len(member["model"]) for member in table["members"]))
    lines = [f"{table['faces']:,} faces of {table['split']} chose the weights" + (
        f", averaged over {table['tta']}" if table["tta"] != "none" else ""
    ), "", f"{'model':<{width}}  accuracy  log loss"]  # fmt: skip
    lines += [f"{row['model']:<{width}}  {row['accuracy']:>8.2%}  {row['log_loss']:>8.4f}" for row in table["members"]]
    lines += ["", f"{'weights':<{width}}  accuracy  log loss  on faces that did not choose  weights"]
    for way, row in table["ensembles"].items():
        shares = ", ".join(f"{weight:.3g}" for weight in row["weights"])
        lines.append(
            f"{way:<{width}}  {row['accuracy']:>8.2%}  {row['log_loss']:>8.4f}  {row['cross_fitted_accuracy']:>28.2%}  {shares}"
        )
    lines += ["", f"written: {', '.join(f'{weight:.3g}' for weight in table['written'])}"]
    return "\n".join(lines) + "\n"

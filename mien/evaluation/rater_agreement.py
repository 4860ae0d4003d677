"""A model against the people who labeled: its probabilities beside the votes of FER+ (Barsoum et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.labels import FERPLUS, FERPLUS_VOTES

#: Raters agree on a picture where at least this share of all its votes names one expression.
AGREEMENT_THRESHOLD = 0.8

#: Lower ends of the groups of agreement in which accuracy is shown.
GROUP_EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class RaterAgreement:
    """How a model's answers sit with those of the people who rated the pictures.

    count               faces with at least one vote for a class that the model knows
    divergence          mean Kullback-Leibler divergence of the model from the raters, in nats
    correlation         Pearson's, of votes' shares and probabilities over all faces and classes
    class_correlation   the same of each class alone, NaN where one of the two never changes
    majority_accuracy   how often the model names the raters' favorite, where that is one class
    label_agreement     how often the data's label is that favorite
    agreed, disputed    faces, and accuracy against the data's label, where raters agree and where they do not
    groups              accuracy by the raters' agreement: from, to, count, accuracy
    """

    count: int
    divergence: float
    correlation: float
    class_correlation: tuple[float, ...]
    majority_accuracy: float
    label_agreement: float
    agreed: dict[str, Any]
    disputed: dict[str, Any]
    groups: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def compare_with_raters(
    probabilities: np.ndarray, votes: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> RaterAgreement | None:
    """Probabilities (N, K) over ``classes``, votes (N, 10) in the order of FERPLUS_VOTES, labels (N,) → Crowd.

    None where a class has no column of votes, or no face a vote for any of the classes.
    """
    if not set(classes) <= set(FERPLUS):
        return None
    shares = vote_shares(votes, classes)
    voted = np.isfinite(shares).all(axis=1)
    if not voted.any():
        return None
    q, p = shares[voted], np.asarray(probabilities, np.float64)[voted]
    right = p.argmax(axis=1) == labels[voted]
    clear = (q == q.max(axis=1, keepdims=True)).sum(axis=1) == 1  # one favorite, no tie
    favorite = q.argmax(axis=1)
    agreement = vote_agreement(votes)[voted]
    return RaterAgreement(
        count=int(voted.sum()),
        divergence=float(kl_divergences(q, p).mean()),
        correlation=_correlation(q.ravel(), p.ravel()),
        class_correlation=tuple(_correlation(q[:, k], p[:, k]) for k in range(len(classes))),
        majority_accuracy=_mean((p.argmax(axis=1) == favorite)[clear]),
        label_agreement=_mean((labels[voted] == favorite)[clear]),
        agreed=_accuracy(right[agreement >= AGREEMENT_THRESHOLD]),
        disputed=_accuracy(right[agreement < AGREEMENT_THRESHOLD]),
        groups=[
            {"from": low, "to": high, **_accuracy(right[(agreement >= low) & ((agreement < high) | (high == 1))])}
            for low, high in zip(GROUP_EDGES, (*GROUP_EDGES[1:], 1.0), strict=True)
        ],
    )


def vote_shares(votes: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """votes (N, 10) → float (N, K): shares of the votes for these classes; NaN rows where none of them has one."""
    columns = votes[:, [FERPLUS_VOTES.index(name) for name in classes]].astype(float)
    total = columns.sum(axis=1, keepdims=True)
    return np.divide(columns, total, out=np.full(columns.shape, np.nan), where=total > 0)


def vote_agreement(votes: np.ndarray) -> np.ndarray:
    """votes (N, 10) → float (N,): the share of all votes that names the most named expression; 0 without votes."""
    total = votes.sum(axis=1, dtype=float)
    most = votes[:, : len(FERPLUS)].max(axis=1).astype(float)  # "unknown" and "not a face" are no expressions
    return np.divide(most, total, out=np.zeros(len(votes)), where=total > 0)


def kl_divergences(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of each row, Σ q ln(q / p) with 0 ln 0 = 0, in nats; (N, K), (N, K) → (N,).

    p is kept above the smallest step of float64, so that a class which the model rules out costs much and not ∞.
    """
    ratio = np.where(q > 0, q, 1) / np.clip(p, np.finfo(np.float64).eps, 1)
    return (q * np.log(ratio)).sum(axis=1)


def format_votes(votes: np.ndarray) -> str:
    """The votes of one face (10,), most first: ``"sad 6, fear 3, neutral 1"``; empty where there are none."""
    order = np.argsort(-votes.astype(int), kind="stable")
    return ", ".join(f"{FERPLUS_VOTES[k].replace('_', ' ')} {votes[k]}" for k in order if votes[k])


def _accuracy(right: np.ndarray) -> dict[str, Any]:
    """Faces, accuracy, and its 95 % percentile interval: right answers of redrawn faces are binomial."""
    count, share = len(right), _mean(right)
    if not count:
        return {"count": 0, "accuracy": share, "accuracy_interval": [share, share]}
    draws = np.random.default_rng(0).binomial(count, share, 2000) / count
    return {"count": count, "accuracy": share, "accuracy_interval": np.percentile(draws, [2.5, 97.5]).tolist()}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN where one of the two never changes."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])

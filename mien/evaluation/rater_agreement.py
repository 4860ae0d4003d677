"""Agreement of a model with the annotators of FER+: probabilities and votes (Barsoum et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.labels import FERPLUS, FERPLUS_VOTES

#: The annotators agree on a face if one expression has at least this share of all votes.
AGREEMENT_THRESHOLD = 0.8

#: Lower edges of the groups of agreement, for which accuracy is measured.
GROUP_EDGES = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class RaterAgreement:
    """Agreement of a model with the annotators.

    count               faces with at least one vote for a class of the model
    divergence          mean Kullback-Leibler divergence of the probabilities from the shares of votes, in nats
    correlation         Pearson's correlation of vote shares and probabilities over all faces and classes
    class_correlation   the same for each class; NaN if one of the two is constant
    majority_accuracy   share of predictions equal to the most frequent vote, without ties
    label_agreement     share of labels equal to the most frequent vote, without ties
    agreed, disputed    count and accuracy of faces on which the annotators agree, or do not agree
    groups              accuracy by agreement of the annotators: from, to, count, accuracy
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
        """Return all values as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def compare_with_annotators(
    probabilities: np.ndarray, votes: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> RaterAgreement | None:
    """Compare probabilities float (N, K) and labels int (N,) with votes uint8 (N, 10) in the order of FERPLUS_VOTES.

    Returns None if a class has no votes in FER+, or if no face has a vote for one of the classes.
    """
    if not set(classes) <= set(FERPLUS):
        return None
    shares = vote_shares(votes, classes)
    voted = np.isfinite(shares).all(axis=1)
    if not voted.any():
        return None
    q, p = shares[voted], np.asarray(probabilities, np.float64)[voted]
    right = p.argmax(axis=1) == labels[voted]
    clear = (q == q.max(axis=1, keepdims=True)).sum(axis=1) == 1  # no tie
    majority = q.argmax(axis=1)
    agreement = vote_agreement(votes)[voted]
    return RaterAgreement(
        count=int(voted.sum()),
        divergence=float(kl_divergences(q, p).mean()),
        correlation=_correlation(q.ravel(), p.ravel()),
        class_correlation=tuple(_correlation(q[:, k], p[:, k]) for k in range(len(classes))),
        majority_accuracy=_mean((p.argmax(axis=1) == majority)[clear]),
        label_agreement=_mean((labels[voted] == majority)[clear]),
        agreed=_accuracy(right[agreement >= AGREEMENT_THRESHOLD]),
        disputed=_accuracy(right[agreement < AGREEMENT_THRESHOLD]),
        groups=[
            {"from": low, "to": high, **_accuracy(right[(agreement >= low) & ((agreement < high) | (high == 1))])}
            for low, high in zip(GROUP_EDGES, (*GROUP_EDGES[1:], 1.0), strict=True)
        ],
    )


def vote_shares(votes: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Return the shares of the votes (N, 10) for these classes, float (N, K); NaN rows without such votes."""
    columns = votes[:, [FERPLUS_VOTES.index(name) for name in classes]].astype(float)
    total = columns.sum(axis=1, keepdims=True)
    return np.divide(columns, total, out=np.full(columns.shape, np.nan), where=total > 0)


def vote_agreement(votes: np.ndarray) -> np.ndarray:
    """Return the share of the most frequent expression in all votes (N, 10), float (N,); 0 without votes."""
    total = votes.sum(axis=1, dtype=float)
    most = votes[:, : len(FERPLUS)].max(axis=1).astype(float)  # "unknown" and "not a face" are no expressions
    return np.divide(most, total, out=np.zeros(len(votes)), where=total > 0)


def kl_divergences(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Compute the Kullback-Leibler divergence Σ q ln(q / p) of each row, in nats; (N, K), (N, K) → (N,).

    0 ln 0 is 0. p is clipped at the epsilon of float64, so that the result is finite.
    """
    ratio = np.where(q > 0, q, 1) / np.clip(p, np.finfo(np.float64).eps, 1)
    return (q * np.log(ratio)).sum(axis=1)


def format_votes(votes: np.ndarray) -> str:
    """Format the votes of one face (10,), the most frequent first: ``"sad 6, fear 3, neutral 1"``; "" without votes."""
    order = np.argsort(-votes.astype(int), kind="stable")
    return ", ".join(f"{FERPLUS_VOTES[k].replace('_', ' ')} {votes[k]}" for k in order if votes[k])


def _accuracy(right: np.ndarray) -> dict[str, Any]:
    """Return the count, the accuracy, and its 95 % bootstrap interval, by draws from a binomial distribution."""
    count, share = len(right), _mean(right)
    if not count:
        return {"count": 0, "accuracy": share, "accuracy_interval": [share, share]}
    draws = np.random.default_rng(0).binomial(count, share, 2000) / count
    return {"count": count, "accuracy": share, "accuracy_interval": np.percentile(draws, [2.5, 97.5]).tolist()}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Pearson's correlation; NaN if one of the two is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])

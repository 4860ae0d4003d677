"""Scores of probabilities from any source. Needs only numpy."""

from mien.evaluation.metrics import Scores, score

__all__ = ["Scores", "score"]

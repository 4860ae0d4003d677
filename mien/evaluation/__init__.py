"""Scores of probabilities, wherever they come from. Needs numpy alone."""

from mien.evaluation.metrics import Scores, score

__all__ = ["Scores", "score"]

"""Scores of probabilities, wherever they come from. Needs numpy alone."""

from mien.evaluate.metrics import Scores, score

__all__ = ["Scores", "score"]

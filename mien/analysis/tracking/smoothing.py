"""Smooth probabilities along a track, so that labels do not flicker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

#: Seconds in which the weight of an old prediction falls to 1/e.
TIME_CONSTANT_S = 0.25

#: Minimum lead in smoothed probability of a new label over the current one.
LABEL_MARGIN = 0.05


@dataclass
class SmoothedTrack:
    """The smoothed probabilities float32 (K,) of a track, the index of its current label, and the number of predictions."""

    probabilities: np.ndarray
    label: int
    time_s: float
    count: int = 1


@dataclass
class Smoother:
    """Compute an exponential average over time for each track, and a label with hysteresis.

    p̄ ← p̄ + w (p − p̄) with w = 1 − e^(−Δt/τ) for a prediction p that comes Δt seconds after the last. For the first n
    predictions w ≥ 1/n, as in a mean, so that a track does not depend on its first frame. The average is causal, so that it
    works on live video, and depends on times, not on frame rates. τ = ``time_constant_s``; 0 disables smoothing.
    """

    time_constant_s: float = TIME_CONSTANT_S
    margin: float = LABEL_MARGIN
    tracks: dict[int, SmoothedTrack] = field(default_factory=dict)

    def update(self, track: int, probabilities: np.ndarray, time_s: float) -> SmoothedTrack:
        """Add a prediction float32 (K,) of a track → its new state."""
        before = self.tracks.get(track)
        if before is None or self.time_constant_s <= 0:
            after = SmoothedTrack(probabilities, int(probabilities.argmax()), time_s)
        else:
            elapsed = max(time_s - before.time_s, 0.0)
            weight = max(1 - math.exp(-elapsed / self.time_constant_s), 1 / (before.count + 1))
            mean = before.probabilities + np.float32(weight) * (probabilities - before.probabilities)
            best = int(mean.argmax())
            clear = mean[best] - mean[before.label] >= self.margin
            after = SmoothedTrack(mean, best if clear else before.label, time_s, before.count + 1)
        self.tracks[track] = after
        return after

    def forget_tracks(self, before_s: float) -> None:
        """Remove the tracks without a prediction since ``before_s``, so that memory does not grow."""
        self.tracks = {number: state for number, state in self.tracks.items() if state.time_s >= before_s}

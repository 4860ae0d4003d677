"""Probabilities along a track, smoothed so that labels do not flicker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

#: Seconds in which an old answer's weight falls to 1/e.
TIME_CONSTANT_S = 0.25

#: A new label must be this much more probable than the one that is shown, after smoothing.
LABEL_MARGIN = 0.05


@dataclass
class SmoothedTrack:
    """One track's smoothed probabilities float32 (K,), and the index of the label that is shown."""

    probabilities: np.ndarray
    label: int
    time_s: float
    count: int = 1


@dataclass
class Smoother:
    """An exponential average over time, for each track its own, and a label that changes only when it is clear.

    p̄ ← p̄ + w (p − p̄) with w = 1 − e^(−Δt/τ) for an answer p that comes Δt seconds after the last; the first few weigh
    as in a plain mean, w ≥ 1/n, so that a track does not hang on its first frame. It looks back only, so it works on live
    pictures, and it depends on times, not on frame rates. τ = ``time_constant_s``; 0 leaves all as it is.
    """

    time_constant_s: float = TIME_CONSTANT_S
    margin: float = LABEL_MARGIN
    tracks: dict[int, SmoothedTrack] = field(default_factory=dict)

    def update(self, track: int, probabilities: np.ndarray, time_s: float) -> SmoothedTrack:
        """Add one answer (K,) of a track; returns its state, which stays valid."""
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
        """Drop the tracks that were not seen since ``before_s``, so that memory stays flat."""
        self.tracks = {number: state for number, state in self.tracks.items() if state.time_s >= before_s}

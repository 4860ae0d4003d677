"""Peaks: the times at which an expression is strongest."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mien.analysis.people.people import Observation

#: Seconds between two peaks of one person and expression, at least.
MIN_GAP_S = 2.0

#: Records round times to millionths of a second.
ROUNDING_S = 2e-6

#: What an expression has less probability than is no peak of it.
MIN_PROBABILITY = 0.4

#: Peaks that are kept of each expression of a person: the highest.
MAX_PEAKS = 12


@dataclass(frozen=True)
class PeakRule:
    """The definition of a peak, and how many are kept.

    min_gap_s         a peak is a local maximum within ± so many seconds
    min_probability   lower maxima are none
    most              of each person and expression so many are kept, the highest
    """

    min_gap_s: float = MIN_GAP_S
    min_probability: float = MIN_PROBABILITY
    max_peaks: int = MAX_PEAKS


@dataclass(frozen=True)
class Peak:
    """One face at one time.

    label, probability     the expression, and its smoothed probability then
    time_s, player_time_s  when, by the stream's own clock and as a player shows it
    frame, track, box_xyxy   where
    is_unsure              whether the model was unsure of the face then; None where nobody asked
    probabilities          float32 (K,), all smoothed probabilities
    """

    label: str
    probability: float
    time_s: float
    player_time_s: float
    frame: int
    track: int
    box_xyxy: tuple[float, float, float, float]
    is_unsure: bool | None = None
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), compare=False, repr=False)

    @property
    def rank(self) -> tuple[float, float, int]:
        """Sorts peaks, the highest first; of equal ones the earliest."""
        return -self.probability, self.player_time_s, self.track

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label, "track": self.track, "person": self.track + 1, "time_s": self.time_s,
            "player_time_s": self.player_time_s, "frame": self.frame, "probability": round(self.probability, 6),
            "unsure": self.is_unsure, "box": list(self.box_xyxy),
        }  # fmt: skip


@dataclass
class PeakFinder:
    """The peaks of one expression of one person; what is kept does not grow with the video.

    A peak is a local maximum of the smoothed probability within ±``min_gap_s`` seconds: no observation nearer than that is
    higher, and none of those before it is as high. So of equal ones the earliest is the peak, and two peaks are at least
    ``min_gap_s`` apart.
    """

    rule: PeakRule
    found: list[Peak] = field(default_factory=list)
    # Times and probabilities of the last ``min_gap_s`` seconds that nothing later exceeds, falling; with its peak where
    # nothing before it is as high.
    _window: list[tuple[float, float, Peak | None]] = field(default_factory=list)

    def update(self, label: str, probability: float, observation: Observation) -> None:
        """Add an observation, in order of time, whose expression ``label`` has this probability."""
        if probability < self.rule.min_probability:
            return
        now_s, window = observation.player_time_s, self._window
        while window and now_s - window[0][0] >= self.rule.min_gap_s - ROUNDING_S:
            self._add_found(window.pop(0)[2])
        while window and window[-1][1] < probability:
            window.pop()
        peak = None if window else _make_peak(label, probability, observation)
        window.append((now_s, probability, peak))

    def peaks(self) -> list[Peak]:
        """Return the highest peaks so far, the highest first."""
        return select_highest(
            [*self.found, *(peak for _, _, peak in self._window if peak is not None)], self.rule.max_peaks
        )

    def _add_found(self, peak: Peak | None) -> None:
        if peak is not None:
            insort(self.found, peak, key=lambda one: one.rank)
            del self.found[self.rule.max_peaks :]


def _make_peak(label: str, probability: float, one: Observation) -> Peak:
    return Peak(
        label, probability, one.time_s, one.player_time_s, one.frame, one.track, one.box_xyxy, one.is_unsure,
        one.probabilities,
    )  # fmt: skip


def select_highest(peaks: Iterable[Peak], most: int) -> list[Peak]:
    """Return the highest peaks, the highest first; of equal ones the earliest."""
    return sorted(peaks, key=lambda one: one.rank)[:most]

"""What is known of the people of a video, so far or at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.plots import plot_transitions
from mien.analysis.people.peaks import Peak
from mien.analysis.people.people import PeopleAccumulator, Person
from mien.analysis.people.timeline import Timeline, plot_timeline
from mien.core.errors import UsageError
from mien.core.labels import normalize_label


class VideoStatistics(ABC):
    """The people of a video and their expressions: the same figures as in ``clip.summary.json``."""

    source: str

    @property
    @abstractmethod
    def accumulator(self) -> PeopleAccumulator:
        """What people, timeline and peaks are read from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The expressions, in the order of the probabilities."""
        return self.accumulator.labels

    @property
    def people(self) -> list[Person]:
        """The persons, who was seen longest first; without tracks that are probably no faces."""
        return self.accumulator.people

    @property
    def not_faces(self) -> list[Person]:
        """Tracks that are probably no faces, the longest first."""
        return self.accumulator.not_faces

    @property
    def share(self) -> dict[str, float]:
        """Of all people together: share of the time on screen with each label shown, 0..1."""
        return self._by_label(self.accumulator.share)

    @property
    def mean(self) -> dict[str, float]:
        """Of all people together: mean smoothed probability of each label, 0..1."""
        return self._by_label(self.accumulator.mean)

    @property
    def timeline(self) -> Timeline:
        """Smoothed probabilities of each person in bins of time; `Timeline.mean_probabilities` returns them."""
        return self.accumulator.timeline

    def peaks(self, label: str | None = None, *, person: int | None = None, most: int | None = None) -> list[Peak]:
        """Return the highest peaks, of one label or label after label, of one person (as `Person.number`) or of all.

        most: so many of each label; at most 12 of each person and label are kept.

        Other names of a label are understood, as in "happiness". Raises UsageError for a label that the model does not have.
        """
        label = None if label is None else self._find_label(label)
        return self.accumulator.peaks(label, track=None if person is None else person - 1, most=most)

    def plot_timeline(self) -> Any:
        """Return a matplotlib figure of each person's smoothed probabilities over time, as in ``clip.timeline.png``."""
        start_s, end_s = self._shown_range_s()
        return plot_timeline(self.timeline, self.accumulator.names, Path(self.source).name, start_s, end_s)

    def plot_transitions(self) -> Any:
        """Return a matplotlib figure of which expression followed which, as `mien plot` draws it."""
        return plot_transitions(self.accumulator, Path(self.source).name)

    def _shown_range_s(self) -> tuple[float | None, float | None]:
        """Return what the axis of the timeline shows, by the player's time; None: from the first face to the last."""
        return None, None

    def _find_label(self, label: str) -> str:
        """Return the model's name of a label. Raises UsageError, with the choices, for one that it does not have."""
        name = label if label in self.labels else normalize_label(label)
        if name not in self.labels:
            raise UsageError(f"`label={label}`", "is unknown", f"choose one of {', '.join(self.labels)}")
        return name

    def _by_label(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=True))

"""The people of a video: their time on screen, expressions, segments and peaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mien.analysis.people.peaks import Peak, PeakFinder, PeakRule, select_highest
from mien.analysis.people.timeline import MOSTLY_SHARE, Timeline
from mien.analysis.tracking.tracker import MEMORY_S

#: A track whose not-a-face score is above this, averaged over its time, is no person. Models mark a single face from 0.86
#: to 0.94 on; the mean of many frames is much less noisy than one of them, and this leaves that noise below it.
NOT_A_FACE = 0.75


class Observation(NamedTuple):
    """One face of one frame, as its record has it; times in seconds.

    time_s, player_time_s   when the frame is shown, by the stream's own clock and as a player shows it
    duration_s              for how long
    label, raw_label        index of the label that is shown along the track, and of the network's own answer
    probabilities           float32 (K,), smoothed
    is_unsure               whether the network is unsure of its answer, None where nobody asked
    not_a_face              its score that this is no face, None where it has none
    """

    frame: int
    time_s: float
    player_time_s: float
    duration_s: float
    track: int
    label: int
    raw_label: int
    probabilities: np.ndarray
    box_xyxy: tuple[float, float, float, float]
    is_unsure: bool | None
    not_a_face: float | None
    valence: float | None


def observation_from_record(row: Mapping[str, Any], labels: tuple[str, ...]) -> Observation:
    """Return a record of a video, as `make_records` makes it, as an observation."""
    return Observation(
        row["frame"], row["time_s"], row["player_time_s"], row["duration_s"], row["track"],
        labels.index(row["s_label"]), labels.index(row["label"]),
        np.array([row[f"s_{name}"] for name in labels], np.float32), (row["x1"], row["y1"], row["x2"], row["y2"]),
        row["unsure"], row["not_a_face"], row["valence"],
    )  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which one person is shown with one label; times in seconds as a player shows them.

    probability   the mean of the label's smoothed probability
    sure_share    share of the time in which the network is sure of its answer; None where nobody asked
    """

    track: int
    label: str
    start_s: float
    end_s: float
    probability: float
    sure_share: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "person": self.track + 1, "track": self.track, "label": self.label, "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3), "probability": round(self.probability, 4),
            "sure_share": _round(self.sure_share),
        }  # fmt: skip


@dataclass
class Mean:
    """The mean of a number over time, of the times at which it is known."""

    total: float = 0.0
    seconds: float = 0.0

    def update(self, value: float | None, seconds: float) -> None:
        if value is not None:
            self.total += value * seconds
            self.seconds += seconds

    @property
    def value(self) -> float | None:
        return self.total / self.seconds if self.seconds else None


@dataclass
class _OpenSegment:
    """A segment that has not ended yet."""

    label: int
    start_s: float
    probability: Mean = field(default_factory=Mean)
    sure: Mean = field(default_factory=Mean)


@dataclass(repr=False)
class Person:
    """Statistics of one track; times, as a player shows them, and durations in seconds.

    probability_s   float64 (K,): the sum of smoothed probabilities × seconds
    label_s         float64 (K,): seconds for which each label is shown
    raw_labels      int64 (K,): frames of which each label is the network's own answer
    transitions     int64 (K, K): how often the label shown went from one (row) to another (column); its diagonal is 0
    longest         label → (start, duration) of its longest segment
    """

    track: int
    labels: tuple[str, ...]
    first_s: float
    last_s: float
    probability_s: np.ndarray
    label_s: np.ndarray
    raw_labels: np.ndarray
    transitions: np.ndarray
    seen_s: float = 0.0
    frames: int = 0
    sure: Mean = field(default_factory=Mean)
    not_a_face: Mean = field(default_factory=Mean)
    valence: Mean = field(default_factory=Mean)
    longest: dict[int, tuple[float, float]] = field(default_factory=dict)
    peaks: dict[int, PeakFinder] = field(default_factory=dict)
    segment: _OpenSegment | None = None
    given_name: str = ""

    @classmethod
    def from_observation(cls, one: Observation, labels: tuple[str, ...], given_name: str = "") -> Person:
        """Somebody who is seen for the first time; `update` with the same observation follows."""
        k, start_s = len(labels), one.player_time_s
        seconds, weighted = np.zeros(k), np.zeros(k)
        return cls(
            one.track, labels, start_s, start_s, seconds, weighted, np.zeros(k, np.int64), np.zeros((k, k), np.int64),
            given_name=given_name,
        )  # fmt: skip

    def __repr__(self) -> str:
        doubt = "mostly unsure, " if self.is_mostly_unsure else ""
        index = int(self.label_s.argmax())
        return f"<Person {self.number}: {self.seen_s:.1f} s, {doubt}{self.labels[index]} {self.share[index]:.0%}>"

    @property
    def number(self) -> int:
        """What people and files call it: 1 for track 0."""
        return self.track + 1

    @property
    def is_face(self) -> bool:
        """False for what the model takes for no face: such a track is counted nowhere."""
        return (self.not_a_face.value or 0.0) <= NOT_A_FACE

    @property
    def is_mostly_unsure(self) -> bool:
        """Whether the network is sure of less than half of the time."""
        return self.sure.value is not None and self.sure.value < MOSTLY_SHARE

    @property
    def share(self) -> np.ndarray:
        """Share of the time on screen with each label shown (K,)."""
        return self.label_s / max(self.seen_s, 1e-9)

    @property
    def short_name(self) -> str:
        """The name that it was given; else ``person 1`` and so on."""
        return self.given_name or f"person {self.track + 1}"

    @property
    def name(self) -> str:
        """What pictures call it."""
        return self.short_name + ("\n(mostly unsure)" if self.is_mostly_unsure else "")

    def update(self, one: Observation, rule: PeakRule) -> Segment | None:
        """Add a face; returns the segment that ends before it, if one does."""
        seconds, ended = one.duration_s, None
        sure = None if one.is_unsure is None else 1.0 - one.is_unsure
        if self.segment is None or one.label != self.segment.label or one.player_time_s - self.last_s > MEMORY_S:
            ended = self.close_segment()
            if self.segment is not None and self.segment.label != one.label:
                self.transitions[self.segment.label, one.label] += 1
            self.segment = _OpenSegment(one.label, one.player_time_s)
        self.frames += 1
        self.seen_s += seconds
        self.last_s = one.player_time_s + seconds
        self.probability_s += seconds * one.probabilities
        self.label_s[one.label] += seconds
        self.raw_labels[one.raw_label] += 1
        self.sure.update(sure, seconds)
        self.not_a_face.update(one.not_a_face, seconds)
        self.valence.update(one.valence, seconds)
        self.segment.sure.update(sure, seconds)
        probabilities = one.probabilities.tolist()
        self.segment.probability.update(probabilities[one.label], seconds)
        length = self.last_s - self.segment.start_s
        if length > self.longest.get(one.label, (0.0, 0.0))[1]:
            self.longest[one.label] = (self.segment.start_s, length)
        for index, probability in enumerate(probabilities):
            if probability >= rule.min_probability:
                finder = self.peaks.setdefault(index, PeakFinder(rule))
                finder.update(self.labels[index], probability, one)
        return ended

    def close_segment(self) -> Segment | None:
        """Return the open segment as if it ended here; None before the first."""
        if self.segment is None:
            return None
        now = self.segment
        return Segment(
            self.track, self.labels[now.label], now.start_s, self.last_s, now.probability.value or 0.0, now.sure.value
        )

    def to_json(self) -> dict[str, Any]:
        """``share``: of the time on screen, by the label shown; ``mean``: of the smoothed probabilities."""
        return {
            "person": self.track + 1, "track": self.track, **({"name": self.given_name} if self.given_name else {}),
            "first_s": round(self.first_s, 3), "last_s": round(self.last_s, 3),
            "on_screen_s": round(self.seen_s, 3), "frames": self.frames, "changes": int(self.transitions.sum()),
            "sure_share": _round(self.sure.value), "mostly_unsure": self.is_mostly_unsure,
            "not_a_face": not self.is_face, "not_a_face_score": _round(self.not_a_face.value),
            "share": values_by_label(self.labels, self.share),
            "mean": values_by_label(self.labels, self.probability_s / max(self.seen_s, 1e-9)),
            "valence": _round(self.valence.value),
            "longest": {
                self.labels[label]: {"start_s": round(start, 3), "seconds": round(length, 3)}
                for label, (start, length) in sorted(self.longest.items())
            },
        }  # fmt: skip


@dataclass
class PeopleAccumulator:
    """Accumulates people, segments, peaks and timeline of a video from its faces in order of time.

    It is fed by the analysis, face by face, or by records read back, and says the same of both. What it keeps of each person
    does not grow with the video; segments are given out as they end. Tracks that are no faces (`Person.is_face`) are kept,
    but counted nowhere.

    given_names   track → name, for people who were given one
    """

    labels: tuple[str, ...]
    rule: PeakRule = field(default_factory=PeakRule)
    tracks: dict[int, Person] = field(default_factory=dict)
    given_names: dict[int, str] = field(default_factory=dict)
    timeline: Timeline = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.timeline is None:
            self.timeline = Timeline(self.labels)

    def update(self, one: Observation) -> Segment | None:
        """Add a face; returns the segment of its person that ends before it, if one does."""
        if one.track not in self.tracks:
            self.tracks[one.track] = Person.from_observation(one, self.labels, self.given_names.get(one.track, ""))
        self.timeline.update(one.track, one.probabilities, one.player_time_s, one.duration_s, one.is_unsure)
        return self.tracks[one.track].update(one, self.rule)

    def update_all(self, observations: Iterable[Observation]) -> PeopleAccumulator:
        """Add all of them; returns itself."""
        for one in observations:
            self.update(one)
        return self

    def segments(self, observations: Iterable[Observation]) -> list[Segment]:
        """Add all of them; returns the segments of people in order of their beginnings, those that go on as well."""
        ended = [segment for one in observations if (segment := self.update(one)) is not None]
        ended += [last for person in self.tracks.values() if (last := person.close_segment()) is not None]
        faces = {person.track for person in self.people}
        return sorted((one for one in ended if one.track in faces), key=lambda one: (one.start_s, one.track))

    @property
    def people(self) -> list[Person]:
        """Who was seen longest first."""
        return [person for person in self._sorted_by_time() if person.is_face]

    @property
    def not_faces(self) -> list[Person]:
        """Tracks that are no faces, the longest first."""
        return [person for person in self._sorted_by_time() if not person.is_face]

    def _sorted_by_time(self) -> list[Person]:
        return sorted(self.tracks.values(), key=lambda person: (-round(person.seen_s, 6), person.track))

    def peaks(self, label: str | None = None, *, track: int | None = None, most: int | None = None) -> list[Peak]:
        """The highest peaks, of one label or of all, label after label; of one person or of all.

        most: of each label so many, at most as many as the rule keeps of each person.
        """
        return [
            peak
            for index, name in enumerate(self.labels)
            if label in (None, name)
            for peak in select_highest(
                (
                    peak
                    for person in self.people
                    if index in person.peaks and track in (None, person.track)
                    for peak in person.peaks[index].peaks()
                ),
                self.rule.max_peaks if most is None else most,
            )
        ]

    @property
    def share(self) -> np.ndarray:
        """Of all people together: share of the time on screen with each label shown (K,)."""
        return self._average_over_people("label_s")

    @property
    def mean(self) -> np.ndarray:
        """Of all people together: mean smoothed probabilities (K,)."""
        return self._average_over_people("probability_s")

    def _average_over_people(self, name: str) -> np.ndarray:
        total = sum(person.seen_s for person in self.people)
        return sum((getattr(person, name) for person in self.people), np.zeros(len(self.labels))) / max(total, 1e-9)

    @property
    def sure_share(self) -> float | None:
        """Of all people together: share of the time in which the network is sure; None where nobody asked."""
        total = Mean(sum(one.sure.total for one in self.people), sum(one.sure.seconds for one in self.people))
        return total.value

    @property
    def raw_labels(self) -> dict[str, int]:
        """Faces of people by the network's own answer."""
        counts = sum((person.raw_labels for person in self.people), np.zeros(len(self.labels), np.int64))
        return {name: int(count) for name, count in zip(self.labels, counts, strict=True)}

    @property
    def names(self) -> dict[int, str]:
        """Track → what pictures call its person, who was seen longest first."""
        return {person.track: person.name for person in self.people}

    def to_json(self) -> dict[str, Any]:
        """What summaries hold of people: all together, each, what was left out, and the peaks."""
        return {
            "share": values_by_label(self.labels, self.share), "mean": values_by_label(self.labels, self.mean),
            "sure_share": _round(self.sure_share),
            "mostly_unsure": self.sure_share is not None and self.sure_share < MOSTLY_SHARE,
            "people": [person.to_json() for person in self.people],
            "not_faces": [person.to_json() for person in self.not_faces],
            "peaks": [peak.to_json() for peak in self.peaks()],
        }  # fmt: skip


def values_by_label(labels: tuple[str, ...], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(labels, values, strict=True)}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

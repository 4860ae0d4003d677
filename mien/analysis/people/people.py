"""Who was seen in a video, for how long, and with which expressions; captions that say so while it plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mien.analysis.media.yuv import Planes
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S, Smoother
from mien.analysis.tracking.tracker import MEMORY_S, Tracker, looks_of
from mien.core.types import Face


@dataclass
class Follower:
    """Gives the faces of a video, frame by frame, their track and what is smoothed along it."""

    smoothing_s: float = TIME_CONSTANT_S
    tracker: Tracker = field(default_factory=Tracker)

    def __post_init__(self) -> None:
        self._smoother = Smoother(self.smoothing_s)

    def follow(
        self, faces: Sequence[Face], time_s: float, was_cut: bool = False, picture: np.ndarray | Planes | None = None
    ) -> list[Face]:
        """The same faces with ``track``, ``smoothed`` and ``steady``; frames are given in order.

        was_cut: a new shot begins with this frame, and nobody is where the motion so far foretold.
        picture: the frame itself; with it, who comes back is known again by their looks.
        """
        if was_cut:
            self.tracker.cut()
        boxes = np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)
        numbers = self.tracker.update(boxes, time_s, None if picture is None else looks_of(picture, boxes))
        followed = []
        for face, number in zip(faces, numbers, strict=True):
            state = self._smoother.update(number, face.probabilities, time_s)
            steady = face.labels[state.label]
            followed.append(replace(face, track=number, smoothed=state.probabilities, steady=steady))
        self._smoother.forget(time_s - self.tracker.memory_s)
        return followed


@dataclass
class Person:
    """One track in figures; times and durations in seconds."""

    track: int
    labels: tuple[str, ...]
    first_s: float
    last_s: float = 0.0
    seen_s: float = 0.0
    frames: int = 0
    changes: int = 0
    weighted: np.ndarray = field(default_factory=lambda: np.zeros(0))  # sum of smoothed probabilities × duration, (K,)
    label_s: dict[str, float] = field(default_factory=dict)
    longest: dict[str, tuple[float, float]] = field(default_factory=dict)  # label → (start, duration) of its spell
    _spell: tuple[str, float] = ("", 0.0)

    def see(self, face: Face, time_s: float, duration_s: float) -> None:
        if not self.frames:
            self.weighted = np.zeros(len(self.labels))
        label, _ = face.shown
        if self.frames and time_s - self.last_s > MEMORY_S:  # out of sight for longer than a moment
            self._spell = (self._spell[0], time_s)
        self.frames += 1
        self.seen_s += duration_s
        self.last_s = time_s + duration_s
        self.weighted += duration_s * (face.probabilities if face.smoothed is None else face.smoothed)
        self.label_s[label] = self.label_s.get(label, 0.0) + duration_s
        if label != self._spell[0]:
            self.changes += bool(self._spell[0])
            self._spell = (label, time_s)
        length = self.last_s - self._spell[1]
        if length > self.longest.get(label, (0.0, 0.0))[1]:
            self.longest[label] = (self._spell[1], length)

    def to_json(self) -> dict[str, Any]:
        """``share``: of the time on screen, by the label shown; ``mean``: of the smoothed probabilities."""
        total = max(self.seen_s, 1e-9)
        return {
            "person": self.track + 1,
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "on_screen_s": round(self.seen_s, 3),
            "frames": self.frames,
            "changes": self.changes,
            "share": {name: round(self.label_s.get(name, 0.0) / total, 4) for name in self.labels},
            "mean": {name: round(float(v) / total, 4) for name, v in zip(self.labels, self.weighted, strict=True)},
            "longest": {
                name: {"start_s": round(start, 3), "seconds": round(length, 3)}
                for name, (start, length) in self.longest.items()
            },
        }


@dataclass
class People:
    """Everyone in a video; what is kept of each does not grow with time."""

    labels: tuple[str, ...]
    persons: dict[int, Person] = field(default_factory=dict)

    def see(self, faces: Sequence[Face], time_s: float, duration_s: float) -> None:
        """Add one frame."""
        for face in faces:
            if face.track not in self.persons:
                self.persons[face.track] = Person(face.track, self.labels, time_s)
            self.persons[face.track].see(face, time_s, duration_s)

    def by_time(self) -> list[Person]:
        """Who was seen longest first."""
        return sorted(self.persons.values(), key=lambda person: (-person.seen_s, person.track))


@dataclass
class Captions:
    """A WebVTT track that players show beside the video: who shows what, a new cue whenever that changes."""

    _shown: tuple[str, ...] = ()
    _since_s: float = 0.0
    _end_s: float = 0.0

    def see(self, faces: Sequence[Face], time_s: float, duration_s: float) -> str:
        """Add one frame, times as the annotated video has them, from 0; returns the cue that ends with it, or "".

        Faces without a track are not captioned.
        """
        followed = sorted((face for face in faces if face.track is not None), key=lambda face: face.track)
        shown = tuple(f"{face.track + 1}: {cue_text(face.shown[0])}" for face in followed)
        cue = ""
        if shown != self._shown:
            cue = self._cue(time_s)
            self._shown, self._since_s = shown, time_s
        self._end_s = time_s + duration_s
        return cue

    def finish(self) -> str:
        """The cue that the video's end ends."""
        return self._cue(self._end_s)

    def _cue(self, end_s: float) -> str:
        if not self._shown or milliseconds(end_s) <= milliseconds(self._since_s):
            return ""  # as they are written: a cue that ends where it begins is an error
        return f"\n{clock(self._since_s)} --> {clock(end_s)}\n" + "\n".join(self._shown) + "\n"


def cue_text(text: str) -> str:
    """Text as a cue may hold it (WebVTT, section 3.1): no tag, no ``-->``, no line break, whatever a model's labels are."""
    text = " ".join(text.split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float) -> str:
    """3723.5 → ``01:02:03.500``; what lies before 0 is 0."""
    count = milliseconds(seconds)
    return f"{count // 3_600_000:02d}:{count // 60_000 % 60:02d}:{count // 1000 % 60:02d}.{count % 1000:03d}"


def milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))

"""Captions of a video as WebVTT: the label of each person, a new cue whenever one changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mien.analysis.people.people import Observation
from mien.core.clock import format_timestamp

#: Seconds by which a frame may begin later than the one before it ends, and still follow it: files round their times.
SLACK_S = 0.002


@dataclass
class Captions:
    """A WebVTT track that players show beside the video; what is kept of it does not grow with the video.

    An expression of which the model is unsure for most of a cue has a question mark.

    labels     the model's class names (K,)
    offset_s   the player's time at which the video begins that the captions are shown with
    hidden     tracks that are left out: what is probably no face
    names      track → name, for people who were given one; the others have their number
    """

    labels: tuple[str, ...]
    offset_s: float = 0.0
    hidden: frozenset[int] = frozenset()
    names: Mapping[int, str] = field(default_factory=dict)
    _frame: list[Observation] = field(default_factory=list)  # the faces of the frame that is being gathered
    _shown: list[tuple[int, int]] = field(default_factory=list)  # (track, label) of the cue that goes on
    _start_s: float = 0.0
    _end_s: float = 0.0
    _sure_s: dict[int, float] = field(
        default_factory=dict
    )  # track → seconds of the cue that are sure, less those that are not

    def update(self, observation: Observation) -> Iterator[str]:
        """Add a face, frame after frame; yield the cue that ends with the frame before it, if one does."""
        if self._frame and observation.frame != self._frame[0].frame:
            yield from self._close_frame()
        self._frame.append(observation)

    def finish(self) -> Iterator[str]:
        """Yield the cues that end with the video."""
        yield from self._close_frame()
        yield from self._format_cue(self._end_s)

    def _close_frame(self) -> Iterator[str]:
        frame = sorted((one for one in self._frame if one.track not in self.hidden), key=lambda one: one.track)
        self._frame = []
        if not frame:
            return
        start_s = frame[0].player_time_s - self.offset_s
        shown = [(one.track, one.label) for one in frame]
        if self._shown and start_s > self._end_s + SLACK_S:  # nobody was seen in between
            yield from self._format_cue(self._end_s)
            self._shown = []
        if shown != self._shown:
            yield from self._format_cue(start_s)
            self._shown, self._start_s, self._sure_s = shown, start_s, {}
        self._end_s = start_s + frame[0].duration_s
        for one in frame:
            if one.is_unsure is not None:
                seconds = -one.duration_s if one.is_unsure else one.duration_s
                self._sure_s[one.track] = self._sure_s.get(one.track, 0.0) + seconds

    def _format_cue(self, end_s: float) -> Iterator[str]:
        start_ms, end_ms = to_milliseconds(self._start_s), to_milliseconds(end_s)
        if not self._shown or end_ms <= start_ms:
            return  # as they are written: a cue that ends where it begins is an error
        yield f"\n{format_timestamp(start_ms)} --> {format_timestamp(end_ms)}\n" + "".join(
            self._format_line(*one) for one in self._shown
        )

    def _format_line(self, track: int, label: int) -> str:
        doubt = "?" if self._sure_s.get(track, 0.0) < 0 else ""
        name = escape_cue_text(self.names.get(track, f"{track + 1}"))
        return f"{name}: {escape_cue_text(self.labels[label])}{doubt}\n"


def escape_cue_text(text: str) -> str:
    """Return text that a cue may hold (WebVTT, section 3.1): no tag, no ``-->``, no line break."""
    text = " ".join(text.split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_milliseconds(seconds: float) -> int:
    """Round a time to milliseconds, 0 for times before 0."""
    return max(0, round(seconds * 1000))

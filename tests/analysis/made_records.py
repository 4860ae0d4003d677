"""Records made up for tests: who shows which label on which frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from mien.analysis.output.writers import make_records, record_writer
from mien.core.types import Face, FrameResult

LABELS = ("angry", "happy", "neutral")


def write_clip_records(
    stem: Path,
    shown: Mapping[int, Sequence[str | None]],
    rate: Fraction = Fraction(25),
    *,
    start_s: float = 0.0,
    probability: float = 0.9,
    labels: Sequence[str] = LABELS,
    source: str = "clip.mp4",
    name: str = "csv",
    round_digits: int = 6,
) -> Path:
    """Write records in which each track shows these labels, frame by frame; None: it is not seen. Returns their path.

    The label that is shown has ``probability`` on the middle frame of its stretch, and less towards its ends; the others share
    the rest. ``start_s``: what the stream's own clock shows at the beginning.
    """
    with record_writer(stem, (name,), tuple(labels)) as records:
        for frame in range(max(map(len, shown.values()))):
            faces = []
            for track, row in shown.items():
                label = row[frame] if frame < len(row) else None
                if label is not None:
                    own = probability - 0.002 * _distance_from_middle(row, frame)
                    values = np.full(len(labels), (1 - own) / (len(labels) - 1), np.float32)
                    values[labels.index(label)] = own
                    box = (10.0 + 50 * track, 10.0, 40.0 + 50 * track, 40.0)
                    faces.append(Face(box, 0.9, values, tuple(labels), track, values, label))
            time_s, length_s = (round(float(value / rate), round_digits) for value in (frame, 1))
            records.write(
                make_records(
                    FrameResult(source, frame, start_s + time_s, (640, 360), tuple(faces), time_s, length_s),
                    "base",
                    "yunet",
                )
            )
    return stem.with_name(f"{stem.name}.records.{name}")


def _distance_from_middle(row: Sequence[str | None], frame: int) -> int:
    first = last = frame
    while first > 0 and row[first - 1] == row[frame]:
        first -= 1
    while last + 1 < len(row) and row[last + 1] == row[frame]:
        last += 1
    return abs(frame - (first + last) // 2)

"""Stills of a video at the peaks of expressions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.analysis.media.container import (
    NO_PIXEL_LIMIT,
    open_container,
    pixel_aspect_ratio,
    select_video_stream,
)
from mien.analysis.media.deinterlace import deinterlace_frames
from mien.analysis.media.source import open_video
from mien.analysis.media.timestamps import stores_frame_times
from mien.analysis.media.video_reader import VideoFrame, to_upright_rgb
from mien.analysis.people.peaks import Peak
from mien.core.clock import format_clock
from mien.core.errors import MediaError
from mien.core.pictures import is_animation
from mien.core.types import Face

#: Two times in seconds that differ by less are those of one frame; records keep six digits.
SAME_S = 1e-4

#: Seconds before a moment at which reading begins, one after the other until the moment is found: not every format
#: finds the key frame before a time at once.
RUN_UPS_S = (0.0, 2.0, 15.0)

#: The contact sheet: side of a face's tile and height of the lines below it, in pixels.
TILE, CAPTION = 240, 44

#: The tile shows so many times the face's box.
AROUND = 2.2


def still_name(peak: Peak) -> str:
    """``happy-0012.40s-person1``; what of a model's own label no file can be called is left out."""
    label = re.sub(r"[^\w-]+", "_", peak.label)
    return f"{label}-{peak.player_time_s:07.2f}s-person{peak.track + 1}"


def face_from_peak(peak: Peak, labels: tuple[str, ...]) -> Face:
    """Return the face that is drawn onto a peak's still."""
    return Face(peak.box_xyxy, None, peak.probabilities, labels, peak.track, peak.probabilities, peak.label)


def read_frames_at(video: Path, times_s: Sequence[float], *, has_rebuilt_times: bool = False) -> Iterator[np.ndarray]:
    """Yield the frames that are shown at these times, in seconds and rising, as upright RGB uint8 (H, W, 3).

    It seeks, so that a frame late in a long film is found quickly. It reads from the start where a file cannot be searched.
    has_rebuilt_times: the times are not the file's own, so that it cannot be searched. Raises MediaError where there is no
    frame at a time.
    """
    if has_rebuilt_times or is_animation(video):
        yield from _read_in_order(video, times_s)
        return
    for time_s in times_s:
        picture = _seek_frame(video, time_s)
        yield next(_read_in_order(video, [time_s])) if picture is None else picture


def _seek_frame(video: Path, time_s: float) -> np.ndarray | None:
    import av

    for run_up_s in RUN_UPS_S:
        with open_container(video) as container:
            stream = select_video_stream(container, video)
            if not stores_frame_times(container, stream):
                return None
            stream.thread_type, time_base = "AUTO", cast(Fraction, stream.time_base)
            try:
                container.seek(int((time_s - run_up_s) / time_base), stream=stream)
                for frame in deinterlace_frames(container.decode(stream), time_base):
                    if frame.pts is None or frame.time > time_s + SAME_S:
                        break
                    if frame.time >= time_s - SAME_S:
                        return to_upright_rgb(frame, pixel_aspect_ratio(stream))
            except av.error.FFmpegError:
                continue  # this file cannot be searched like that
    return None


def _read_in_order(video: Path, times_s: Sequence[float]) -> Iterator[np.ndarray]:
    with open_video(video, max_pixels=NO_PIXEL_LIMIT) as source:
        frames = source.frames()
        frame: VideoFrame | None = next(frames)
        for time_s in times_s:
            while frame is not None and frame.time_s < time_s - SAME_S:
                frame = next(frames, None)
            if frame is None or frame.time_s > time_s + SAME_S:
                problem = f"has no frame at {time_s:.3f} s, which the records tell of"
                hint = "the records are of another video: analyze this one with another `out`"
                raise MediaError(video, problem, hint)
            yield np.array(frame.picture)  # drawn on, and perhaps asked for twice


def crop_tile(picture: np.ndarray, box_xyxy: Sequence[float]) -> np.ndarray:
    """Return a square crop around a face, RGB uint8 (TILE, TILE, 3)."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    side = max(1, min(round(AROUND * max(x2 - x1, y2 - y1)), height, width))
    left = int(np.clip((x1 + x2 - side) / 2, 0, width - side))
    top = int(np.clip((y1 + y2 - side) / 2, 0, height - side))
    crop = picture[top : top + side, left : left + side]
    return cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_AREA if side > TILE else cv2.INTER_CUBIC)


def make_contact_sheet(
    tiles: Sequence[np.ndarray], peaks: Sequence[Peak], names: Mapping[int, str] | None = None
) -> np.ndarray:
    """All peaks side by side with what they show below them, RGB uint8; another expression begins a new line.

    names: track → name, for people who were given one.
    """
    most = max(Counter(peak.label for peak in peaks).values())
    columns = min(most, 4 if len(tiles) <= 12 else 6)
    cells: list[tuple[int, int]] = []  # (line, column) of each tile
    for number, peak in enumerate(peaks):
        line, column = cells[-1] if cells else (0, -1)
        ends = column + 1 == columns or (number > 0 and peak.label != peaks[number - 1].label)
        cells.append((line + 1, 0) if ends else (line, column + 1))
    gap = 12
    size_wh = (columns * (TILE + gap) + gap, (cells[-1][0] + 1) * (TILE + CAPTION + gap) + gap)
    sheet = Image.new("RGB", size_wh, "white")
    pen, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(17), ImageFont.load_default(14)
    for (line, column), tile, peak in zip(cells, tiles, peaks, strict=True):
        x, y = gap + column * (TILE + gap), gap + line * (TILE + CAPTION + gap)
        sheet.paste(Image.fromarray(tile), (x, y))
        pen.text(
            (x, y + TILE + 4),
            f"{peak.label}{'?' if peak.is_unsure else ''} {peak.probability:.0%}",
            font=large,
            fill="#1c2126",
        )
        person = (names or {}).get(peak.track, f"person {peak.track + 1}")
        below = f"{format_clock(peak.player_time_s, digits=2)}, {person}"
        pen.text((x, y + TILE + 25), below, font=small, fill="#5b6670")
    return np.asarray(sheet)

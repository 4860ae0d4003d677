"""Frame rates as exact fractions, and timecodes as editing programs write them (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np

from mien.core.errors import UsageError

#: Rates that cameras and editing programs use.
STANDARD_RATES = tuple(
    Fraction(*pair)
    for pair in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48, 1), (50, 1), (60000, 1001), (60, 1),
                 (100, 1), (120000, 1001), (120, 1))
)  # fmt: skip

#: Rates at which drop-frame timecode is defined, and the numbers that it leaves out each minute but every tenth.
DROPPED_NUMBERS = {Fraction(30000, 1001): 2, Fraction(60000, 1001): 4}

#: Highest rate that is taken, in frames per second.
MAX_RATE = 1000

#: A decimal number this near to one of STANDARD_RATES stands for it: 23.98 and 23.976, 29.97, 59.94.
MAX_ROUNDING = Fraction(5, 1000)

#: Share of a frame by which a time may differ from that of a constant rate: containers round their times.
MAX_DEVIATION = 0.25


def parse_frame_rate(text: str) -> Fraction:
    """Return the exact rate of a text in frames per second: ``"25"``, ``"30000/1001"``, or rounded, ``"29.97"``.

    A rounded rate is that of STANDARD_RATES next to it. Raises UsageError for anything else.
    """
    if not re.fullmatch(r"[0-9]{1,6}(/[0-9]{1,5}|\.[0-9]{1,6})?", text):
        raise _rate_error(text)
    try:
        rate = Fraction(text)
    except ZeroDivisionError as error:
        raise _rate_error(text) from error
    nearest = _nearest(float(rate))
    if "." in text and abs(nearest - rate) < MAX_ROUNDING:
        rate = nearest
    if not 0 < rate <= MAX_RATE:
        raise _rate_error(text)
    return rate


def _rate_error(text: str) -> UsageError:
    return UsageError(f"`rate={text[:20]}`", "is no frame rate", "as in `rate=25`, `rate=29.97` or `rate=30000/1001`")


def estimate_frame_rate(frame: np.ndarray, time_s: np.ndarray, duration_s: np.ndarray) -> tuple[Fraction, bool]:
    """Return (frames per second, whether the rate is constant) of a video whose analyzed frames are known.

    frame: int (N,), numbers of the frames in the video; time_s, duration_s: float (N,), when each is shown and for how long.
    Of a variable rate it returns the standard rate next to its mean.
    """
    numbers, first = np.unique(frame, return_index=True)
    times = time_s[first]
    if len(numbers) < 2 or times[-1] <= times[0]:
        mean = 1 / max(float(np.median(duration_s)), 1 / MAX_RATE)
        nearest = _nearest(mean)
        return (nearest if abs(float(nearest) - mean) < 0.01 * mean else Fraction(mean).limit_denominator(100)), True
    mean = float((numbers[-1] - numbers[0]) / (times[-1] - times[0]))

    def deviation(rate: Fraction) -> float:
        """Return the largest difference from the times of a constant rate, in frames."""
        differences = (times - times[0]) * float(rate) - (numbers - numbers[0])
        return float(np.ptp(differences)) / 2

    close = [rate for rate in STANDARD_RATES if abs(float(rate) - mean) < 0.01 * mean]
    for rate in (*sorted(close, key=deviation), Fraction(mean).limit_denominator(100)):
        if rate > 0 and deviation(rate) <= MAX_DEVIATION:
            return rate, True
    return _nearest(mean), False


def _nearest(rate: float) -> Fraction:
    return min(STANDARD_RATES, key=lambda one: abs(float(one) - rate))


def format_timecode(frame: int, rate: Fraction, *, is_drop_frame: bool = False) -> str:
    """Return the timecode ``HH:MM:SS:FF`` of a frame, with ``;`` before the frames in drop-frame timecode.

    Drop-frame timecode leaves out the first numbers of each minute but every tenth, so that it follows the clock at 29.97
    and 59.94 frames per second. After 24 hours it begins again.
    """
    base = round(rate)
    if is_drop_frame:
        dropped = DROPPED_NUMBERS[rate]
        in_minute, in_ten = 60 * base - dropped, 600 * base - 9 * dropped
        tens, rest = divmod(frame, in_ten)
        minutes = 0 if rest < 60 * base else 1 + (rest - 60 * base) // in_minute
        frame += dropped * (9 * tens + minutes)
    seconds, frames = divmod(frame, base)
    separator = ";" if is_drop_frame else ":"
    digits = len(str(base - 1))
    return (
        f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{frames:0{max(2, digits)}d}"
    )


def parse_timecode(text: str, rate: Fraction) -> int:
    """Return the frame of a timecode ``HH:MM:SS:FF``; with ``;`` before the frames it is drop-frame timecode.

    Raises UsageError for what is no timecode, or none at this rate.
    """
    match = re.fullmatch(r"(\d\d):([0-5]\d):([0-5]\d)([:;])(\d\d\d?)", text)
    base, problem = round(rate), "is no timecode"
    if match:
        hours, minutes, seconds, frames = (int(match[index]) for index in (1, 2, 3, 5))
        is_drop_frame, dropped = match[4] == ";", DROPPED_NUMBERS.get(rate, 0)
        problem = f"is no timecode at {float(rate):g} frames per second"
        if frames < base and hours < 24 and (dropped or not is_drop_frame):
            frame = (3600 * hours + 60 * minutes + seconds) * base + frames
            if not is_drop_frame:
                return frame
            if frames >= dropped or seconds or minutes % 10 == 0:
                whole = 60 * hours + minutes
                return frame - dropped * (whole - whole // 10)
    raise UsageError(f"`start_timecode={text[:20]}`", problem, "as in `start_timecode=01:00:00:00`")

"""Frame rates and timecodes, compared with OpenTimelineIO's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import opentimelineio as otio
import pytest

from mien.analysis.output.exports.timecode import (
    STANDARD_RATES,
    estimate_frame_rate,
    format_timecode,
    parse_frame_rate,
    parse_timecode,
)
from mien.core.errors import UsageError

NTSC = Fraction(30000, 1001)


#: Drop-frame timecode exists at two rates only.
RATES = [(rate, False) for rate in STANDARD_RATES if rate <= 60 and rate != 48]
RATES += [(NTSC, True), (Fraction(60000, 1001), True)]


@pytest.mark.parametrize(("rate", "is_drop_frame"), RATES, ids=str)
def test_timecodes_are_those_of_opentimelineio(rate: Fraction, is_drop_frame: bool) -> None:
    minute, rng = 60 * round(rate), np.random.default_rng(0)
    near = [count * minute + step for count in (0, 1, 2, 9, 10, 11, 60) for step in range(-20, 3)]
    for frame in [frame for frame in near if frame >= 0] + rng.integers(0, 20 * 3600 * 24, 300).tolist():
        time = otio.opentime.RationalTime(frame, float(rate))
        text = format_timecode(frame, rate, is_drop_frame=is_drop_frame)
        assert text == otio.opentime.to_timecode(time, float(rate), is_drop_frame)
        assert parse_timecode(text, rate) == frame


def test_a_day_ends_at_24_hours() -> None:
    assert format_timecode(25 * 86_400 + 1, Fraction(25)) == "00:00:00:01"
    assert format_timecode(2_589_408, NTSC, is_drop_frame=True) == "00:00:00;00"  # 24 h of 107,892 frames each


@pytest.mark.parametrize(
    "text", ["1:00:00:00", "01:00:00:25", "01:60:00:00", "24:00:00:00", "01:00:00;00", "", "0" * 99]
)
def test_what_is_no_timecode_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="start_timecode"):
        parse_timecode(text, Fraction(25))


def test_numbers_that_drop_frame_leaves_out_are_no_timecode() -> None:
    with pytest.raises(UsageError, match=r"is no timecode at 29\.97 frames per second"):
        parse_timecode("00:01:00;01", NTSC)
    assert parse_timecode("00:10:00;01", NTSC) == 17_983


def test_rates_are_read_exactly() -> None:
    read = {"29.97": NTSC, "23.976": Fraction(24000, 1001), "23.98": Fraction(24000, 1001), "25": Fraction(25),
            "30000/1001": NTSC, "59.94": Fraction(60000, 1001), "12.5": Fraction(25, 2), "25.000": Fraction(25)}  # fmt: skip
    assert {text: parse_frame_rate(text) for text in read} == read
    for text in ("0", "-1", "1e9", "fast", "30/0", "1001", "", "nan"):
        with pytest.raises(UsageError, match="is no frame rate"):
            parse_frame_rate(text)


@pytest.mark.parametrize("rate", [*STANDARD_RATES, Fraction(10), Fraction(25, 2)], ids=str)
@pytest.mark.parametrize("digits", [6, 3])
def test_the_rate_is_found_by_the_times(rate: Fraction, digits: int) -> None:
    """Also of a Matroska file, whose times are whole milliseconds, and where most frames have no face."""
    frame = np.repeat(np.arange(0, 900, 7), 2)
    time_s = np.round(frame / float(rate), digits)
    assert estimate_frame_rate(frame, time_s, np.full(len(frame), 1 / float(rate))) == (rate, True)


def test_of_one_frame_its_length_tells_the_rate() -> None:
    one = np.array([4]), np.array([0.13]), np.array([0.033367])
    assert estimate_frame_rate(*one) == (NTSC, True)


def test_a_variable_rate_is_said_to_be_one() -> None:
    time_s = np.arange(300) / 25 + 0.3 * np.sin(np.arange(300) / 20)
    rate, is_constant = estimate_frame_rate(np.arange(300), time_s, np.full(300, 0.04))
    assert (rate, is_constant) == (Fraction(25), False)

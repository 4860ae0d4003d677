"""Times as people read them, compared with values written by hand."""

from __future__ import annotations

import pytest

from mien.core.clock import format_axis_time, format_clock, format_timestamp


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (59.7, "1:00"), (3599.9, "1:00:00"), (3723, "1:02:03")]
)
def test_a_clock_has_hours_where_there_are_some(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text


def test_a_clock_shows_parts_of_seconds() -> None:
    assert [format_clock(seconds, digits=2) for seconds in (75.5, 0.004, 59.999, 3723.05)] == [
        "1:15.50", "0:00.00", "1:00.00", "1:02:03.05"]  # fmt: skip


def test_ticks_of_short_clips_are_told_apart() -> None:
    ticks = [format_axis_time(seconds) for seconds in (0, 0.25, 0.5, 12.3, 59.999, 75, 3600)]
    assert ticks == ["0:00", "0:00.25", "0:00.5", "0:12.3", "1:00", "1:15", "60:00"]


def test_timestamps_of_subtitles() -> None:
    assert (format_timestamp(3_723_500), format_timestamp(59_999, ",")) == ("01:02:03.500", "00:00:59,999")

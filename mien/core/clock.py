"""Format times: clocks, ticks of an axis, and timestamps of subtitles."""

from __future__ import annotations


def format_clock(seconds: float, digits: int = 0) -> str:
    """Return a time as a player shows it: 75.4 → ``1:15``, 3723 → ``1:02:03``; with two digits, 75.5 → ``1:15.50``."""
    count = round(seconds * 10**digits)
    whole, fraction = divmod(count, 10**digits)
    minutes, rest = divmod(whole, 60)
    head = f"{minutes}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}"
    return f"{head}:{rest:02d}" + (f".{fraction:0{digits}d}" if digits else "")


def format_axis_time(seconds: float, _: object = None) -> str:
    """Return a tick of a time axis in minutes and seconds: 75.0 → ``1:15``, 0.25 → ``0:00.25``, 3600 → ``60:00``."""
    hundredths = round(100 * seconds)
    part = f"{hundredths % 100:02d}".rstrip("0")
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}{part and f'.{part}'}"


def format_timestamp(milliseconds: int, separator: str = ".") -> str:
    """Return a timestamp of WebVTT, or of SubRip with the separator ``,``: 3723500 → ``01:02:03.500``."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{separator}{rest:03d}"

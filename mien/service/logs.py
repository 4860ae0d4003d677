"""The log on stderr: one line per event, with its time and its offset from UTC."""

from __future__ import annotations

import logging
from datetime import datetime


class LineFormatter(logging.Formatter):
    """``2026-03-01T12:00:00.123+01:00 WARNING mien.service: job ...``"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def start_log() -> None:
    """Write warnings and errors of the service and of its libraries in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])

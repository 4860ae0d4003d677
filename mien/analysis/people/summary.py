"""The summary that an analysis writes beside the records of a video, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def clip_name(records: str | Path) -> str:
    """Return the name that the files of one input share: ``out/clip.records.csv`` → ``clip``; of records in memory ``clip.mp4`` → ``clip``."""
    name, separator, _ = Path(records).name.partition(".records.")
    return name if separator else Path(records).stem


def read_summary(records: str | Path) -> dict[str, Any]:
    """Return the summary beside a file of records, or {} where there is none that can be read."""
    path = Path(records)
    try:
        values = json.loads(path.with_name(f"{clip_name(path)}.summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}

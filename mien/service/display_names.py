"""Names of uploaded files: shown, and offered again for saving, but never used as a path."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

MAX_NAME_CHARS = 150


def clean_display_name(name: str) -> str:
    """Return the last part of a client's file name without unprintable characters. It is only shown, never used as a
    path."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    clean = "".join(letter for letter in last if letter.isprintable() and not 0xD800 <= ord(letter) <= 0xDFFF)
    return clean.strip()[:MAX_NAME_CHARS] or "unnamed"


def make_content_disposition(name: str) -> str:
    """Return a Content-Disposition that saves under ``name``, whatever characters it has."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._- ") else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=utf-8''{quote(name, safe='')}"

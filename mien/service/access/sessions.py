"""Sessions of signed-in browsers: a cookie holds a random value, and only its hash is stored until it expires or is
ended."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from mien.core.errors import OutputError

#: The file in the state folder.
FILE = "sessions.sqlite3"

SCHEMA = "CREATE TABLE IF NOT EXISTS sessions (hash BLOB PRIMARY KEY, expires REAL NOT NULL)"


class Sessions:
    """The sessions of one state folder; they survive a restart. Hashes are keyed with the token, so a new token ends
    all sessions.

    Args:
        folder: exists, and is used by this process alone.
        lifetime_s: seconds from the sign-in to the end of a session.
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, token: str, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        self.lifetime_s = lifetime_s
        self._token, self._clock = token.encode(), clock
        self._database = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute(SCHEMA)
        except sqlite3.DatabaseError as error:
            self._database.close()
            hint = "remove it; everyone signs in again"
            raise OutputError(folder / FILE, f"cannot be used ({error})", hint) from error

    def close(self) -> None:
        self._database.close()

    def begin(self) -> str:
        """Return the value of a new session, 256 random bits; it is not kept itself."""
        value, now = secrets.token_urlsafe(32), self._clock()
        self._database.execute("DELETE FROM sessions WHERE expires <= ?", (now,))
        self._database.execute("INSERT INTO sessions VALUES (?, ?)", (self._hash(value), now + self.lifetime_s))
        return value

    def is_valid(self, value: str) -> bool:
        query = "SELECT 1 FROM sessions WHERE hash = ? AND expires > ?"
        return bool(value) and self._database.execute(query, (self._hash(value), self._clock())).fetchone() is not None

    def end(self, value: str) -> None:
        self._database.execute("DELETE FROM sessions WHERE hash = ?", (self._hash(value),))

    def _hash(self, value: str) -> bytes:
        return hmac.digest(self._token, value.encode("utf-8", "replace"), hashlib.sha256)

"""Record which input each output in a folder belongs to, so that another input of the same name does not overwrite it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.analysis.media.inputs import Input
from mien.analysis.output.writers import RECORD_FORMATS, record_path
from mien.core.errors import OutputError
from mien.core.files import hidden_sibling

OWNERSHIP_NAME = ".outputs.jsonl"


class Ownership:
    """``.outputs.jsonl`` in the output folder: one line per input; the last line of a ``stem`` counts.

    A line holds the ``stem``, the ``owner`` (absolute path of the input) and its ``outputs``: name → digest of the key. The
    file may be removed; then inputs of the same name overwrite each other's outputs.

    Args:
        out: the output folder.
        key: what the results depend on besides the inputs, as JSON.
    """

    def __init__(self, out: Path, key: dict[str, Any]) -> None:
        self._out, self._path = out, out / OWNERSHIP_NAME
        self._digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._lines: dict[str, dict[str, Any]] = {}
        self._file, self._read_bytes = 0, 0  # inode of the file, and the bytes that were read
        self._read_new_lines()

    def _read_new_lines(self) -> None:
        """Read the lines that this or other processes added since the last call."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._lines, self._file, self._read_bytes = {}, 0, 0
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._file or status.st_size < self._read_bytes:  # the file was replaced
                self._lines, self._file, self._read_bytes = {}, status.st_ino, 0
            file.seek(self._read_bytes)
            content = file.read()
        self._read_bytes += content.rfind(b"\n") + 1
        for text in content.decode("utf-8", "replace").splitlines():
            if (line := _parse_line(text)) is not None:
                self._lines[line["stem"].lower()] = line

    def find_owner(self, stem: Path) -> str | None:
        """Return the absolute path of the input whose outputs have this stem; None without outputs, or if it is unknown."""
        line = self._lines.get(str(stem).lower())
        if line is None:
            return _read_summary_source(self._out / f"{stem}.summary.json")
        remaining = [self._out / name for name in line["outputs"]] + [hidden_sibling(self._out / stem, "parts")]
        remaining += [
            record_path(self._out / stem, name) for name in RECORD_FORMATS
        ]  # outputs that are not recorded yet
        return line["owner"] if any(path.exists() for path in remaining) else None

    def is_free(self, stem: Path, item: Input) -> bool:
        """Whether an input may use a stem: no other input has outputs there."""
        owner, own = self.find_owner(stem), item.absolute_name
        return owner is None or owner == item.name or os.path.abspath(owner) == own  # noqa: PTH100

    def claim_stem(self, item: Input) -> None:
        """Record that an input writes under its stem. Call it while holding the lock of the stem.

        Raises OutputError if another process has written outputs of another input there since the stem was chosen.
        """
        self._read_new_lines()
        if not self.is_free(item.stem, item):
            raise OutputError(
                f"{self._out / item.stem}.*",
                f"are those of {self.find_owner(item.stem)}, which another process analyzed meanwhile",
                "run the same analysis again",
            )
        line = self._lines.get(str(item.stem).lower())
        if line is None or line["owner"] != item.absolute_name:
            self._append(item, {})

    def record_outputs(self, item: Input, outputs: list[Path]) -> list[Path]:
        """Record the outputs of an input; return its older outputs, which were made with another key."""
        new = {os.path.relpath(path, self._out): self._digest for path in outputs}
        known = self._lines.get(str(item.stem).lower(), {"outputs": {}})["outputs"]
        unchanged = {name: digest for name, digest in known.items() if name not in new and (self._out / name).exists()}
        self._append(item, unchanged | new)
        return [self._out / name for name, digest in unchanged.items() if digest != self._digest]

    def remove_unused(self) -> None:
        """Remove the file if no input has outputs in the folder and no process is about to write some."""
        self._read_new_lines()
        stems = [Path(line["stem"]) for line in self._lines.values()]
        if not any(
            hidden_sibling(self._out / stem, "lock").exists() or self.find_owner(stem) is not None for stem in stems
        ):
            self._path.unlink(missing_ok=True)

    def _append(self, item: Input, outputs: Mapping[str, str]) -> None:
        stem = str(item.stem)
        line = {"stem": stem, "owner": item.absolute_name, "outputs": dict(outputs)}
        if self._lines.get(stem.lower()) == line:
            return
        self._lines[stem.lower()] = line
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")


def _parse_line(text: str) -> dict[str, Any] | None:
    """Return the line; None if it is truncated or was changed."""
    try:
        line = json.loads(text)
    except ValueError:  # truncated
        return None
    kinds = {"stem": str, "owner": str, "outputs": dict}
    is_complete = isinstance(line, dict) and all(isinstance(line.get(name), kind) for name, kind in kinds.items())
    return line if is_complete else None


def _read_summary_source(summary: Path) -> str | None:
    """Return the input that a summary names; None without a summary."""
    try:
        source = json.loads(summary.read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return source if isinstance(source, str) else None

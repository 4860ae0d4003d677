"""Which input each output in a folder belongs to, so that another input of the same name does not overwrite it."""

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
from mien.core.files import escape_file_name, hidden_sibling

OWNERSHIP_NAME = ".outputs.jsonl"


class Ownership:
    """``.outputs.jsonl`` in the output folder: a line for each input, the last one of a ``stem`` counts.

    Each holds the ``stem``, the ``owner`` (the input's absolute path) and its ``outputs``: name → digest of what they depend on
    beside the input. The file may be removed; then names are no longer told apart.

    Args:
        out: the output folder.
        key: what the results depend on beside the inputs, as JSON.
    """

    def __init__(self, out: Path, key: dict[str, Any]) -> None:
        self._out, self._path = out, out / OWNERSHIP_NAME
        self._digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._lines: dict[str, dict[str, Any]] = {}
        self._file, self._read_bytes = 0, 0  # which file was read (its inode), and how much of it
        self._read()

    def _read(self) -> None:
        """What was written since the last call, also by other processes."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            self._lines, self._file, self._read_bytes = {}, 0, 0
            return
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._file or status.st_size < self._read_bytes:  # another file of this name
                self._lines, self._file, self._read_bytes = {}, status.st_ino, 0
            file.seek(self._read_bytes)
            content = file.read()
        self._read_bytes += content.rfind(b"\n") + 1
        for text in content.decode("utf-8", "replace").splitlines():
            if (line := _parse_line(text)) is not None:
                self._lines[line["stem"].lower()] = line

    def owner(self, stem: Path) -> str | None:
        """The absolute path of the input whose outputs have this stem; None where there are none, or nobody knows."""
        line = self._lines.get(str(stem).lower())
        if line is None:
            return _read_summary_source(self._out / f"{stem}.summary.json")
        left = [self._out / name for name in line["outputs"]] + [hidden_sibling(self._out / stem, "parts")]
        left += [record_path(self._out / stem, name) for name in RECORD_FORMATS]  # of one that is about to be listed
        return line["owner"] if any(path.exists() for path in left) else None

    def is_free(self, stem: Path, item: Input) -> bool:
        """Whether an input may write its outputs there: nobody has, or it has itself."""
        owner, own = self.owner(stem), owner_name(item)
        return owner is None or owner == item.name or os.path.abspath(owner) == own  # noqa: PTH100

    def begin(self, item: Input) -> None:
        """It writes under its stem from now on; to be called while no other process can.

        Raises OutputError where another process has written outputs of another input there since the stem was chosen.
        """
        self._read()
        if not self.is_free(item.stem, item):
            raise OutputError(
                f"{self._out / item.stem}.*",
                f"are those of {self.owner(item.stem)}, which another process analyzed meanwhile",
                "give the same command again",
            )
        line = self._lines.get(str(item.stem).lower())
        if line is None or line["owner"] != owner_name(item):
            self._add(item, {})

    def finish(self, item: Input, outputs: list[Path]) -> list[Path]:
        """Its outputs are whole; returns those beside them that an earlier analysis with other settings left."""
        new = {os.path.relpath(path, self._out): self._digest for path in outputs}
        known = self._lines.get(str(item.stem).lower(), {"outputs": {}})["outputs"]
        kept = {name: digest for name, digest in known.items() if name not in new and (self._out / name).exists()}
        self._add(item, kept | new)
        return [self._out / name for name, digest in kept.items() if digest != self._digest]

    def end(self) -> None:
        """Nothing was written, by nobody, and nobody is about to: nothing is left."""
        self._read()
        stems = [Path(line["stem"]) for line in self._lines.values()]
        if not any(hidden_sibling(self._out / stem, "lock").exists() or self.owner(stem) is not None for stem in stems):
            self._path.unlink(missing_ok=True)

    def _add(self, item: Input, outputs: Mapping[str, str]) -> None:
        stem = str(item.stem)
        line = {"stem": stem, "owner": owner_name(item), "outputs": dict(outputs)}
        if self._lines.get(stem.lower()) == line:
            return
        self._lines[stem.lower()] = line
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(line) + "\n")


def owner_name(item: Input) -> str:
    """An absolute path, or the address of a stream, as text that can be written."""
    return item.name if isinstance(item.path, str) else escape_file_name(os.path.abspath(item.path))  # noqa: PTH100 - a link keeps its name


def _parse_line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:  # cut off
        return None
    kinds = {"stem": str, "owner": str, "outputs": dict}
    whole = isinstance(line, dict) and all(isinstance(line.get(name), kind) for name, kind in kinds.items())
    return line if whole else None


def _read_summary_source(summary: Path) -> str | None:
    """The input that a summary names, as it was given then; None without one."""
    try:
        source = json.loads(summary.read_text(encoding="utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return source if isinstance(source, str) else None

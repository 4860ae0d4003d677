"""The manifest of a run over many inputs: one line per input, written as soon as its result is known, so that the run can resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mien.analysis.media.inputs import Input, assign_stems
from mien.core.errors import MediaError, OutputError
from mien.core.files import write_text

MANIFEST_NAME = "manifest.jsonl"

IsStemFree = Callable[[Path, Input], bool]


class Manifest:
    """``manifest.jsonl`` in the output folder.

    The first line holds the key of the run. Each input has a line with its ``source``, the ``stem`` of its outputs, its
    ``state`` ("begun", "done", "failed" or "crashed"), ``why`` it failed, its ``outputs`` and its counts. The last line says
    that the run has ended. A run with the same key takes over the lines of an interrupted run.

    Args:
        out: the output folder.
        key: what the results depend on besides the inputs, as JSON.
        reuse_ended: also take over the lines of a run that has ended.
        after_crash: keep the lines of inputs that were begun and not finished: they crashed.

    Raises OutputError if the folder has another file of this name.
    """

    def __init__(self, out: Path, key: dict[str, Any], reuse_ended: bool = False, after_crash: bool = False) -> None:
        self._path = out / MANIFEST_NAME
        key = json.loads(json.dumps(key))
        lines = _read_lines(self._path)
        if self._path.exists() and not (lines and "key" in lines[0]):
            raise OutputError(self._path, "is a file that mien did not write", "choose another folder with `out`")
        continues = bool(lines) and lines[0].get("key") == key and (reuse_ended or not lines[-1].get("ended"))
        known = {line["stem"]: line for line in lines[1:] if _is_complete(line)} if continues else {}
        # Without a crash, inputs that an earlier run had begun and not finished are analyzed again.
        self._known = {stem: line for stem, line in known.items() if after_crash or line["state"] != "begun"}
        self._head = {"key": key}
        write_text(self._path, "".join(_format_line(line) for line in [self._head, *self._known.values()]))
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def assign_stems(self, items: Sequence[Input | MediaError], is_free: IsStemFree) -> list[Input | MediaError]:
        """Give each input a distinct stem: the one that it had before, or one that is free (see ``inputs.assign_stems``)."""
        return assign_stems(items, {line["source"]: stem for stem, line in self._known.items()}, is_free)

    def find_entry(self, item: Input) -> dict[str, Any] | None:
        """Return the line of an input; None without one, or if the input has changed since."""
        line = self._known.get(str(item.stem))
        if line is None or line["source"] != item.name or not line["input"] or line["input"] != item.fingerprint():
            return None
        return line

    def find_finished(self, item: Input) -> dict[str, Any] | None:
        """Return the line of an unchanged input that is done and whose outputs all exist; else None."""
        line = self.find_entry(item)
        if line is None or line["state"] != "done":
            return None
        return line if all(Path(output).exists() for output in line["outputs"]) else None

    def latest_entry(self, item: Input) -> dict[str, Any]:
        """Return the last line of an input, changed or not; without one, ``state`` is ""."""
        return self._known.get(str(item.stem), {"state": ""})

    def mark_begun(self, item: Input) -> None:
        """Write that the analysis of an input begins. If this stays its last line, the analysis was interrupted."""
        self._append({"source": item.name, "stem": str(item.stem), "input": item.fingerprint(), "state": "begun"})

    def add_result(self, item: Input, **values: Any) -> None:
        """Write the ``state``, the ``outputs`` and other values of an input."""
        earlier = self._known.get(str(item.stem), {})
        fingerprint = earlier["input"] if earlier.get("source") == item.name else item.fingerprint()
        self._append({"source": item.name, "stem": str(item.stem), "input": fingerprint, **values})

    def _append(self, line: dict[str, Any]) -> None:
        self._known[line["stem"]] = line
        self._file.write(_format_line(line))
        self._file.flush()

    def mark_ended(self) -> None:
        """Mark the run as ended, and keep only the last line of each input."""
        self.close()
        lines = [self._head, *self._known.values(), {"ended": True}]
        write_text(self._path, "".join(_format_line(line) for line in lines))

    def remove(self, items: Sequence[Input | MediaError]) -> None:
        """Remove the manifest after a run without results, unless it has lines of other inputs."""
        self.close()
        if self._known.keys() <= {str(item.stem) for item in items if isinstance(item, Input)}:
            self._path.unlink(missing_ok=True)
        else:
            self.mark_ended()

    def close(self) -> None:
        self._file.close()


def _format_line(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"  # ASCII, since a path may contain bytes that are not UTF-8


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return all complete lines; the last one may be truncated."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _is_complete(line: dict[str, Any]) -> bool:
    """Whether a line has all required values; other programs may have changed the file."""
    kinds = {"source": str, "stem": str, "state": str, "input": list}
    if not all(isinstance(line.get(name), kind) for name, kind in kinds.items()):
        return False
    if line["state"] != "done":
        return True
    result = line.get("done", {"outputs": [], "warnings": []})
    return (
        isinstance(line.get("outputs"), list) and isinstance(result, dict) and {"outputs", "warnings"} <= result.keys()
    )

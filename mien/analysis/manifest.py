"""What became of each of many inputs: one line each, written as soon as it is known, so that a run can go on later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.analysis.media.inputs import Input, with_distinct_stems
from mien.core.errors import MediaError, OutputError
from mien.core.files import write_text

NAME = "manifest.jsonl"


class Manifest:
    """``manifest.jsonl`` in the output folder.

    Its first line says what the run depends on; then comes a line for every input: ``source``, the ``stem`` of its outputs,
    ``state`` (done or failed), ``why`` it failed, the ``outputs`` and what was counted; the last line says that the run came to its end.
    The lines of a run that came to a sudden end are taken over by the next one with the same settings.

    Args:
        out: the output folder.
        key: what the results depend on beside the inputs, as JSON.
        again: take over the lines of a run that came to its end, too.

    Raises OutputError where another file has that name.
    """

    def __init__(self, out: Path, key: dict[str, Any], again: bool = False) -> None:
        self._path = out / NAME
        key = json.loads(json.dumps(key))
        lines = _lines_of(self._path)
        if self._path.exists() and not (lines and "key" in lines[0]):
            raise OutputError(self._path, "is a file that mien did not write", "choose another folder with --out")
        goes_on = bool(lines) and lines[0].get("key") == key and (again or not lines[-1].get("ended"))
        known = lines[1:] if goes_on else []
        self._known = {line["stem"]: line for line in known if "stem" in line}
        self._head = {"key": key}
        write_text(self._path, "".join(_text(line) for line in [self._head, *self._known.values()]))
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def named(self, items: Sequence[Input | MediaError]) -> list[Input | MediaError]:
        """The same, each with the stem it had before; others take none of those."""
        return with_distinct_stems(items, {line["source"]: stem for stem, line in self._known.items()})

    def finished(self, item: Input) -> dict[str, Any] | None:
        """The line of an input that was done before and is as it was then, with all its outputs; else None."""
        line = self._known.get(str(item.stem))
        if (
            line is None
            or line["source"] != item.name
            or line["state"] != "done"
            or not line["input"]
            or line["input"] != _fingerprint(item)
        ):
            return None
        return line if all(Path(output).exists() for output in line["outputs"]) else None

    def add(self, item: Input, **what: Any) -> None:
        """``state``, ``outputs`` and whatever else is known of an input by now."""
        line = {"source": item.name, "stem": str(item.stem), "input": _fingerprint(item), **what}
        self._known[line["stem"]] = line
        self._file.write(_text(line))
        self._file.flush()

    def end(self) -> None:
        """Every input had its turn: one line for each, the latest."""
        self.close()
        lines = [self._head, *self._known.values(), {"ended": True}]
        write_text(self._path, "".join(_text(line) for line in lines))

    def remove(self) -> None:
        """Nothing was done: nothing is left."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"  # ASCII: a path may hold what UTF-8 cannot


def _lines_of(path: Path) -> list[dict[str, Any]]:
    """All lines that are whole: the last may have been cut off."""
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


def _fingerprint(item: Input) -> list[int]:
    """Size and time of change; of a stream nothing, it is never the same."""
    if isinstance(item.path, str):
        return []
    try:
        status = item.path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]

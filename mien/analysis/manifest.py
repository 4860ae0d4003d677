"""What became of each of many inputs: one line each, written as soon as it is known, so that a run can go on later."""

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

    Its first line says what the run depends on; then comes a line for every input: ``source``, the ``stem`` of its outputs,
    ``state`` (begun, done, failed or crashed), ``why`` it failed, the ``outputs`` and what was counted; the last line says that the run came to its end.
    The lines of a run that came to a sudden end are taken over by the next one with the same settings.

    Args:
        out: the output folder.
        key: what the results depend on beside the inputs, as JSON.
        again: take over the lines of a run that came to its end, too.
        after_crash: what was begun and not finished has crashed; its line is kept.

    Raises OutputError where another file has that name.
    """

    def __init__(self, out: Path, key: dict[str, Any], again: bool = False, after_crash: bool = False) -> None:
        self._path = out / MANIFEST_NAME
        key = json.loads(json.dumps(key))
        lines = _read_lines(self._path)
        if self._path.exists() and not (lines and "key" in lines[0]):
            raise OutputError(self._path, "is a file that mien did not write", "choose another folder with --out")
        goes_on = bool(lines) and lines[0].get("key") == key and (again or not lines[-1].get("ended"))
        known = {line["stem"]: line for line in lines[1:] if _is_complete(line)} if goes_on else {}
        # Where this run has not crashed, what an earlier one had begun and not finished is begun anew.
        self._known = {stem: line for stem, line in known.items() if after_crash or line["state"] != "begun"}
        self._head = {"key": key}
        write_text(self._path, "".join(_format_line(line) for line in [self._head, *self._known.values()]))
        self._file = self._path.open("a", encoding="utf-8", newline="\n")

    def named(self, items: Sequence[Input | MediaError], is_free: IsStemFree) -> list[Input | MediaError]:
        """The same, each with the stem it had before; others take none of those (see with_distinct_stems)."""
        return assign_stems(items, {line["source"]: stem for stem, line in self._known.items()}, is_free)

    def line(self, item: Input) -> dict[str, Any] | None:
        """What became of an input that is as it was then; else None."""
        line = self._known.get(str(item.stem))
        if line is None or line["source"] != item.name or not line["input"] or line["input"] != item.fingerprint():
            return None
        return line

    def finished(self, item: Input) -> dict[str, Any] | None:
        """The line of an input that was done before and is as it was then, with all its outputs; else None."""
        line = self.line(item)
        if line is None or line["state"] != "done":
            return None
        return line if all(Path(output).exists() for output in line["outputs"]) else None

    def latest(self, item: Input) -> dict[str, Any]:
        """The last line of an input, whatever became of that since; of one that never had its turn, ``state`` is ""."""
        return self._known.get(str(item.stem), {"state": ""})

    def begin(self, item: Input) -> None:
        """It has its turn now: where this is its last line, its analysis came to a sudden end."""
        self._add({"source": item.name, "stem": str(item.stem), "input": item.fingerprint(), "state": "begun"})

    def add(self, item: Input, **what: Any) -> None:
        """``state``, ``outputs`` and whatever else is known of an input by now; the input is the one that was begun."""
        begun = self._known.get(str(item.stem), {})
        seen = begun["input"] if begun.get("source") == item.name else item.fingerprint()
        self._add({"source": item.name, "stem": str(item.stem), "input": seen, **what})

    def _add(self, line: dict[str, Any]) -> None:
        self._known[line["stem"]] = line
        self._file.write(_format_line(line))
        self._file.flush()

    def end(self) -> None:
        """Every input had its turn: one line for each, the latest."""
        self.close()
        lines = [self._head, *self._known.values(), {"ended": True}]
        write_text(self._path, "".join(_format_line(line) for line in lines))

    def remove(self, items: Sequence[Input | MediaError]) -> None:
        """Nothing was done of these: nothing is left, unless there are lines of other inputs."""
        self.close()
        if self._known.keys() <= {str(item.stem) for item in items if isinstance(item, Input)}:
            self._path.unlink(missing_ok=True)
        else:
            self.end()

    def close(self) -> None:
        self._file.close()


def _format_line(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"  # ASCII: a path may hold what UTF-8 cannot


def _read_lines(path: Path) -> list[dict[str, Any]]:
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


def _is_complete(line: dict[str, Any]) -> bool:
    """Whether a line says what every line says; a person, or another program, may have changed the file."""
    kinds = {"source": str, "stem": str, "state": str, "input": list}
    if not all(isinstance(line.get(name), kind) for name, kind in kinds.items()):
        return False
    if line["state"] != "done":
        return True
    told = line.get("done", {"outputs": [], "warnings": []})
    return isinstance(line.get("outputs"), list) and isinstance(told, dict) and {"outputs", "warnings"} <= told.keys()

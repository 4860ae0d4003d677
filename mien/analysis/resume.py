"""What an analysis has finished so far, in parts beside its outputs, so that after a sudden end it goes on from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mien.analysis.state_file import DamagedState, file_sha256, read_state, write_state
from mien.core.files import hidden_sibling, make_folder, replace_file, write_json


class PartStore:
    """Numbered parts in a hidden folder; each has its files and then, when these are whole, the state at its end.

    A part without a state does not count: it was being written when the analysis ended, and is written anew. The state
    holds the checksums of all files of all parts; where one differs, the parts are thrown away.

    Args:
        stem: the outputs' path without an ending; the folder lies beside it.
        key: what the parts depend on (the input, the model, the settings). Parts of another key are thrown away.

    Attributes:
        count: how many parts are whole.
        damage: what was wrong with parts that were thrown away because they were damaged; "" where nothing was.
    """

    def __init__(self, stem: Path, key: dict[str, Any]) -> None:
        self.folder, self.damage = hidden_sibling(stem, "parts"), ""
        self._key = json.loads(json.dumps(key))
        self.count = 0
        self._state: Any = None
        self._sums: dict[str, str] = {}
        if self._read_key() != self._key:
            self._begin()
            return
        self.count = max((int(path.stem) + 1 for path in self.folder.glob("[0-9]*.state")), default=0)
        if self.count:
            try:
                self._state, self._sums = self._read(self.path("state", self.count - 1))
            except DamagedState as error:
                self.damage = str(error)
                self._begin()

    def _begin(self) -> None:
        self.count, self._state, self._sums = 0, None, {}
        shutil.rmtree(self.folder, ignore_errors=True)
        make_folder(self.folder)
        write_json(self.folder / "key.json", self._key)

    def _read(self, path: Path) -> tuple[Any, dict[str, str]]:
        content = read_state(path)
        if not (isinstance(content, tuple) and len(content) == 2 and isinstance(content[1], dict)):
            raise DamagedState(f"{path.name}: holds something else")
        for name, known in content[1].items():
            file = self.folder / Path(name).name
            if not file.is_file() or file_sha256(file) != known:
                raise DamagedState(f"{name}: is not as it was written")
        return content

    def _read_key(self) -> object:
        try:
            return json.loads((self.folder / "key.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def path(self, ending: str, number: int | None = None) -> Path:
        """A file of a part; without a number, of the one that is written now."""
        return self.folder / f"{self.count if number is None else number:06d}.{ending}"

    def paths(self, ending: str) -> list[Path]:
        """The files of all whole parts, in order."""
        return [self.path(ending, number) for number in range(self.count)]

    def state(self) -> Any:
        """The state at the end of the last whole part that was found; None before the first."""
        return self._state

    def finish(self, state: object) -> None:
        """The files of the part that is written now are whole, and this is where the analysis stands."""
        written = self.folder.glob(f"{self.count:06d}.*")
        self._sums |= {path.name: file_sha256(path) for path in written if path.suffix not in (".state", ".part")}
        with replace_file(self.path("state")) as temporary:
            write_state(temporary, (state, self._sums))
        self.count += 1
        if self.count > 1:
            self.path("state", self.count - 2).unlink(missing_ok=True)

    def remove(self) -> None:
        """All of it: the outputs are whole, or the analysis failed."""
        shutil.rmtree(self.folder, ignore_errors=True)

"""Store the finished parts of an analysis beside its outputs, so that an interrupted analysis can resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mien.analysis.state_file import DamagedState, file_sha256, read_state, write_state
from mien.core.files import hidden_sibling, make_folder, replace_file, write_json


class PartStore:
    """Numbered parts of an analysis in a hidden folder: the files of each, and the state at the end of the last.

    A part is finished once its state is written; an unfinished part is written again. The state contains the checksums
    of all files of all parts. If one differs, all parts are discarded.

    Args:
        stem: path of the outputs without a suffix; the folder is beside it.
        key: what the parts depend on (input, model, settings), as JSON. Parts with another key are discarded.

    Attributes:
        count: number of finished parts.
        damage: why damaged parts were discarded; "" if none were.
    """

    def __init__(self, stem: Path, key: dict[str, Any]) -> None:
        self.folder, self.damage = hidden_sibling(stem, "parts"), ""
        self._key = json.loads(json.dumps(key))
        self.count = 0
        self._state: Any = None
        self._checksums: dict[str, str] = {}
        if self._read_key() != self._key:
            self._discard_parts()
            return
        self.count = max((int(path.stem) + 1 for path in self.folder.glob("[0-9]*.state")), default=0)
        if self.count:
            try:
                self._state, self._checksums = self._read_state(self.path("state", self.count - 1))
            except DamagedState as error:
                self.damage = str(error)
                self._discard_parts()

    def _discard_parts(self) -> None:
        """Start with an empty folder."""
        self.count, self._state, self._checksums = 0, None, {}
        shutil.rmtree(self.folder, ignore_errors=True)
        make_folder(self.folder)
        write_json(self.folder / "key.json", self._key)

    def _read_state(self, path: Path) -> tuple[Any, dict[str, str]]:
        """Return (state, checksums). Raises DamagedState if the state or a file of a part was changed."""
        content = read_state(path)
        if not (isinstance(content, tuple) and len(content) == 2 and isinstance(content[1], dict)):
            raise DamagedState(f"{path.name}: has an unexpected content")
        for name, known in content[1].items():
            file = self.folder / Path(name).name
            if not file.is_file() or file_sha256(file) != known:
                raise DamagedState(f"{name}: was changed")
        return content

    def _read_key(self) -> object:
        try:
            return json.loads((self.folder / "key.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None

    def path(self, ending: str, number: int | None = None) -> Path:
        """Return the path of a file of part ``number``, by default the part that is being written."""
        return self.folder / f"{self.count if number is None else number:06d}.{ending}"

    def paths(self, ending: str) -> list[Path]:
        """Return the files of all finished parts, in order."""
        return [self.path(ending, number) for number in range(self.count)]

    def stored_state(self) -> Any:
        """Return the state at the end of the last part that was found at the start; None without parts."""
        return self._state

    def finish_part(self, state: object) -> None:
        """Mark the current part as finished, and store the state at its end."""
        written = self.folder.glob(f"{self.count:06d}.*")
        self._checksums |= {path.name: file_sha256(path) for path in written if path.suffix not in (".state", ".part")}
        with replace_file(self.path("state")) as temporary:
            write_state(temporary, (state, self._checksums))
        self.count += 1
        if self.count > 1:
            self.path("state", self.count - 2).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all parts: the outputs are complete, or the analysis failed."""
        shutil.rmtree(self.folder, ignore_errors=True)

"""What an analysis has finished so far, in parts beside its outputs, so that after a sudden end it goes on from there."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from mien.core.files import hidden_beside, make_folder, replacing, write_json

#: What a state may be made of, beside data classes of these rooms. Unpickling calls what a file names, so a file that names
#: anything else is refused.
_ROOMS = ("mien.core.", "mien.run.")
_NAMES = {
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},  # NumPy before 2
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.core.numeric": {"_frombuffer"},
    "collections": {"Counter"},
    "builtins": {"set"},
}


class Parts:
    """Numbered parts in a hidden folder; each has its files and then, when these are whole, the state at its end.

    A part without a state does not count: it was being written when the analysis ended, and is written anew.

    Args:
        stem: the outputs' path without an ending; the folder lies beside it.
        key: what the parts depend on (the input, the model, the settings). Parts of another key are thrown away.
    """

    def __init__(self, stem: Path, key: dict[str, Any]) -> None:
        self.folder = hidden_beside(stem, "parts")
        key = json.loads(json.dumps(key))
        if self._read_key() != key:
            shutil.rmtree(self.folder, ignore_errors=True)
            make_folder(self.folder)
            write_json(self.folder / "key.json", key)
        self.count = max((int(path.stem) + 1 for path in self.folder.glob("[0-9]*.state")), default=0)

    def _read_key(self) -> object:
        try:
            return json.loads((self.folder / "key.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def path(self, ending: str, number: int | None = None) -> Path:
        """A file of a part; without a number, of the one that is written now."""
        return self.folder / f"{self.count if number is None else number:06d}.{ending}"

    def paths(self, ending: str) -> list[Path]:
        """The files of all whole parts, in order."""
        return [self.path(ending, number) for number in range(self.count)]

    def state(self) -> Any:
        """The state at the end of the last whole part; None before the first."""
        if not self.count:
            return None
        return _Unpickler(io.BytesIO(self.path("state", self.count - 1).read_bytes())).load()

    def finish(self, state: object) -> None:
        """The files of the part that is written now are whole, and this is where the analysis stands."""
        with replacing(self.path("state")) as temporary:
            temporary.write_bytes(pickle.dumps(state))
        self.count += 1
        if self.count > 1:
            self.path("state", self.count - 2).unlink(missing_ok=True)

    def remove(self) -> None:
        """All of it: the outputs are whole, or the analysis failed."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _NAMES.get(module, ()):
            return super().find_class(module, name)
        if module.startswith(_ROOMS):
            found = super().find_class(module, name)
            if is_dataclass(found) and isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"a state does not hold {module}.{name}")

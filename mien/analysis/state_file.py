"""Write trees of mien's data classes to files and read them: JSON and NumPy arrays with a checksum, without executable code."""

from __future__ import annotations

import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from collections import Counter
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

#: Packages whose data classes a file may contain.
_ALLOWED_PACKAGES = ("mien.core.", "mien.analysis.")

#: Errors that reading a damaged file raises.
_READ_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, EOFError, RecursionError, zipfile.BadZipFile,
    zlib.error, tokenize.TokenError, SyntaxError,
)  # fmt: skip


class DamagedState(Exception):
    """A state file was changed or truncated since it was written."""


def write_state(path: Path, state: object) -> None:
    """Write a tree of data classes, dicts, lists, tuples, sets, arrays and JSON values. Raises TypeError for other types."""
    arrays: list[np.ndarray] = []
    tree = json.dumps(_encode(state, arrays))
    content = io.BytesIO()
    named: dict[str, Any] = {f"array{number}": array for number, array in enumerate(arrays)}
    np.savez(content, tree=np.frombuffer(tree.encode(), np.uint8), **named)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path.write_bytes(digest.encode() + b"\n" + content.getvalue())


def read_state(path: Path) -> Any:
    """Read what ``write_state`` wrote. Raises DamagedState for a file that was changed since."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("the checksum differs")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _decode(json.loads(arrays["tree"].tobytes()), arrays)
    except _READ_ERRORS as error:
        raise DamagedState(f"{path.name}: {error}") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encode(value: object, arrays: list[np.ndarray]) -> object:
    """Encode a value as JSON; types that JSON lacks become lists that start with the name of the type."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise TypeError("an array of objects cannot be stored")
        arrays.append(np.asarray(value))
        return ["scalar" if isinstance(value, np.generic) else "array", len(arrays) - 1]
    if isinstance(value, dict):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return [kind, *([_encode(key, arrays), _encode(one, arrays)] for key, one in value.items())]
    for container in (list, tuple, set):
        if type(value) is container:
            return [container.__name__, *(_encode(one, arrays) for one in value)]
    if is_dataclass(value) and not isinstance(value, type) and type(value).__module__.startswith(_ALLOWED_PACKAGES):
        attributes = value.__getstate__()
        if not isinstance(attributes, dict):  # a class with slots
            attributes = {field.name: getattr(value, field.name) for field in fields(value)}
        content = {name: _encode(one, arrays) for name, one in attributes.items()}
        return ["class", type(value).__module__, type(value).__qualname__, content]
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _decode(value: Any, arrays: Any) -> Any:
    """Decode what ``_encode`` made."""
    if not isinstance(value, list):
        return value
    kind, *content = value
    if kind in ("array", "scalar"):
        array = arrays[f"array{content[0]}"]
        return array[()] if kind == "scalar" else array
    if kind in ("dict", "counter"):
        pairs = {_decode(key, arrays): _decode(one, arrays) for key, one in content}
        return Counter(pairs) if kind == "counter" else pairs
    if kind == "class":
        module, name, values = content
        instance: Any = object.__new__(_find_class(module, name))
        for key in {field.name for field in fields(instance)} - values.keys():
            raise ValueError(f"{name} has no {key}")
        for key, one in values.items():  # including fields with init=False and private attributes
            object.__setattr__(instance, key, _decode(one, arrays))
        return instance
    kinds = {"list": list, "tuple": tuple, "set": set}
    return kinds[kind](_decode(one, arrays) for one in content)


def _find_class(module: str, name: str) -> type:
    """Return the data class of this name. Raises ValueError for any other object."""
    if not module.startswith(_ALLOWED_PACKAGES):
        raise ValueError(f"{module}.{name} is not a class of mien")
    cls = getattr(import_module(module), name)
    if not (is_dataclass(cls) and isinstance(cls, type) and cls.__module__ == module):
        raise ValueError(f"{module}.{name} is not a data class")
    return cls

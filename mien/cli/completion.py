"""Names that a shell completes. They are read from file names, since completion must answer at once."""

from __future__ import annotations

from importlib.resources import files


def complete_models(incomplete: str) -> list[str]:
    """Return the names of shipped models that begin like this."""
    names = _stems("assets", ".onnx")
    return [name for name in names if name.startswith(incomplete) and not name.endswith(".int8")]


def complete_recipes(incomplete: str) -> list[str]:
    """Return the names of shipped recipes that begin like this."""
    return [name for name in _stems("recipes", ".toml") if name.startswith(incomplete)]


def _stems(folder: str, ending: str) -> list[str]:
    entries = (files("mien") / folder).iterdir()
    return sorted(entry.name.removesuffix(ending) for entry in entries if entry.name.endswith(ending))

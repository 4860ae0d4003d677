"""Convert jobs that an older version wrote into the store."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mien.analysis.output.style import format_color, parse_color
from mien.analysis.settings import OUTPUTS, parse_people


def convert_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return what `AnalysisOptions.from_dict` reads; version 0.1 kept the texts of the request.

    Its keys: ``model``, ``detector``, ``people`` (all, largest or a number), ``smoothing``, ``color`` or ``colour``,
    ``label_colors`` or ``label_colours`` as pairs, ``line_width``, ``text_size``, ``bars``, ``display_width``, ``media``.
    """
    if "style" in values:
        return values
    own = values.get("label_colors", values.get("label_colours", []))
    style: dict[str, Any] = {
        name: values[name] for name in ("line_width", "text_size", "bars", "display_width") if name in values
    }
    style["color"] = format_color(parse_color(values.get("color", values.get("colour", "lime"))))
    style["label_colors"] = {label: format_color(tuple(color)) for label, color in own}
    return {
        "model": values["model"], "detector": values.get("detector", "auto"),
        "people": parse_people(str(values.get("people", "all"))), "smoothing_s": values.get("smoothing", 0.25),
        "formats": ["jsonl", "csv", "parquet"] if find_spec("pyarrow") else ["jsonl", "csv"],
        "outputs": list(OUTPUTS) if values.get("media", True) else ["captions"], "style": style,
    }  # fmt: skip


def convert_error(values: dict[str, Any]) -> dict[str, Any]:
    """Return an error as `MienError.to_dict` writes it; version 0.1 named its parts ``found`` and ``cure``."""
    names = {"found": "problem", "cure": "hint"}
    return {names.get(name, name): value for name, value in values.items()}

"""Self-contained HTML pages that open offline: sections, tables, pictures and tiles of faces."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.errors import MissingExtra


@dataclass(frozen=True)
class Section:
    """A heading and HTML below it; ``note`` is a line of plain text between them."""

    title: str
    body: str
    note: str = ""

    @property
    def anchor(self) -> str:
        """Return the ID of the section, for links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def render_page(
    title: str, lead: str, sections: Sequence[Section], *, footer: str = "", scripts: Sequence[str] = ()
) -> str:
    """Return the whole document with a list of its sections. ``lead`` and ``footer`` are plain text, ``scripts`` JavaScript."""
    from markupsafe import Markup

    safe = [{"title": s.title, "anchor": s.anchor, "note": s.note, "body": Markup(s.body)} for s in sections]
    return _load_template("page.html").render(
        title=title, lead=lead, sections=safe, footer=footer, scripts=[Markup(script) for script in scripts]
    )


def render_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """Return a table. Texts are escaped, and numbers are aligned right. A cell of Markup, as of `render_link`, is HTML."""
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))] if rows else []
    return _load_template("table.html").render(columns=columns, rows=rows, numeric=numeric, caption=caption)


def render_link(text: Any, target: str) -> Any:
    """Return a link as Markup, for a cell of a table."""
    from markupsafe import Markup, escape

    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def render_cell(value: str, below: str) -> Any:
    """Return a value with a small line below it as Markup, for a cell of a table."""
    from markupsafe import Markup, escape

    return Markup(f"{escape(value)}<small>{escape(below)}</small>") if below else value


def render_picture(png: bytes, alt: str, *, width: int | None = None, dark: bytes | None = None) -> str:
    """Return a PNG inside the page. ``alt`` describes it in words; ``dark`` is its version for dark pages."""
    night = None if dark is None else encode_data_uri(dark)
    return _load_template("picture.html").render(source=encode_data_uri(png), alt=alt, width=width, dark=night)


def render_columns(parts: Sequence[str]) -> str:
    """Return pieces of HTML side by side, or one below the other on a narrow screen."""
    from markupsafe import Markup

    return _load_template("columns.html").render(parts=[Markup(part) for part in parts])


def render_cards(facts: Sequence[tuple[str, str, str]]) -> str:
    """Return emphasized numbers. Each fact is (name, value, small line below it) in plain text."""
    return _load_template("cards.html").render(facts=facts)


def render_tiles(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    over: np.ndarray | None = None,
    side: int = 96,
    anchor: str = "",
    alts: Sequence[str] = (),
    bars: Sequence[Sequence[tuple[str, float]]] = (),
) -> str:
    """Return faces side by side, each with a caption.

    Args:
        images: uint8 (N, H, W[, 3]).
        captions: plain text; may have several lines.
        over: a second picture of each face, such as its saliency, uint8 (N, H', W'[, 3]).
        side: height of the pictures on the page in pixels.
        anchor: ID of the group, for links.
        alts: descriptions in words, if the captions do not describe the pictures.
        bars: for each face, names with shares in 0..1, drawn as bars below the caption.
    """
    faces = [
        {"sources": [encode_data_uri(encode_png(each)) for each in (image, *(() if over is None else (over[index],)))],
         "caption": captions[index], "alt": alts[index] if alts else "", "bars": bars[index] if bars else ()}
        for index, image in enumerate(images)
    ]  # fmt: skip
    return _load_template("tiles.html").render(faces=faces, side=side, anchor=anchor)


def render_confusion(
    classes: Sequence[str],
    matrix: np.ndarray,
    rates: np.ndarray,
    galleries: dict[tuple[int, int], str],
    *,
    caption: str = "",
) -> str:
    """Return a confusion matrix int (K, K) with rates float (K, K). A click on a cell opens its gallery, (row, column) → HTML."""
    from markupsafe import Markup

    rows, opened = [], []
    for i, truth in enumerate(classes):
        cells = []
        for j, answer in enumerate(classes):
            label = f"{truth} predicted as {answer}: {matrix[i, j]:,} face{'' if matrix[i, j] == 1 else 's'}"
            cell = {"count": int(matrix[i, j]), "rate": float(rates[i, j]), "anchor": f"cell-{i}-{j}", "label": label}
            cells.append(cell | {"opens": (i, j) in galleries})
            if (i, j) in galleries:
                opened.append(cell | {"body": Markup(galleries[i, j])})
        rows.append({"name": truth, "cells": cells, "support": int(matrix[i].sum())})
    return _load_template("confusion.html").render(classes=classes, rows=rows, galleries=opened, caption=caption)


def escape_text(plain: Any) -> str:
    """Escape plain text for HTML."""
    from markupsafe import escape

    return str(escape(plain))


def encode_png(image: np.ndarray) -> bytes:
    """Encode a picture uint8 (H, W) or (H, W, 3) as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_data_uri(png: bytes) -> str:
    """Encode a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _is_number(cell: Any) -> bool:
    if isinstance(cell, int | float | np.number):
        return True
    bare = re.sub("<small>.*</small>", "", str(cell))
    return isinstance(cell, str) and re.fullmatch(r"[-+−]?[\d.,]+( ?%| points)?( \(.*\))?|—|", bare) is not None


def require_jinja() -> None:
    """Raise MissingExtra if Jinja is not installed. Call it before the work that the page shows."""
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        raise MissingExtra("jinja2", "report", "to write pages")


def require_plotly() -> None:
    """Raise MissingExtra if Jinja or plotly is not installed; interactive pages need both."""
    require_jinja()
    read_plotly_script()


def read_plotly_script() -> str:
    """Read plotly.min.js from the installed package, for interactive pages that work offline."""
    try:
        import plotly
    except ImportError as error:
        raise MissingExtra("plotly", "report", "to write interactive pages") from error
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _load_template(name: str) -> Any:
    """Load a template of mien/evaluation/reports/templates. Values in it are escaped."""
    require_jinja()
    return _template_environment().get_template(name)


@cache
def _template_environment() -> Any:
    """Return the environment that keeps compiled templates: a page renders the same few of them a hundred times."""
    import jinja2

    folder = str(resources.files("mien.evaluation.reports") / "templates")
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

"""One HTML file that opens offline and can be mailed: sections, tables, pictures and tiles of faces, all inside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.errors import MissingExtra


@dataclass(frozen=True)
class Section:
    """A heading with HTML below it; ``note`` is a line of plain text between the two."""

    title: str
    body: str
    note: str = ""

    @property
    def anchor(self) -> str:
        """What links to the section name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def render_page(
    title: str, lead: str, sections: Sequence[Section], *, footer: str = "", scripts: Sequence[str] = ()
) -> str:
    """The whole document, with a list of its sections. ``lead`` and ``footer`` are plain text, ``scripts`` JavaScript."""
    from markupsafe import Markup

    safe = [{"title": s.title, "anchor": s.anchor, "note": s.note, "body": Markup(s.body)} for s in sections]
    return _load_template("page.html").render(
        title=title, lead=lead, sections=safe, footer=footer, scripts=[Markup(script) for script in scripts]
    )


def render_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """A table; texts are escaped, numbers stand right. A cell that is Markup (as `link` gives) is taken as HTML."""
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))] if rows else []
    return _load_template("table.html").render(columns=columns, rows=rows, numeric=numeric, caption=caption)


def render_link(text: Any, target: str) -> Any:
    """Markup of a link, for a cell of a table."""
    from markupsafe import Markup, escape

    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def render_cell(value: str, below: str) -> Any:
    """Markup of a cell of a table: a value with a small line below it."""
    from markupsafe import Markup, escape

    return Markup(f"{escape(value)}<small>{escape(below)}</small>") if below else value


def render_picture(png: bytes, alt: str, *, width: int | None = None, dark: bytes | None = None) -> str:
    """A PNG inside the page; ``alt`` says what it shows to those who do not see it. ``dark``: the same for dark pages."""
    night = None if dark is None else encode_data_uri(dark)
    return _load_template("picture.html").render(source=encode_data_uri(png), alt=alt, width=width, dark=night)


def render_columns(parts: Sequence[str]) -> str:
    """Pieces of HTML side by side where there is room, one below the other where there is none."""
    from markupsafe import Markup

    return _load_template("beside.html").render(parts=[Markup(part) for part in parts])


def render_cards(facts: Sequence[tuple[str, str, str]]) -> str:
    """Numbers that stand out: (what it is, the value, a small line below it) of each; plain text."""
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
    """Faces side by side with a caption below each, uint8 (N, H, W[, 3]).

    ``over``: a second picture of each face, uint8 (N, H', W'[, 3]), shown beside the first (its saliency, say). Captions
    may have several lines. ``anchor`` makes the group a target of links. ``alts`` says in words what each face shows,
    where the caption does not. ``bars``: for each face names with shares 0..1, drawn as bars below the caption.
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
    behind: dict[tuple[int, int], str],
    *,
    caption: str = "",
) -> str:
    """A confusion matrix (K, K) in counts and rates of the label; a cell opens what is ``behind`` it: (row, column) → HTML."""
    from markupsafe import Markup

    rows, opened = [], []
    for i, truth in enumerate(classes):
        cells = []
        for j, answer in enumerate(classes):
            label = f"{truth} read as {answer}: {matrix[i, j]:,} face{'' if matrix[i, j] == 1 else 's'}"
            cell = {"count": int(matrix[i, j]), "rate": float(rates[i, j]), "anchor": f"cell-{i}-{j}", "label": label}
            cells.append(cell | {"opens": (i, j) in behind})
            if (i, j) in behind:
                opened.append(cell | {"body": Markup(behind[i, j])})
        rows.append({"name": truth, "cells": cells, "support": int(matrix[i].sum())})
    return _load_template("confusion.html").render(classes=classes, rows=rows, galleries=opened, caption=caption)


def escape_text(plain: Any) -> str:
    """Plain text as HTML."""
    from markupsafe import escape

    return str(escape(plain))


def encode_png(image: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) → PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def encode_data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _is_number(cell: Any) -> bool:
    if isinstance(cell, int | float | np.number):
        return True
    bare = re.sub("<small>.*</small>", "", str(cell))
    return isinstance(cell, str) and re.fullmatch(r"[-+−]?[\d.,]+( ?%| points)?( \(.*\))?|—|", bare) is not None


def require_jinja() -> None:
    """MissingExtra with the install line where Jinja is not there: asked before the work that a page is to show."""
    from importlib.util import find_spec

    if find_spec("jinja2") is None:
        raise MissingExtra("jinja2", "report", "to write pages")


def require_plotly() -> None:
    """The same for pages that answer to the pointer, which need Jinja and plotly."""
    require_jinja()
    read_plotly_script()


def read_plotly_script() -> str:
    """plotly.min.js as its wheel ships it, for pages that answer to the pointer without a network."""
    try:
        import plotly
    except ImportError as error:
        raise MissingExtra("plotly", "report", "to write pages that answer to the pointer") from error
    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _load_template(name: str) -> Any:
    """A template of mien/evaluation/reports/templates; what is put in is escaped."""
    require_jinja()
    import jinja2

    folder = str(resources.files("mien.evaluation.reports") / "templates")
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)

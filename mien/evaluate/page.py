"""One HTML file that opens offline and can be mailed: sections, tables, pictures and tiles of faces, all inside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
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


def page(title: str, lead: str, sections: Sequence[Section], *, footer: str = "", scripts: Sequence[str] = ()) -> str:
    """The whole document, with a list of its sections. ``lead`` and ``footer`` are plain text, ``scripts`` JavaScript."""
    from markupsafe import Markup

    safe = [{"title": s.title, "anchor": s.anchor, "note": s.note, "body": Markup(s.body)} for s in sections]
    return _template("page.html").render(
        title=title, lead=lead, sections=safe, footer=footer, scripts=[Markup(script) for script in scripts]
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """A table; texts are escaped, numbers stand right. A cell that is Markup (as `link` gives) is taken as HTML."""
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(columns))] if rows else []
    return _template("table.html").render(columns=columns, rows=rows, numeric=numeric, caption=caption)


def link(text: Any, target: str) -> Any:
    """Markup of a link, for a cell of a table."""
    from markupsafe import Markup, escape

    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def picture(png: bytes, alt: str, *, width: int | None = None) -> str:
    """A PNG inside the page; ``alt`` says what it shows to those who do not see it."""
    return _template("picture.html").render(source=data_uri(png), alt=alt, width=width)


def tiles(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    over: np.ndarray | None = None,
    side: int = 96,
    anchor: str = "",
) -> str:
    """Faces side by side with a caption below each, uint8 (N, H, W[, 3]).

    ``over``: a second picture of each face, uint8 (N, H', W'[, 3]), shown beside the first (its saliency, say). Captions
    may have several lines. ``anchor`` makes the group a target of links.
    """
    faces = [
        {"sources": [data_uri(png_of(each)) for each in (image, *(() if over is None else (over[index],)))],
         "caption": captions[index]}
        for index, image in enumerate(images)
    ]  # fmt: skip
    return _template("tiles.html").render(faces=faces, side=side, anchor=anchor)


def png_of(image: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) → PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | np.number) or (
        isinstance(cell, str) and re.fullmatch(r"[-+−]?[\d.,]+( ?%| points)?( \(.*\))?|—|", str(cell)) is not None
    )


def _template(name: str):
    """A template of mien/evaluate/templates; what is put in is escaped."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("jinja2", "report", "to write pages") from error
    folder = str(resources.files("mien.evaluate") / "templates")
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)

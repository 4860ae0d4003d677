from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from mien.evaluation.reports.page import (
    Section,
    encode_png,
    render_link,
    render_page,
    render_picture,
    render_table,
    render_tiles,
)


def images_in(html: str) -> list[np.ndarray]:
    """Every picture of a page, decoded."""
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_a_page_has_its_sections_and_needs_nothing_from_elsewhere() -> None:
    html = render_page(
        "A & B", "what <it> is", [Section("First part", "<p>one</p>", "a note"), Section("2nd: more", "two")]
    )
    assert "<h1>A &amp; B</h1>" in html
    assert "what &lt;it&gt; is" in html
    assert '<a href="#first-part">First part</a>' in html
    assert '<h2 id="2nd-more">2nd: more</h2>' in html
    assert "<p>one</p>" in html
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)


def test_tables_escape_texts_and_set_numbers_right() -> None:
    html = render_table(["class", "share"], [["<sad>", 0.5], ["happy", "12.5 %"]], caption="c")
    assert "<td>&lt;sad&gt;</td>" in html
    assert html.count('<td class="number">') == 2
    assert '<th scope="col" class="number">share</th>' in html
    assert '<a href="#x&amp;y">7</a>' in render_table(["n"], [[render_link(7, "#x&y")]])
    assert "<tbody>" in render_table(["n"], [])


def test_tiles_hold_the_very_pixels() -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (3, 48, 48), dtype=np.uint8)
    heat = rng.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    html = render_tiles(faces, ["a\nb", "<c>", "d"], over=heat, anchor="here")
    shown = images_in(html)
    assert len(shown) == 6
    for index in range(3):
        np.testing.assert_array_equal(shown[2 * index], faces[index])
        np.testing.assert_array_equal(shown[2 * index + 1], heat[index])
    assert "&lt;c&gt;" in html
    assert 'id="here"' in html


def test_pictures_say_what_they_show() -> None:
    html = render_picture(encode_png(np.zeros((4, 6), np.uint8)), 'curves "of" a run', width=300)
    assert 'alt="curves &#34;of&#34; a run" width="300"' in html
    assert images_in(html)[0].shape == (4, 6)

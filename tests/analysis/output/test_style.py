from __future__ import annotations

import pytest

from mien.analysis.output.style import format_color, parse_color, parse_label_colors
from mien.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "color"),
    [("lime", (0, 255, 0)), ("#00fF80", (0, 255, 128)), ("0,255,0", (0, 255, 0)), ("007,2,3", (7, 2, 3)),
     ("rebeccapurple", (102, 51, 153))],
)  # fmt: skip
def test_a_color_is_a_name_hexadecimal_or_three_numbers(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text) == color
    assert parse_color(format_color(color)) == color


@pytest.mark.parametrize(
    "text", ["", "greenish", "#0f0", "#00ff0000", "1,2", "1,2,300", "1,2,³", "hsl(0,0%,0%)", "lime\n"]
)
def test_other_texts_are_no_colors(text: str) -> None:
    with pytest.raises(UsageError, match="is no color"):
        parse_color(text)


def test_labels_have_colors_of_their_own() -> None:
    assert parse_label_colors(["happy:#e6b800", "a:b:red"]) == (("happy", (230, 184, 0)), ("a:b", (255, 0, 0)))
    for text in ("happy", ":red", ""):
        with pytest.raises(UsageError, match="`label_color`: is no label with its color"):
            parse_label_colors([text])

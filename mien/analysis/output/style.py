"""How faces are drawn: colors, sizes, and whether bars are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from PIL import ImageColor

from mien.core.errors import UsageError

#: How faces are hidden: not at all, so blurred that nobody is recognized, or by a black box.
BLUR_CHOICES = ("off", "blur", "box")

#: Red, green and blue, 0..255.
Color = tuple[int, int, int]

_NUMBER = "([01]?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])"

#: A regular expression, as JSON Schema has them, of all that `parse_color` takes.
COLOR_PATTERN = f"^(#[0-9a-fA-F]{{6}}|{_NUMBER},{_NUMBER},{_NUMBER}|{'|'.join(sorted(ImageColor.colormap))})$"


def parse_color(text: str, parameter: str = "color") -> Color:
    """Return the color that a text names: ``#00ff00``, ``0,255,0``, or a name of CSS as in ``lime``.

    parameter: what the error names. Raises UsageError for anything else.
    """
    if not re.fullmatch(COLOR_PATTERN, text):
        hint = f"as in `{parameter}=lime`, `{parameter}=#00ff00` or `{parameter}=0,255,0`"
        raise UsageError(f"`{parameter}={text[:40]}`", "is no color", hint, code="invalid_parameter")
    if "," in text:
        red, green, blue = (int(part) for part in text.split(","))
    else:
        red, green, blue = ImageColor.getrgb(text)[:3]
    return red, green, blue


def parse_label_colors(texts: Iterable[str], parameter: str = "label_color") -> tuple[tuple[str, Color], ...]:
    """Return (label, color) of each text: ``"happy:#e6b800"`` → ("happy", (230, 184, 0)).

    parameter: what the error names. Raises UsageError for anything else.
    """
    pairs = [text.rpartition(":") for text in texts]
    if any(not label for label, _, _ in pairs):
        hint = f"as in `{parameter}=happy:#e6b800`"
        raise UsageError(f"`{parameter}`", "is no label with its color", hint, code="invalid_parameter")
    return tuple((label, parse_color(color, parameter)) for label, _, color in pairs)


def format_color(color: Color) -> str:
    """``(0, 255, 0)`` → ``#00ff00``."""
    return f"#{bytes(color).hex()}"


@dataclass(frozen=True)
class Style:
    """How faces are drawn.

    color          of boxes, labels and the bar of the label that is shown
    line_width     of boxes, in pixels; 0 chooses it by the picture's size
    text_size      of labels, in pixels; 0 chooses it by the picture's size
    bars           whether small bars of all probabilities stand beside each face
    display_width  width in pixels to which `annotate` scales the picture and keeps its shape; 0 does not scale. No side
                   becomes longer than 16,383 pixels, the limit of file formats
    label_colors   (label, color) for labels that have a color of their own
    blur           "off", or how each face is hidden: "blur", or "box", filled with black

    Raises UsageError for a value that is out of its range.
    """

    color: Color = (0, 255, 0)
    line_width: int = 0
    text_size: int = 0
    bars: bool = False
    display_width: int = 0
    label_colors: tuple[tuple[str, Color], ...] = ()
    blur: str = "off"

    def __post_init__(self) -> None:
        for color in (self.color, *(own for _, own in self.label_colors)):
            if len(color) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in color):
                raise UsageError(f"`color={color}`", "is no color", "give (red, green, blue), each from 0 to 255")
        if self.blur not in BLUR_CHOICES:
            hint = f"choose from {', '.join(BLUR_CHOICES)}"
            raise UsageError(f"`blur={self.blur!s:.20}`", "is unknown", hint, code="invalid_parameter")
        for name in ("line_width", "text_size", "display_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise UsageError(f"`{name}={value!r}`", "is no number of pixels", f"as in `{name}=0`")

    def to_dict(self) -> dict[str, Any]:
        """Return the style as JSON holds it; colors as ``#rrggbb``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        own = {label: format_color(color) for label, color in self.label_colors}
        return values | {"color": format_color(self.color), "label_colors": own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Style:
        """Return the style that `to_dict` made these values of; what is missing has its default.

        Raises UsageError for a value that cannot be used.
        """
        parsed = dict(values)
        if "color" in parsed:
            parsed["color"] = parse_color(parsed["color"])
        if "label_colors" in parsed:
            parsed["label_colors"] = tuple((label, parse_color(text)) for label, text in parsed["label_colors"].items())
        return cls(**known_values(cls, parsed))


DEFAULT_STYLE = Style()


def known_values(cls: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values as they are. Raises UsageError where the data class has no field of a value's name."""
    names = [field.name for field in fields(cls)]
    if unknown := sorted(values.keys() - set(names)):
        raise UsageError(f"`{unknown[0]}`", "is unknown", f"choose from {', '.join(names)}")
    return values

"""The faces of one picture: a sequence with tables, a plot, and a display in notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mien.analysis.output.palette import colors_for_labels
from mien.analysis.output.writers import make_records, record_columns
from mien.core.errors import MienError, UsageError
from mien.core.pictures import convert_pillow, convert_to_rgb, read_picture
from mien.core.types import Face, FrameResult

if TYPE_CHECKING:
    from pandas import DataFrame

    from mien.analysis.output.style import Style

#: Faces that the text of a `Faces` has at most, and those with bars in a plot or a notebook.
FACES_SHOWN, BARS_SHOWN = 4, 6

#: Width in pixels of the annotated picture in a notebook.
NOTEBOOK_WIDTH = 440


@dataclass(frozen=True)
class PictureReader:
    """Read a picture that was analyzed once more. A path is read from the file; an array or image is held, but not pickled."""

    picture: str | Path | Image.Image | np.ndarray | None
    max_pixels: int
    allow_truncated: bool = False

    def __call__(self) -> np.ndarray:
        """Return RGB uint8 (H, W, 3). Raises MediaError for a file that is gone, UsageError for what was pickled."""
        if self.picture is None:
            raise UsageError(
                "`picture`", "is not pickled with its faces", "crop or plot the faces before, or give a path"
            )
        if isinstance(self.picture, (str, Path)):
            return read_picture(self.picture, max_pixels=self.max_pixels, allow_truncated=self.allow_truncated)
        return convert_pillow(self.picture) if isinstance(self.picture, Image.Image) else convert_to_rgb(self.picture)

    @property
    def name(self) -> str:
        """The path; "" for an array or image."""
        return str(self.picture) if isinstance(self.picture, (str, Path)) else ""

    def __getstate__(self) -> dict[str, object]:
        is_path = isinstance(self.picture, (str, Path))
        return {**self.__dict__, "picture": self.picture if is_path else None}


class Faces(tuple[Face, ...]):
    """The faces of one picture: an immutable sequence of `Face`, equal to any list or tuple of the same faces.

    Notebooks show the annotated picture with bars. `plot`, the display and `Face.crop` read a picture again that was given as
    a path; an array or a Pillow image is held.

    source            the path; "" for an array or image
    labels            the expressions, in the order of the probabilities
    model, detector   what classified and found the faces
    read_picture      returns the picture, RGB uint8 (H, W, 3); None where it is unknown
    """

    source: str
    labels: tuple[str, ...]
    model: str
    detector: str
    read_picture: Callable[[], np.ndarray] | None

    def __new__(
        cls,
        faces: Iterable[Face] = (),
        *,
        source: str = "",
        labels: tuple[str, ...] = (),
        model: str = "",
        detector: str = "",
        read_picture: Callable[[], np.ndarray] | None = None,
    ) -> Faces:
        chosen = [one if read_picture is None else replace(one, read_picture=read_picture) for one in faces]
        made = super().__new__(cls, chosen)
        made.source, made.model, made.detector, made.read_picture = source, model, detector, read_picture
        made.labels = labels or (chosen[0].labels if chosen else ())
        return made

    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, (list, tuple)) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __repr__(self) -> str:
        more = f", and {len(self) - FACES_SHOWN} more" if len(self) > FACES_SHOWN else ""
        return f"<Faces ({len(self)}): {'; '.join(map(str, self[:FACES_SHOWN]))}{more}>" if self else "<Faces (0)>"

    def to_records(self) -> list[dict[str, Any]]:
        """Return one record for each face, with the columns of the records that `mien analyze` writes of a picture."""
        return make_records(FrameResult(self.source, 0, 0.0, (0, 0), tuple(self)), self.model, self.detector)

    def to_pandas(self) -> DataFrame:
        """Return the records as a data frame, one row for each face; without faces it has no row, and all columns.

        Raises MissingExtra where pandas is not installed.
        """
        from mien.analysis.api.data_frames import make_data_frame

        return make_data_frame(self.to_records(), record_columns(self.labels))

    def annotate(self, style: Style | None = None) -> np.ndarray:
        """Return the picture with the faces drawn on it, RGB uint8 (H, W, 3). Raises UsageError where it is unknown."""
        from mien.analysis.output.annotate import annotate
        from mien.analysis.output.style import DEFAULT_STYLE

        return annotate(self._read_known_picture(), self, style or DEFAULT_STYLE)

    def plot(self, style: Style | None = None) -> Any:
        """Return a matplotlib figure: the annotated picture and, beside it, bars of the probabilities of the first faces.

        Write it with ``figure.savefig("faces.png")``. Raises UsageError where the picture is unknown.
        """
        from mien.analysis.api.face_plots import plot_faces

        return plot_faces(self, self.annotate(style))

    def _read_known_picture(self) -> np.ndarray:
        if self.read_picture is None:
            raise UsageError("`faces`", "have no picture", "plot what `Recognizer.analyze` returns")
        return self.read_picture()

    def _repr_html_(self) -> str:
        """Return the annotated picture and bars for a notebook, all in one piece of HTML without scripts."""
        from mien.analysis.output.style import Style

        try:
            picture = Image.fromarray(self.annotate(Style(display_width=NOTEBOOK_WIDTH)))
        except MienError:  # an unknown picture, or a file that is gone: the bars are known all the same
            shown = ""
        else:
            content = io.BytesIO()
            picture.save(content, format="JPEG", quality=88)
            data = base64.b64encode(content.getvalue()).decode()
            shown = f'<img src="data:image/jpeg;base64,{data}" alt="the annotated picture" style="max-width:100%">'
        rest = len(self) - BARS_SHOWN
        more = f"<p>and {rest} more</p>" if rest > 0 else "" if self else "<p>no face found</p>"
        bars = "".join(_face_to_html(face) for face in self[:BARS_SHOWN])
        return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:center">{shown}<div>{bars}{more}</div></div>'


def _face_to_html(face: Face) -> str:
    """Return a face's label and bars of its probabilities."""
    mark = "?" if face.is_unsure else ""
    rows = "".join(
        f'<tr><td style="text-align:right;padding:0 .6em">{html.escape(name)}</td>'
        f'<td style="width:9em;padding:0"><div style="height:.8em;background:{color};'
        f'width:{100 * value:.1f}%"></div></td><td style="text-align:right;padding:0 .6em">{value:.1%}</td></tr>'
        for name, value, color in zip(
            face.labels, face.probabilities.tolist(), colors_for_labels(face.labels), strict=True
        )
    )
    title = f"{html.escape(face.label)}{mark} {face.confidence:.0%}"
    return f'<table style="border-collapse:collapse;margin-bottom:.8em"><caption>{title}</caption>{rows}</table>'

"""Write the outputs of `mien filters`: PNGs, filters.json and filters.html."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.core.files import replace_file, write_json, write_text
from mien.evaluation.reports.page import Section, render_page, render_picture, render_table, render_tiles
from mien.explanation.figures import arrange_tiles, enlarge_face

#: Of a kernel with more input channels only the first ones are drawn.
MAX_CHANNELS = 16
#: About how wide pictures made of tiles are, in pixels.
_WIDTH = 900


@dataclass
class FilterStudy:
    """The results for the first filters of one layer.

    weights      float32 (all filters, inputs, kh, kw)
    given        uint8 (S, S[, 3]): the picture, or the noise, whose outputs are shown
    source       what it is, in words
    blocks       block → float32 (filters, H, W), all filters
    output       float32 (all filters, H, W): the layer's own output
    made         rule → float32 (F, S, S): pictures made by ascent, minus mean over standard deviation
    activations  rule → float32 (F, 2): of the noise, and of what was made of it
    faces        uint8 (F, top, S, S[, 3]): training faces that excite most; None without data
    exciting     float32 (F, top): their activations
    names        F lists of their names
    """

    model: str
    layer: str
    filters: list[int]
    weights: np.ndarray
    input_picture: np.ndarray
    source: str
    blocks: dict[str, np.ndarray]
    output: np.ndarray
    ascents: dict[str, np.ndarray]
    activations: dict[str, np.ndarray]
    faces: np.ndarray | None = None
    face_activations: np.ndarray | None = None
    names: list[list[str]] = field(default_factory=list)


def write_filter_study(out: Path, study: FilterStudy) -> list[Path]:
    """Write all outputs into an existing folder; return their paths, the page first."""
    pictures = {"weights.png": draw_weights(study.weights[study.filters])}
    pictures["output.png"] = draw_feature_maps(study.output[study.filters])
    pictures |= {
        f"block-{number}-{name}.png": draw_feature_maps(maps[: len(study.filters)])
        for number, (name, maps) in enumerate(study.blocks.items(), 1)
    }
    pictures |= {
        f"ascent-{rule}.png": draw_ascents(pictures_of_rule) for rule, pictures_of_rule in study.ascents.items()
    }
    if study.faces is not None:
        pictures["faces.png"] = _draw_exciting_faces(study)
    paths = []
    for name, image in pictures.items():
        paths.append(out / name)
        with replace_file(paths[-1]) as temporary:
            _save_picture(image, temporary)
    write_json(out / "filters.json", _make_json(study))
    write_text(out / "filters.html", _make_page(out, study))
    return [out / "filters.html", *paths, out / "filters.json"]


def draw_weights(weights: np.ndarray) -> np.ndarray:
    """Draw kernels (F, inputs, kh, kw) as RGB: red is positive, blue negative, one scale for all.

    Of filters that read few channels each is a strip of its channels; else a row is a filter, a column an input
    channel.
    """
    weights = weights[:, :MAX_CHANNELS]
    count, inputs = weights.shape[:2]
    zoom = max(4, 36 // max(weights.shape[2:])) if inputs <= 4 else max(4, 24 // max(weights.shape[2:]))
    scaled = weights / max(float(np.abs(weights).max()), 1e-12)
    kernels = [np.stack([enlarge_face(_color_signed_values(one), zoom) for one in of_filter]) for of_filter in scaled]
    strips = np.stack([arrange_tiles(each, inputs, gap=2) for each in kernels])
    if inputs > 4:
        return arrange_tiles(strips, 1, gap=6)
    return arrange_tiles(strips, max(1, min(count, _WIDTH // (strips.shape[2] + 10), 8)), gap=10)


def draw_feature_maps(maps: np.ndarray, side: int = 96) -> np.ndarray:
    """Draw outputs (F, H, W) in gray, each scaled to its own range, all at one size."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    gray = np.round(255 * (maps - low) / np.where(high > low, high - low, 1)).astype(np.uint8)
    tiles_ = np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_NEAREST) for each in gray])
    return arrange_tiles(tiles_, 8, gap=4)


def draw_ascents(ascents: np.ndarray, zoom: int = 2) -> np.ndarray:
    """Draw standardized pictures (F, S, S) in gray; 2.5 standard deviations are black and white."""
    return arrange_tiles(_convert_to_gray(ascents).repeat(zoom, axis=1).repeat(zoom, axis=2), 8, gap=4)


def _convert_to_gray(values: np.ndarray) -> np.ndarray:
    return np.round(127.5 + np.clip(values / 2.5, -1, 1) * 127.5).astype(np.uint8)


def _color_signed_values(values: np.ndarray) -> np.ndarray:
    import matplotlib

    return np.round(255 * matplotlib.colormaps["coolwarm"]((values + 1) / 2)[..., :3]).astype(np.uint8)


def _save_picture(image: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)


def _draw_exciting_faces(study: FilterStudy) -> np.ndarray:
    """Draw one row per filter: the ascents of each rule, then the faces with the largest activation."""
    assert study.faces is not None
    ascents = [_convert_to_gray(each) for each in study.ascents.values()]  # rules × (F, S, S)
    rows = []
    for index in range(len(study.filters)):
        faces = study.faces[index]
        pictures = [*(each[index] for each in ascents), *faces]
        rows.append(arrange_tiles(np.stack([enlarge_face(one, 2) for one in pictures]), len(pictures), gap=4))
    return arrange_tiles(np.stack(rows), 2, gap=14)


def _make_json(study: FilterStudy) -> dict[str, Any]:
    rows = []
    for index, number in enumerate(study.filters):
        row: dict[str, Any] = {"filter": number}
        for rule, values in study.activations.items():
            row["noise"] = round(float(values[index, 0]), 4)
            row[rule] = round(float(values[index, 1]), 4)
        if study.face_activations is not None:
            row["faces"] = [
                {"name": name, "activation": round(float(value), 4)}
                for name, value in zip(study.names[index], study.face_activations[index], strict=True)
            ]
        rows.append(row)
    return {"model": study.model, "layer": study.layer, "outputs of": study.source, "filters": rows}


def _make_page(out: Path, study: FilterStudy) -> str:
    def drawn(name: str, alt: str) -> str:
        return render_picture((out / name).read_bytes(), alt)

    count, everything = len(study.filters), len(study.weights)
    of = f"all {everything}" if count == everything else f"the first {count} of {everything}"
    inputs = study.weights.shape[1]
    reads = f"{inputs} channel{'' if inputs == 1 else 's'}"
    shown = f", of which the first {MAX_CHANNELS} are drawn" if inputs > MAX_CHANNELS else ""
    sections = [
        Section(
            "Weights",
            drawn("weights.png", "kernels of the filters"),
            f"Each filter reads {reads}{shown}. Red is positive, blue negative; one scale for all."
            + (" A row is a filter, a column a channel." if inputs > 4 else ""),
        ),
        Section(
            "Outputs",
            render_tiles(study.input_picture[None], [study.source])
            + "".join(
                f"<h3>{title}</h3>" + drawn(name, f"outputs of {title}")
                for name, title in [
                    ("output.png", f"{study.layer}, before norm and rectifier"),
                    *(
                        (f"block-{number}-{name}.png", f"after {name}, {_format_resolution(maps)}")
                        for number, (name, maps) in enumerate(study.blocks.items(), 1)
                    ),
                ]
            ),
            f"For {study.source}: the first {count} filters, each scaled to its own range, white the largest.",
        ),
        Section(
            "Made to excite",
            "".join(
                f"<h3>{title}</h3>" + drawn(f"ascent-{rule}.png", f"pictures made by {title}")
                for rule, title in (("plain", "plain steps along the normalized gradient"),
                                    ("regularized", "with jitter, blur, decay and a penalty on high frequencies"))
            ),
            "Gradient ascent from white noise on each filter's mean activation, shown minus its mean, over its deviation.",
        ),
    ]  # fmt: skip
    if study.faces is not None:
        sections.append(Section("Beside the faces", drawn("faces.png", "made pictures beside faces"),
                                "Each filter: made by the plain and by the regularized rule, then the faces that excite it most."))  # fmt: skip
    sections.append(Section("Activations", render_table(*make_activation_rows(study)), "Mean over all positions."))
    return render_page(f"Filters of {study.layer} in {study.model}", f"{of[0].upper()}{of[1:]} filters.", sections)


def _format_resolution(maps: np.ndarray) -> str:
    return f"{maps.shape[0]} of {maps.shape[1]} × {maps.shape[2]}"


def make_activation_rows(study: FilterStudy) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of activations, one row per filter."""
    heads = ["filter", "noise", *study.activations]
    first = next(iter(study.activations.values()))
    rows = [
        [str(number), f"{first[index, 0]:.2f}", *(f"{each[index, 1]:.2f}" for each in study.activations.values())]
        for index, number in enumerate(study.filters)
    ]
    if study.face_activations is not None:
        heads.append("strongest face")
        for row, values in zip(rows, study.face_activations, strict=True):
            row.append(f"{values[0]:.2f}")
    return heads, rows

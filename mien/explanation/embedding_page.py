"""Draw faces as points: a PNG of every space and split, and a page that shows the face under the pointer."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.types import FaceSet
from mien.evaluation.reports.figures import make_panels, save_figure, without_math_text
from mien.evaluation.reports.page import Section, encode_data_uri, read_plotly_script, render_page, render_table
from mien.explanation.embedding import Projection

#: Colors of classes that color-blind people tell apart (Okabe & Ito, 2008), and two more.
COLORS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#56B4E9", "#7F7F7F", "#8C564B", "#9467BD", "#000000")
#: With more points the page draws with WebGL, which is fast but not available everywhere.
_WEBGL_POINTS = 6000
_COLUMNS = 64


@without_math_text
def draw_embedding(faces: FaceSet, spaces: dict[str, Projection], path: Path, title: str) -> None:
    """Draw a PNG with one row per space and one column per split, colored by class; unlabeled faces are light gray."""
    from matplotlib.lines import Line2D

    splits = faces.splits
    figure, panels = make_panels(
        len(spaces), len(splits), figsize=(1.6 + 4.6 * len(splits), 0.9 + 4.2 * len(spaces)), squeeze=False
    )  # fmt: skip
    for row, (name, flat) in zip(panels, spaces.items(), strict=True):
        low, high = flat.points.min(axis=0), flat.points.max(axis=0)
        room = 0.04 * (high - low + 1e-6)
        for axes, split in zip(row, splits, strict=True):
            chosen = np.flatnonzero(faces.split == split)
            chosen = np.random.default_rng(0).permutation(chosen)  # no class lies above all others
            colors = [_choose_color(label) for label in faces.labels[chosen].tolist()]
            size = float(np.clip(12_000 / max(len(chosen), 1), 3, 18))
            axes.scatter(*flat.points[chosen].T, s=size, c=colors, alpha=0.7, linewidths=0)
            axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
            axes.set(
                title=f"{name}, {split or 'all'}: {len(chosen):,} faces", xlabel=flat.axes[0], xticks=[], yticks=[]
            )
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(flat.axes[1])
    handles = [
        Line2D([], [], marker="o", linestyle="", color=_choose_color(k), label=name)
        for k, name in enumerate(faces.classes)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    figure.suptitle(title)
    save_figure(figure, path, dpi=100)


def make_embedding_page(
    faces: FaceSet,
    spaces: dict[str, Projection],
    predicted: Sequence[str],
    separate: dict[str, dict[str, Any]],
    title: str,
    method: str,
) -> str:
    """Return the page as HTML. It holds plotly's script, so it works offline.

    predicted: the model's class of each face. separate: space → split → figures of `separability`.
    """
    lead = (
        f"{title}: faces in two dimensions by {method}. Point at one to see it; click a class to "
        "hide it, turn the wheel to look closer, drag to move. "
        "Near points are alike to the eye (raw pixels) or to the network (features)."
    )
    body = _BODY.replace("SIDE", str(3 * faces.images.shape[1]))
    rows = [
        [
            space,
            split or "all",
            values["faces"],
            *(_format_figure(values[key]) for key in ("knn_accuracy", "chance", "silhouette")),
        ]
        for space, by_split in separate.items()
        for split, values in by_split.items()
    ]
    head = ["space", "split", "faces", "5-NN accuracy", "most frequent class", "silhouette"]
    numbers = Section(
        "Separation of the classes",
        render_table(head, rows),
        "Measured in all dimensions, not in the two that are drawn. Neighbors are training faces. A silhouette of 1 would be "
        "classes far apart, 0 classes that overlap.",
    )
    data = _make_page_data(faces, spaces, predicted)
    script = f"const DATA = {json.dumps(data, separators=(',', ':'))};".replace("</", "<\\/")
    return render_page(
        "Embedding", lead, [Section("Faces as points", body), numbers], scripts=[read_plotly_script(), script, _SCRIPT]
    )


def make_sprite_sheet(images: np.ndarray, columns: int = _COLUMNS) -> bytes:
    """Arrange all pictures uint8 (N, H, W) in one PNG, ``columns`` per row.

    In 32 grays, which nobody misses in a small picture: half the bytes of 256.
    """
    from PIL import Image

    count, height, width = images.shape
    lines = -(-count // columns)
    sheet = np.zeros((lines * columns, height, width), np.uint8)
    sheet[:count] = images & 0xF8 | 4
    sheet = sheet.reshape(lines, columns, height, width).swapaxes(1, 2).reshape(lines * height, columns * width)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _make_page_data(faces: FaceSet, spaces: dict[str, Projection], predicted: Sequence[str]) -> dict[str, Any]:
    """Return the data of the page's script: columns of equal length, and the sprite sheet of faces."""
    return {
        "classes": list(faces.classes),
        "colors": [_choose_color(k) for k in range(len(faces.classes))],
        "splits": [name or "all" for name in faces.splits],
        "split": [faces.splits.index(name) for name in faces.split.tolist()],
        "label": faces.labels.tolist(),
        "names": faces.names.tolist(),
        "predicted": list(predicted),
        "spaces": [
            {"name": name, "axes": list(flat.axes), "points": np.round(flat.points.astype(float), 4).tolist()}
            for name, flat in spaces.items()
        ],
        "height": faces.images.shape[1],
        "width": faces.images.shape[2],
        "columns": _COLUMNS,
        "sheet": encode_data_uri(make_sprite_sheet(faces.images)),
        "size": 6 if len(faces) / len(faces.splits) < 1000 else 4,
        "kind": "scattergl" if len(faces) > _WEBGL_POINTS else "scatter",
    }


def _choose_color(label: int) -> str:
    return COLORS[label % len(COLORS)] if label >= 0 else "#CCCCCC"


def _format_figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


_BODY = """
<p><label>Split <select id="split"></select></label></p>
<div id="plots" style="display:flex;flex-wrap:wrap;gap:1rem"></div>
<div id="under" role="status" style="position:fixed;display:none;z-index:9;pointer-events:none;padding:.4rem;
  background:var(--panel);border:1px solid var(--line);border-radius:.375rem;font-size:.8rem;max-width:14rem;overflow-wrap:anywhere">
<canvas id="face" width="SIDE" height="SIDE" style="display:block;image-rendering:pixelated"></canvas>
<div id="words"></div></div>
"""

_SCRIPT = """
(() => {
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const pick = document.getElementById("split"), under = document.getElementById("under");
  const words = document.getElementById("words"), canvas = document.getElementById("face");
  const pen = canvas.getContext("2d"), sheet = new Image();
  sheet.src = DATA.sheet;
  DATA.splits.forEach((name, index) => pick.add(new Option(name, index)));
  if (DATA.splits.length > 1) pick.add(new Option("all", -1));
  const plots = DATA.spaces.map(() => {
    const place = document.createElement("div");
    place.style.cssText = "flex:1 1 26rem;min-width:20rem;height:32rem";
    document.getElementById("plots").append(place);
    return place;
  });
  const classes = [...DATA.classes.keys(), ...(DATA.label.includes(-1) ? [-1] : [])];
  function traces(space, split) {
    return classes.map(label => {
      const rows = [];
      DATA.label.forEach((each, row) => { if (each === label && (split < 0 || DATA.split[row] === split)) rows.push(row); });
      return { type: DATA.kind, mode: "markers", name: label < 0 ? "unlabeled" : DATA.classes[label], customdata: rows,
        x: rows.map(row => space.points[row][0]), y: rows.map(row => space.points[row][1]), hoverinfo: "none",
        marker: { color: label < 0 ? "#ccc" : DATA.colors[label], size: DATA.size, opacity: 0.75 } };
    });
  }
  function show(event) {
    const row = event.points[0].customdata;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, (row % DATA.columns) * DATA.width, Math.floor(row / DATA.columns) * DATA.height,
      DATA.width, DATA.height, 0, 0, canvas.width, canvas.height);
    const label = DATA.label[row] < 0 ? "unlabeled" : DATA.classes[DATA.label[row]];
    words.textContent = `${DATA.names[row]}: ${label}, predicted ${DATA.predicted[row]}`;
    under.style.display = "block";
    under.dataset.row = row;
    const mouse = event.event;
    under.style.left = Math.min(mouse.clientX + 16, innerWidth - under.offsetWidth - 8) + "px";
    under.style.top = Math.max(8, Math.min(mouse.clientY + 16, innerHeight - under.offsetHeight - 8)) + "px";
  }
  function draw() {
    DATA.spaces.forEach((space, index) => {
      const axis = title => ({ title: { text: title }, zeroline: false, showticklabels: false, gridcolor: style("--line") });
      const layout = { title: { text: space.name, x: 0.02, xanchor: "left" },
        modebar: { bgcolor: "rgba(0,0,0,0)" }, hovermode: "closest", hoverdistance: 12, dragmode: "pan",
        margin: { l: 40, r: 10, t: 50, b: 50 }, legend: { orientation: "h", y: -0.12 }, xaxis: axis(space.axes[0]),
        yaxis: axis(space.axes[1]), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: style("--text") } };
      Plotly.react(plots[index], traces(space, Number(pick.value)), layout,
        { responsive: true, displaylogo: false, scrollZoom: true }).then(place => {
        place.removeAllListeners("plotly_hover");
        place.removeAllListeners("plotly_unhover");
        place.on("plotly_hover", show);
        place.on("plotly_unhover", () => { under.style.display = "none"; });
      });
    });
  }
  pick.addEventListener("change", draw);
  draw();
})();
"""

"""Write the outputs of `mien explain`: PNGs, explain.json and explain.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import replace_file, write_json, write_text
from mien.evaluation.reports.page import Section, render_page, render_picture, render_table
from mien.explanation.attribution import SIGNED, compute_importance
from mien.explanation.figures import ZOOM, draw_grid, draw_overlays, enlarge_face, mask_faces
from mien.explanation.regions import REGIONS, compute_areas, draw_outlines
from mien.explanation.sanity import CONTROLS
from mien.explanation.study import MIN_FACES, ExplainedFaces, Findings, judge_against_random_network, judge_method

#: Maximal number of drawn faces; all are measured.
MAX_DRAWN_FACES = 28

#: What the tables of areas mean.
SANITY_NOTE = (
    "The areas under the probability of the class while the pixels that a map holds for the most important are removed "
    "(deletion, should be small) or shown (insertion, should be large). Two controls know nothing of the face: random "
    "pixels, which ruin a picture sooner than any patch does, and random blobs, the fair control of coarse maps. A "
    "method beats a control where the 95 % bootstrap interval of the difference over the same faces lies on the right "
    "side of zero.\n"
    "Random weights: the method's maps of a network that never learned anything, judged by the trained one; and how "
    "alike its maps are to the trained network's (Spearman's correlation of magnitudes). A likeness near 1 means that "
    "the map shows the picture and not what was learned."
)

#: Lines of methods; grays are the controls'.
_COLORS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8")

METHOD_DESCRIPTIONS = {
    "gradient": "how much the logit changes with a pixel, whichever way (Simonyan et al., 2014)",
    "normalized-gradient": "the gradient minus its mean, over its standard deviation, over its maximum",
    "smoothgrad": "the gradient's mean over noisy copies (Smilkov et al., 2017)",
    "integrated-gradients": "the gradient gathered from plain gray to the picture (Sundararajan et al., 2017)",
    "grad-cam": "the places of the last feature map that raise the logit (Selvaraju et al., 2017)",
    "guided-backprop": "the gradient, each ReLU passing back positive parts only (Springenberg et al., 2015)",
    "occlusion": "what the logit loses when a square is covered (Zeiler & Fergus, 2014)",
    "lime": "a linear model of which superpixels are visible (Ribeiro et al., 2016)",
}


def write_explanation(out: Path, model: str, faces: ExplainedFaces, findings: Findings, *, keep: float) -> list[Path]:
    """Write all outputs into an existing folder; return their paths, the page first."""
    shown = select_drawn_faces(faces)
    pictures = [out / "explain.png", out / "masked.png", out / "regions.png"]
    _draw_maps(pictures[0], model, faces, findings, shown)
    _draw_masks(pictures[1], model, faces, findings, shown, keep)
    _write_png(pictures[2], draw_outlines(_compute_mean_face(faces)))
    if findings.curves:
        pictures.append(out / "curves.png")
        _draw_curves(pictures[-1], faces, findings)
    write_json(out / "explain.json", make_json(model, faces, findings))
    write_text(out / "explain.html", _make_page(out, model, faces, findings, shown, keep))
    return [out / "explain.html", *pictures, out / "explain.json"]


def select_drawn_faces(faces: ExplainedFaces) -> np.ndarray:
    """Return int64 indices of the faces to draw: all, or as many of each true class (else from the start) as fit into
    MAX_DRAWN_FACES."""
    if len(faces) <= MAX_DRAWN_FACES:
        return np.arange(len(faces))
    turn = np.zeros(len(faces), int)
    for truth in np.unique(faces.truths):
        turn[faces.truths == truth] = np.arange((faces.truths == truth).sum())
    return np.sort(np.argsort(turn, kind="stable")[:MAX_DRAWN_FACES])


def make_json(model: str, faces: ExplainedFaces, findings: Findings) -> dict[str, Any]:
    names = (*faces.classes, "")
    rows = [
        {
            "name": name,
            "truth": names[truth] or None,
            "predicted": names[predicted],
            "confidence": round(float(probabilities.max()), 6),
            "target": names[target],
        }
        for name, truth, predicted, probabilities, target in zip(
            faces.names, faces.truths, faces.predicted, faces.probabilities, faces.targets, strict=True
        )
    ]
    size = faces.pictures.shape[1]
    areas_of = dict(zip(REGIONS, compute_areas(size).round(4).tolist(), strict=True))
    return {
        "model": model,
        "regions": areas_of,
        "methods": {name: findings.numbers[name] for name in findings.maps},
        "controls": {name: findings.numbers[name] for name in CONTROLS if name in findings.numbers},
        "faces": rows,
    }


def make_sanity_rows(findings: Findings, count: int) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of areas, for the page, the terminal and the docs."""
    heads = ["method", "deletion", "insertion", "deletion beats", "insertion beats", "beats random weights",
             "likeness, random weights"]  # fmt: skip
    rows = []
    for name in findings.maps:
        numbers = findings.numbers[name]
        theirs = numbers["random network"]
        rows.append([name, f"{numbers['deletion']:.3f}", f"{numbers['insertion']:.3f}", judge_method(numbers, count),
                     judge_method(numbers, count, "insertion"), judge_against_random_network(numbers),
                     f"{theirs['rank correlation of the maps']:.2f}"])  # fmt: skip
    for name in CONTROLS:
        numbers = findings.numbers[name]
        rows.append([name, f"{numbers['deletion']:.3f}", f"{numbers['insertion']:.3f}", "", "", "", ""])
    return heads, rows


def make_share_rows(findings: Findings, size: int) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the table of shares over all faces, in percent."""
    rows = [
        [name, *(f"{100 * findings.numbers[name]['shares']['all'][region]:.0f}" for region in REGIONS)]
        for name in findings.maps
    ]
    return ["method", *REGIONS], [*rows, ["its area", *(f"{100 * share:.0f}" for share in compute_areas(size))]]


def _make_caption(faces: ExplainedFaces, row: int) -> str:
    names = faces.classes
    predicted = names[faces.predicted[row]]
    lines = [f"{predicted} {faces.probabilities[row].max():.0%}"]
    if faces.truths[row] >= 0:
        lines = [f"label {names[faces.truths[row]]}", f"predicted {lines[0]}"]
    else:
        lines.insert(0, _shorten_name(faces.names[row]))
    if faces.targets[row] != faces.predicted[row]:
        lines.append(f"for {names[faces.targets[row]]} {faces.probabilities[row, faces.targets[row]]:.0%}")
    return "\n".join(lines)


def _wrap_method_name(method: str) -> str:
    """Return a method's name, in two lines if it is long."""
    return method.replace("-", "-\n", 1) if len(method) > 12 else method


def _shorten_name(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"


def _draw_maps(path: Path, model: str, faces: ExplainedFaces, findings: Findings, shown: np.ndarray) -> None:
    zoom = _choose_zoom(findings)
    drawn = [
        draw_overlays(faces.pictures[shown], maps[shown], signed=name in SIGNED, zoom=zoom)
        for name, maps in findings.maps.items()
    ]
    rows = [
        [enlarge_face(faces.pictures[row], zoom), *(each[index] for each in drawn)] for index, row in enumerate(shown)
    ]
    bars = sorted({name in SIGNED for name in findings.maps})
    title = f"{model}: what speaks for the class; every map is scaled by its own largest value"
    heads = ["the face", *(_wrap_method_name(name) for name in findings.maps)]
    draw_grid(rows, [_make_caption(faces, row) for row in shown], heads, path, title, bars=bars)


def _draw_masks(
    path: Path, model: str, faces: ExplainedFaces, findings: Findings, shown: np.ndarray, keep: float
) -> None:
    """Draw correct predictions first, then wrong ones; without labels in the order of the faces."""
    order = shown[np.argsort(~faces.is_correct[shown], kind="stable")]
    drawn = [
        mask_faces(faces.pictures[order], compute_importance(maps[order], name), keep)
        for name, maps in findings.maps.items()
    ]
    zoom = _choose_zoom(findings)
    rows = [
        [enlarge_face(faces.pictures[row], zoom), *(enlarge_face(each[index], zoom) for each in drawn)]
        for index, row in enumerate(order)
    ]
    marks = ["correct" if faces.is_correct[row] else "wrong" if faces.truths[row] >= 0 else "" for row in order]
    captions = [f"{mark}\n{_make_caption(faces, row)}".strip() for mark, row in zip(marks, order, strict=True)]
    title = f"{model}: the {keep:.0%} of the pixels with the largest values; all others are blanked"
    draw_grid(rows, captions, ["the face", *(_wrap_method_name(name) for name in findings.maps)], path, title)


def _choose_zoom(findings: Findings) -> int:
    """Return the zoom of a pixel: smaller for many methods."""
    return ZOOM if len(findings.maps) <= 5 else ZOOM - 1


def _compute_mean_face(faces: ExplainedFaces) -> np.ndarray:
    """Return a single face, or the mean of many with its contrast stretched to black and white."""
    if len(faces) == 1:
        return faces.pictures[0]
    mean = faces.pictures.mean(axis=0)
    return np.round(255 * (mean - mean.min()) / max(float(np.ptp(mean)), 1e-6)).astype(np.uint8)


def _write_png(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    with replace_file(path) as temporary:
        Image.fromarray(image).save(temporary)


def _draw_curves(path: Path, faces: ExplainedFaces, findings: Findings) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, what, title in zip(
        panels,
        ("deletion", "insertion"),
        ("deletion: lower is better", "insertion: higher is better"),
        strict=True,
    ):
        for index, (name, drawn) in enumerate(findings.curves.items()):
            heights = getattr(drawn, what).mean(axis=0)
            control = name in CONTROLS
            look = (
                {"color": "0.45", "linestyle": ":" if "pixels" in name else "--"}
                if control
                else {"color": _COLORS[index]}
            )
            axes.plot(np.linspace(0, 100, len(heights)), heights, label=name, linewidth=2 if control else 1.5, **look)
        axes.set(title=title, xlabel=f"pixels {'removed' if what == 'deletion' else 'shown'} (%)", ylim=(0, 1))
        axes.set_ylabel("mean probability of the class")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    count = len(faces)
    figure.suptitle(f"{count:,} face{'' if count == 1 else 's'}, most important pixels first")
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _make_page(out: Path, model: str, faces: ExplainedFaces, findings: Findings, shown: np.ndarray, keep: float) -> str:
    def render_drawing(name: str, alt: str, width: int | None = None) -> str:
        return render_picture((out / name).read_bytes(), alt, width=width)

    meanings = [[name, METHOD_DESCRIPTIONS[name], SIGNED.get(name, "never negative")] for name in findings.maps]
    note = "" if len(shown) == len(faces) else f"{len(shown)} of {len(faces):,} faces are drawn; all are measured."
    sections = [
        Section("Maps", render_drawing("explain.png", "attribution maps over faces")
                + render_table(["method", "what it is", "what a positive value says"], meanings), note),
        Section("What is left", render_drawing("masked.png", "faces with unimportant pixels blanked"),
                f"The {keep:.0%} of the pixels that matter most to each method; correct before wrong predictions."),
    ]  # fmt: skip
    if findings.curves:
        few = f"\nFewer than {MIN_FACES} faces: too few for a verdict." if len(faces) < MIN_FACES else ""
        sections.append(Section(
            "Do the maps mean anything?",
            render_table(*make_sanity_rows(findings, len(faces))) + render_drawing("curves.png", "deletion and insertion curves"),
            SANITY_NOTE + few,
        ))  # fmt: skip
    sections.append(_make_region_section(faces, findings, render_drawing))
    which = ", ".join(faces.classes[target] for target in np.unique(faces.targets))
    lead = (f"{len(faces):,} face{'' if len(faces) == 1 else 's'}, {len(findings.maps)} methods; explained for: {which}.\n"
            "A map says what moves the network's output, not why a person looks as they do.")  # fmt: skip
    return render_page(f"What {model} looks at", lead, sections)


def _make_region_section(faces: ExplainedFaces, findings: Findings, render_drawing: Any) -> Section:
    parts = [render_drawing("regions.png", "the regions on the mean of these faces", 288)]
    parts.append(
        render_table(
            *make_share_rows(findings, faces.pictures.shape[1]), caption="all faces: per cent of a map's magnitude"
        )
    )
    for name in findings.maps:
        groups = {group: values for group, values in findings.numbers[name]["shares"].items() if group != "all"}
        if len(groups) > 1:
            rows = [[group, values["faces"], *(f"{100 * values[region]:.0f}" for region in REGIONS)]
                    for group, values in groups.items()]  # fmt: skip
            parts.append(render_table(["explained for", "faces", *REGIONS], rows, caption=f"{name}, by class"))
    return Section(
        "Where it looks", "".join(parts),
        "The share of each map's magnitude that falls on a part of the face, beside the share of the picture that the "
        "part covers. The regions are fixed ellipses for the framing of FER2013, the same for every face: check on the "
        "picture that they fit.",
    )  # fmt: skip

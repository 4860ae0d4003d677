"""`mien embed`: faces as points in two dimensions, before and after the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.cli.loaders import open_classifier, read_data, refuse_overwrite
from mien.cli.options import Data, Exclude, Json, Model, Quiet, SkipBad
from mien.core.csv_cells import CsvWriter
from mien.core.errors import UsageError
from mien.core.files import make_folder, replace_file, write_json, write_text
from mien.core.progress import echo, progress_bar
from mien.core.types import FaceSet, split_role
from mien.data.splits import sample_stratified
from mien.evaluation.reports.page import require_plotly
from mien.explanation.embedding import METHODS, measure_separability, project_points
from mien.explanation.embedding_page import draw_embedding, make_embedding_page


def embed(
    model: Model,
    data: Data,
    method: Annotated[str, typer.Option(help="How points are laid out: pca, tsne or umap.")] = "pca",
    out: Annotated[Path, typer.Option(help="The folder for embedding.png, .html, .json and .csv.")] = Path("mien-out"),
    split: Annotated[str, typer.Option(help="Show this split only; default: all of them.")] = "",
    sample: Annotated[
        int, typer.Option(min=0, help="Faces of each split, the classes in their shares; 0: all, in a larger page.")
    ] = 1500,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the sample, and of t-SNE and UMAP.")] = 0,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Lay out faces in two dimensions, by their pixels and by the network's features.

    embedding.png shows both for every split, colored by class; embedding.html opens without a network and shows the face
    under the pointer; embedding.json says how well classes are apart (nearest neighbors, silhouette), before anything is
    flattened; embedding.csv holds the points. PCA's axes are those of the training faces; t-SNE and UMAP place all
    together. UMAP needs umap-learn, which no extra brings.
    """  # fmt: skip

    if method not in METHODS:
        raise UsageError(f"--method {method}", "is unknown", f"choose one of {', '.join(METHODS)}")
    require_plotly()
    refuse_overwrite(out, data)
    classifier = open_classifier(model)
    silent = quiet or as_json
    faces = read_data(
        data,
        size=classifier.preprocessing.size,
        skip_bad=skip_bad,
        quiet=silent,
        exclude=exclude,
        labels_by="auto",
        model=classifier,
    )
    faces = faces.select_split(split) if split else faces
    faces = _sample(faces, sample, seed)
    make_folder(out)
    features, predicted = _features(classifier, faces, silent)
    pixels = faces.images.reshape(len(faces), -1).astype("float32") / 255
    train = next((name for name in faces.splits if split_role(name) == "train"), "")
    fit_on = np.isin(faces.split, [train] if train else faces.splits)
    values = {"raw pixels": pixels, "features": features}
    spaces, separate = {}, {}
    for name, rows in values.items():
        spaces[name] = project_points(rows, method, fit_on, seed)
        separate[name] = measure_separability(rows, faces.labels, faces.split, train, seed)
    title = f"{model} on {', '.join(path.name for path in data)}"
    facts = {"model": model, "method": method, "faces": len(faces), "seed": seed}
    results = facts | {
        space: {"layout": spaces[space].facts, "splits": separate[space]} for space in values
    }  # fmt: skip
    draw_embedding(faces, spaces, out / "embedding.png", f"{title}, {method}")
    write_text(out / "embedding.html", make_embedding_page(faces, spaces, predicted, separate, title, method))
    write_json(out / "embedding.json", results)
    _write_points(faces, spaces, predicted, out / "embedding.csv")
    if as_json:
        echo(json.dumps(results, indent=2))
    elif not quiet:
        echo(f"{_text(separate)}\nwrote {out / 'embedding.html'}, embedding.png, embedding.json and embedding.csv")


def _sample(faces: FaceSet, sample: int, seed: int) -> FaceSet:
    """``sample`` faces of each split at most, stratified by class."""

    if not sample:
        return faces
    kept = []
    for name in faces.splits:
        rows = np.flatnonzero(faces.split == name)
        kept.append(rows[sample_stratified(faces.labels[rows], [min(sample, len(rows))], seed)[0]])
    return faces.take(np.sort(np.concatenate(kept)))


def _features(classifier: Any, faces: FaceSet, quiet: bool) -> tuple[np.ndarray, list[str]]:
    """(float32 (N, D), the predicted class of each) with a progress bar."""

    features, predicted = [], []
    with progress_bar("embed", len(faces), quiet=quiet) as bar:
        for start in range(0, len(faces), 256):
            batch = faces.images[start : start + 256]
            found, probabilities = classifier.features(batch)
            features.append(found)
            predicted += [classifier.labels[best] for best in probabilities.argmax(axis=1)]
            bar.advance(len(batch), f"{start + len(batch):,} of {len(faces):,} faces")
    return np.concatenate(features), predicted


def _write_points(faces: FaceSet, spaces: dict[str, Any], predicted: list[str], path: Path) -> None:

    heads = [f"{name.split()[-1]}_{axis}" for name in spaces for axis in "xy"]
    with replace_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = CsvWriter(file)
        writer.writerow(["path", "split", "label", "predicted", *heads])
        for row in range(len(faces)):
            label = faces.classes[faces.labels[row]] if faces.labels[row] >= 0 else ""
            points = [f"{value:.5g}" for flat in spaces.values() for value in flat.points[row]]
            writer.writerow([faces.names[row], faces.split[row], label, predicted[row], *points])


def _text(separate: dict[str, Any]) -> str:
    lines = [f"{'space':<12}{'split':<14}{'faces':>8}{'5-NN':>8}{'chance':>8}{'silhouette':>12}"]
    for space, by_split in separate.items():
        for split, found in by_split.items():
            cells = [f"{space:<12}{split or 'all':<14}{found['faces']:>8,}"]
            for key, width in (("knn_accuracy", 8), ("chance", 8), ("silhouette", 12)):
                cells.append(f"{'—' if found[key] is None else f'{found[key]:.3f}':>{width}}")
            lines.append("".join(cells))
    return "\n".join(lines)

"""`mien embed`: faces as points in two dimensions, by pixels and by features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mien.cli.loaders import read_data, refuse_overwrite
from mien.cli.messages import emit, format_table
from mien.cli.options import Data, Exclude, Json, Model, OutFolder, Quiet, Seed, SkipBad, Split
from mien.core.csv_cells import CsvWriter
from mien.core.errors import UsageError
from mien.core.files import make_folder, replace_file, write_json, write_text
from mien.core.progress import progress_bar
from mien.core.types import FaceSet, split_role
from mien.data.splits import sample_stratified
from mien.evaluation.reports.page import require_plotly
from mien.explanation.embedding import METHODS, measure_separability, project_points
from mien.explanation.embedding_page import draw_embedding, make_embedding_page
from mien.training.scoring.classifiers import open_classifier


def embed(
    model: Model,
    data: Data,
    method: Annotated[str, typer.Option(help="Projection to two dimensions: pca, tsne or umap.")] = "pca",
    out: OutFolder = Path("mien-out"),
    split: Split = "",
    sample: Annotated[
        int, typer.Option(min=0, help="Number of faces of each split, stratified by class; 0: all.")
    ] = 1500,
    seed: Seed = 0,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Lay out faces in two dimensions, by their pixels and by the network's features.

    embedding.png shows both for every split, colored by class. embedding.html opens offline and shows the face under the
    pointer. embedding.json has the separability of the classes in the full space (nearest neighbors, silhouette).
    embedding.csv holds the points. PCA is fitted on the training faces, t-SNE and UMAP on all faces. UMAP needs umap-learn,
    which no extra installs.
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
    faces = _draw_sample(faces, sample, seed)
    make_folder(out)
    features, predicted = _extract_features(classifier, faces, silent)
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
    text = f"{_summary(separate)}\nwrote {out / 'embedding.html'}, embedding.png, embedding.json and embedding.csv"
    emit(results, text, as_json=as_json, quiet=quiet)


def _draw_sample(faces: FaceSet, sample: int, seed: int) -> FaceSet:
    """Return at most ``sample`` faces of each split, stratified by class."""
    if not sample:
        return faces
    chosen = []
    for name in faces.splits:
        rows = np.flatnonzero(faces.split == name)
        chosen.append(rows[sample_stratified(faces.labels[rows], [min(sample, len(rows))], seed)[0]])
    return faces.take(np.sort(np.concatenate(chosen)))


def _extract_features(classifier: Any, faces: FaceSet, quiet: bool) -> tuple[np.ndarray, list[str]]:
    """Return (features float32 (N, D), the predicted class of each face); show a progress bar."""
    features, predicted = [], []
    with progress_bar("embed", len(faces), quiet=quiet) as bar:
        for start in range(0, len(faces), 256):
            batch = faces.images[start : start + 256]
            part, probabilities = classifier.features(batch)
            features.append(part)
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


def _summary(separate: dict[str, Any]) -> str:
    """Return a table of the separability of the classes in each space and split."""
    rows = [["space", "split", "faces", "5-NN", "chance", "silhouette"]]
    for space, by_split in separate.items():
        for split, measures in by_split.items():
            scores = [measures[key] for key in ("knn_accuracy", "chance", "silhouette")]
            cells = ["—" if score is None else f"{score:.3f}" for score in scores]
            rows.append([space, split or "all", f"{measures['faces']:,}", *cells])
    return format_table(rows, left=(0, 1))

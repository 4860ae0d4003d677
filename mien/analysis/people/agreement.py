"""Agreement of records with expressions that people coded, at points of time a fixed step apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil
from typing import Any

import numpy as np

from mien.analysis.people.annotations import Annotation, Annotations
from mien.analysis.people.records import Records
from mien.core.errors import DataError, UsageError
from mien.core.labels import is_expression, normalize_label, sort_labels
from mien.evaluation.agreement_statistics import (
    RatingSums,
    count_coincidences,
    intraclass_correlations,
    krippendorff_alpha,
)
from mien.evaluation.confusion_metrics import cohen_kappa
from mien.evaluation.metrics import accuracy, confusion_matrix, percentile_interval

#: Bootstrap draws of people.
DRAWS = 2000

#: Points of time of one person, at most.
MAX_POINTS = 5_000_000


@dataclass(frozen=True)
class Grid:
    """Who says what of each person at each point of time; N points of all people, R annotators, K labels of the model.

    classes        all labels that occur: those of the model, then others that were coded
    time_s, track  float64 (N,), int64 (N,)
    shown          int64 (N,), index of the label that the records show
    probabilities  float64 (N, K), smoothed
    coded          int64 (N, R), index of each annotator's label; -1 where there is none
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...]
    annotators: tuple[str, ...]
    people: dict[int, str]
    time_s: np.ndarray
    track: np.ndarray
    shown: np.ndarray
    probabilities: np.ndarray
    coded: np.ndarray


def make_grid(
    records: Records,
    annotations: Annotations,
    step_s: float = 0.1,
    *,
    person: int | None = None,
    blank: str | None = None,
) -> Grid:
    """Sample records and annotations in the middle of steps of ``step_s`` seconds, from 0 on, wherever a person is seen.

    person: number of the person whom annotations without a person mean; needed where several people are seen. blank: the label of
    times without an annotation, from the first to the last one of an annotator and person; without it they are left out.

    Raises DataError where nobody who was coded is seen, UsageError for a step, person or label that cannot be used.
    """
    if not 0.001 <= step_s <= 60:
        raise UsageError(f"`grid={step_s:g}`", "is not in 0.001..60 seconds", "as in `grid=0.1`")
    people = records.people()
    names = {person.track: person.short_name for person in sorted(people.people, key=lambda one: one.track)}
    rows = _assign_people(records, annotations, names, person)
    coded_labels = {row.label for row in annotations.rows}
    if blank is not None:
        if blank not in records.labels and normalize_label(blank) not in records.labels and not is_expression(blank):
            raise UsageError(f"`blank={blank}`", "is no expression", f"choose from {', '.join(records.labels)}")
        blank = blank if blank in records.labels else normalize_label(blank)
        coded_labels |= {blank}
    classes = (*records.labels, *sort_labels(coded_labels - set(records.labels)))
    annotators = annotations.annotators
    parts: list[tuple[np.ndarray, ...]] = []
    for track in names:
        time_s, row = _sample_records(records, track, step_s)
        coded = np.stack([
            _sample_annotations([one for one in rows.get(track, []) if one.annotator == name], classes, time_s, blank)
            for name in annotators
        ], axis=1)  # fmt: skip
        keep = (coded >= 0).any(axis=1)
        where = row[keep]
        parts.append((time_s[keep], np.full(len(where), track), records.shown[where], records.smoothed[where].astype(float),
                      coded[keep]))  # fmt: skip
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not len(columns[0]):
        raise DataError(
            annotations.path,
            "nobody is seen at a time that was coded",
            "check that it is of the same video as the records",
        )
    return Grid(classes, records.labels, annotators, names, *columns)


def _assign_people(
    records: Records, annotations: Annotations, names: dict[int, str], person: int | None
) -> dict[int, list[Annotation]]:
    """Return track → its annotations. People are named as ``person 2``, by their number, or as the records name them."""
    if not names:
        raise DataError(records.path, "nobody is seen in it", "what was found is probably no face; see the summary")
    if person is not None and person - 1 not in names:
        listed = ", ".join(str(track + 1) for track in list(names)[:12])
        raise UsageError(f"`person={person}`", "is not seen", f"choose one of {listed}")
    known = {name.casefold(): track for track, name in names.items()}
    only = next(iter(names)) if len(names) == 1 else None
    names_one = len(annotations.people) == 1 and (person is not None or only is not None)
    found: dict[int, list[Annotation]] = {}
    for row in annotations.rows:
        number = re.fullmatch(r"(?:person|p|track)?[ _]?(\d+)", row.person.casefold())
        if not row.person or names_one:
            track = only if person is None else person - 1
            if track is None:
                problem = f"names no person, and {len(names)} people are seen"
                raise DataError(annotations.path, problem, "add a column person, or choose one with `person`")
        elif row.person.casefold() in known:
            track = known[row.person.casefold()]
        elif number and int(number[1]) - 1 in names:
            track = int(number[1]) - 1
        else:
            listed = ", ".join(list(names.values())[:12])
            raise DataError(
                annotations.path, f"names '{row.person}', who is not in the records", f"name one of {listed}"
            )
        found.setdefault(track, []).append(row)
    return found


def _sample_records(records: Records, track: int, step_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (times (N,), rows of the records (N,)) of the points of time at which a person is seen."""
    rows = np.flatnonzero(records.track == track)
    rows = rows[np.argsort(records.player_time_s[rows], kind="stable")]
    starts = records.player_time_s[rows]
    ends = starts + records.duration_s[rows]
    count = ceil(float(ends.max()) / step_s)
    if count > MAX_POINTS:
        raise UsageError(f"`grid={step_s:g}`", f"gives {count:,} points of time", "choose a longer step")
    time_s = (np.arange(count) + 0.5) * step_s
    index = np.searchsorted(starts, time_s, side="right") - 1
    is_seen = (index >= 0) & (time_s < ends[np.maximum(index, 0)])
    return time_s[is_seen], rows[index[is_seen]]


def _sample_annotations(
    rows: Sequence[Annotation], classes: tuple[str, ...], time_s: np.ndarray, blank: str | None
) -> np.ndarray:
    """Return the index of the label at each time (N,), -1 for none; of annotations that overlap the one that begins later counts."""
    coded = np.full(len(time_s), -1)
    if rows and blank is not None:
        is_between = (time_s >= min(row.start_s for row in rows)) & (time_s < max(row.end_s for row in rows))
        coded[is_between] = classes.index(blank)
    for row in rows:  # in order of their starts
        start, end = np.searchsorted(time_s, (row.start_s, row.end_s))
        coded[start:end] = classes.index(row.label)
    return coded


def measure_agreement(grid: Grid, step_s: float, *, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Return all figures of agreement as JSON holds them; None for what is not defined.

    grid_s, seconds  the step, and the time that was compared, of all people together
    kappa            for each annotator, and each pair of them: Cohen's kappa, the share of equal labels, and the seconds
    alpha            Krippendorff's alpha, nominal, of all annotators with mien, and of the annotators alone
    icc              for each label of the model: ICC(2,1) and ICC(3,1) of its smoothed probability with the annotators'
                     codes, 1 where they coded it and 0 elsewhere
    confusion_s      seconds by the label coded (rows) and the label shown (columns), of all annotators together

    ``interval`` are 95 % percentiles of bootstrap draws of whole people; None with fewer than two.
    """
    tracks = np.unique(grid.track)
    groups = [np.flatnonzero(grid.track == track) for track in tracks]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), draws).astype(float)
    weights = weights if len(groups) > 1 else weights[:0]
    size, count = len(grid.classes), len(grid.annotators)

    def describe(value: Callable[[np.ndarray], np.ndarray], sums: np.ndarray) -> dict[str, Any]:
        """The value of the sums of groups (G, ...), and its interval."""
        drawn = value(np.tensordot(weights, sums, 1)) if len(weights) else np.zeros(0)
        return _with_interval(value(sums.sum(axis=0)), drawn)

    def compare(name: str, other: str, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        both = (a >= 0) & (b >= 0)
        matrices = np.stack([confusion_matrix(a[rows][both[rows]], b[rows][both[rows]], size) for rows in groups])
        equal = accuracy(matrices.sum(axis=0)) if both.any() else np.nan
        return {"annotator": name, "with": other, **describe(cohen_kappa, matrices), "equal": _round(equal),
                "seconds": round(float(both.sum()) * step_s, 3)}  # fmt: skip

    def alpha(codes: np.ndarray) -> dict[str, Any]:
        return describe(krippendorff_alpha, np.stack([count_coincidences(codes[rows], size) for rows in groups]))

    kappa = [compare(name, "mien", grid.coded[:, index], grid.shown) for index, name in enumerate(grid.annotators)]
    kappa += [
        compare(grid.annotators[i], grid.annotators[j], grid.coded[:, i], grid.coded[:, j])
        for i, j in combinations(range(count), 2)
    ]
    confusion = np.zeros((size, size))
    for index in range(count):
        is_coded = grid.coded[:, index] >= 0
        confusion += step_s * confusion_matrix(grid.coded[is_coded, index], grid.shown[is_coded], size)
    return {
        "grid_s": step_s, "seconds": round(len(grid.time_s) * step_s, 3), "people": len(groups), "classes": list(grid.classes),
        "annotators": list(grid.annotators), "kappa": kappa,
        "alpha": {
            "with_mien": alpha(np.column_stack([grid.shown, grid.coded])),
            "annotators": alpha(grid.coded) if count > 1 else None,
        },
        "icc": {label: _measure_icc(grid, index, groups, weights) for index, label in enumerate(grid.labels)},
        "confusion_s": np.round(confusion, 3).tolist(),
    }  # fmt: skip


def _measure_icc(grid: Grid, label: int, groups: list[np.ndarray], weights: np.ndarray) -> dict[str, Any]:
    """Return both intraclass correlations of one label, at the times that all annotators coded."""
    is_complete: np.ndarray = np.all(grid.coded >= 0, axis=1)
    ratings = np.column_stack([grid.probabilities[:, label], grid.coded == label])
    sums = RatingSums.from_groups([ratings[rows[is_complete[rows]]] for rows in groups])
    value = intraclass_correlations(sums.weighted(np.ones(len(groups))))
    drawn = intraclass_correlations(sums.weighted(weights)) if len(weights) else (np.zeros(0), np.zeros(0))
    names = ("absolute_agreement", "consistency")
    return {name: _with_interval(one, some) for name, one, some in zip(names, value, drawn, strict=True)}


def _with_interval(value: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    drawn = drawn[np.isfinite(drawn)]
    interval = [_round(limit) for limit in percentile_interval(drawn)] if len(drawn) else None
    return {"value": _round(value), "interval": interval}


def _round(value: np.ndarray | float) -> float | None:
    return round(float(value), 4) + 0.0 if np.isfinite(value) else None  # + 0.0: -0.0 is 0

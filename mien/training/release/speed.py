"""Measure the speed of a model file on this machine."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.analysis.inference.classifier import Classifier
from mien.training.runs.environment import describe_processor

#: Batch size for the throughput.
BATCH = 64


@dataclass(frozen=True)
class Speed:
    """Latency of one crop and throughput with batches of 64 crops: medians, including preprocessing."""

    precision: str
    megabytes: float
    milliseconds: float
    crops_per_second: float
    threads: int
    processor: str


def measure_speed(path: Path, seconds: float = 0.5) -> Speed:
    """Measure latency and throughput for about ``seconds`` each, after a warm-up. Other programs slow it down.

    The crops are noise: the speed does not depend on their content.
    """
    classifier = Classifier(path)
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, 48, 48), dtype=np.uint8)
    one, many = (_median_seconds(classifier, crops[:count], seconds) for count in (1, BATCH))
    size = path.stat().st_size / 1e6
    return Speed(classifier.precision, size, 1000 * one, BATCH / many, os.cpu_count() or 1, describe_processor())


def _median_seconds(classifier: Classifier, crops: np.ndarray, seconds: float) -> float:
    durations_s: list[float] = []
    warm_up, end = 3, time.perf_counter() + seconds
    while len(durations_s) < warm_up + 3 or time.perf_counter() < end:
        started = time.perf_counter()
        classifier.probabilities(crops)
        durations_s.append(time.perf_counter() - started)
    return statistics.median(durations_s[warm_up:])

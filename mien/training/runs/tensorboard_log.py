"""Write the training log for TensorBoard, in addition to log.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mien.core.errors import MissingExtra


@contextmanager
def event_log(folder: Path, enabled: bool, epochs_done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that takes rows of the log and, if ``enabled``, writes them to ``folder/tensorboard``.

    Epochs after the first ``epochs_done``, written by an interrupted run, are discarded.
    """
    if not enabled:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "tensorboard", "for run.tensorboard = true") from error
    with SummaryWriter(str(folder / "tensorboard"), purge_step=epochs_done + 1) as writer:

        def add(row: dict[str, Any]) -> None:
            for name, value in row.items():
                if name != "epoch":
                    group = "validation" if name.startswith("validation_") else "training"
                    writer.add_scalar(f"{group}/{name.removeprefix('validation_')}", value, row["epoch"])

        yield add

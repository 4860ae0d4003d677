"""What the tests of training share: their trainings draw no figures."""

from __future__ import annotations

import pytest

import mien.evaluation.tables
import mien.training.train


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out curves.png and confusion.png, which take most of the time of a small training.

    Fixtures of a wider scope, as ``run_folder``, and the tests of the program draw them.
    """
    monkeypatch.setattr(mien.training.train, "draw_curves", lambda *_: None)
    monkeypatch.setattr(mien.evaluation.tables, "draw_confusion", lambda *_: None)

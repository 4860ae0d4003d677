"""What the tests of reproduction share: their trainings draw no figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import without_figures


@pytest.fixture(autouse=True)
def no_figures() -> Iterator[None]:
    """Draw nothing in a test; fixtures of a wider scope, as ``run_folder``, and the tests of the program do draw."""
    with without_figures():
        yield

"""Errors that mien raises on purpose."""

import pickle

import pytest

from mien.core.errors import DataError, MediaError, MienError, MissingExtra


@pytest.mark.parametrize(
    "error",
    [
        MienError("a", "is odd", "mend it"),
        DataError("faces.csv", "has no labels", "add `labels`", code="no_labels", rows=3),
        MediaError("photo.jpg", "is broken", "copy it again"),
        MissingExtra("torch", "train", "to train"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_back_from_another_process_as_it_was(error: MienError) -> None:
    """`multiprocessing.Pool` never ends for an error that does not unpickle."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, again.to_dict()) == (str(error), error.args, error.to_dict())

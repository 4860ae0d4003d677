"""Every error that mien raises on purpose.

    MienError                 exit code 2 unless said otherwise
    ├── DataError             a data set that cannot be read, joined or split
    ├── MediaError            a picture or a video that cannot be read
    ├── ModelError            a model name or a model file that cannot be used
    ├── RecipeError           a training recipe with an unknown or impossible setting
    ├── OutputError           a file or folder that cannot be written
    ├── UsageError            options that contradict each other
    ├── MissingExtra          an optional dependency that is not installed
    └── TrainingDiverged      a loss that became NaN or infinite

Each carries three parts, because a person needs all of them: the NAME of the thing, what was FOUND, and the CURE.
For programs it carries a ``code`` that stays the same whatever the words are, and the ``parameters`` that are in the words.
"""

from __future__ import annotations

from typing import Any


class MienError(Exception):
    """An error that a person can act on; printed as ``mien: NAME: FOUND; CURE`` on one line, without a traceback.

    Args:
        code: which error it is, in lower_case; by default the class says it.
        parameters: numbers and texts that are in the words, as JSON has them.
    """

    code = "error"

    def __init__(self, name: object, found: str, cure: str, *, code: str = "", **parameters: Any) -> None:
        self.name, self.found, self.cure = str(name), found, cure
        self.code, self.parameters = code or type(self).code, parameters
        super().__init__(f"{self.name}: {found}; {cure}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name, "found": self.found, "cure": self.cure, "code": self.code, "parameters": self.parameters
        }  # fmt: skip


class DataError(MienError):
    """A data set cannot be read, joined or split."""

    code = "data_error"


class MediaError(MienError):
    """A picture or a video cannot be read."""

    code = "media_error"


class ModelError(MienError):
    """A model name is unknown, or a model file cannot be used."""

    code = "model_error"


class RecipeError(MienError):
    """A training recipe has an unknown or impossible setting."""

    code = "recipe_error"


class OutputError(MienError):
    """A file or a folder cannot be written."""

    code = "output_error"


class UsageError(MienError):
    """Options contradict each other, or one that is needed is absent."""

    code = "usage_error"


class TrainingDiverged(MienError):
    """The training loss became NaN or infinite."""

    code = "training_diverged"


class MissingExtra(MienError):
    """An optional dependency is not installed; the cure is the line that installs it."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            package,
            f"is not installed and is needed {purpose}",
            f"pip install 'mien[{extra}]'",
            package=package,
            extra=extra,
        )

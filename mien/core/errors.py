"""The errors that mien raises on purpose.

    MienError                 exit code 2 unless said otherwise
    ├── DataError             a data set that cannot be read, joined or split
    ├── MediaError            a picture or a video that cannot be read
    ├── ModelError            a model name or a model file that cannot be used
    ├── RecipeError           a training recipe with an unknown or impossible setting
    ├── OutputError           a file or folder that cannot be written
    ├── UsageError            options that contradict each other
    ├── MissingExtra          an optional dependency that is not installed
    └── TrainingDiverged      a loss that became NaN or infinite

Each error has three parts: the NAME of the thing, the PROBLEM that was found, and a HINT what to do.
The text names parameters as Python has them, in backticks: `` `size` ``, `` `skip_bad=True` ``, `` `schedule.epochs=10` `` of a
recipe. The command line writes them as its options (mien/cli/messages.py).

For programs, an error has a ``code`` that does not change with the words, and the ``parameters`` that occur in the words.
"""

from __future__ import annotations

import re
from typing import Any

#: Control characters, and characters that change the writing direction. In a file's name, they could move the cursor of a
#: terminal, change its colors, or disguise a line.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_IN_LINES = re.compile(_CONTROLS.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))


def escape_controls(text: str, *, keep_newlines: bool = False) -> str:
    """Write the control characters of a text as escapes such as ``\\x1b``; ``keep_newlines`` keeps line ends and tabs."""
    controls = _CONTROLS_IN_LINES if keep_newlines else _CONTROLS
    return controls.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class MienError(Exception):
    """An error that a person can act on; printed as ``mien: NAME: PROBLEM; HINT`` on one line, without a traceback.

    Args:
        code: identifies the error, in lower_case; default: the code of the class.
        parameters: numbers and texts that occur in the words, as JSON values.
    """

    code = "error"

    def __init__(self, name: object, problem: str, hint: str, *, code: str = "", **parameters: Any) -> None:
        self.name, self.problem, self.hint = (escape_controls(str(part)) for part in (name, problem, hint))
        self.code, self.parameters = code or type(self).code, parameters
        super().__init__(f"{self.name}: {problem}; {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the parts: a pool of processes sends an error back so, and waits for ever for one that does not unpickle."""
        return _rebuild_error, (type(self), self.__dict__ | {"args": self.args})

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON has it."""
        return {
            "name": self.name, "problem": self.problem, "hint": self.hint, "code": self.code, "parameters": self.parameters
        }  # fmt: skip


def _rebuild_error(kind: type[MienError], state: dict[str, Any]) -> MienError:
    error = kind.__new__(kind)
    error.args = state.pop("args")
    error.__dict__.update(state)
    return error


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
    """An optional dependency is not installed; the hint is the line that installs it.

    extra: mien's extra that has the package; "": none, and the package itself is to be installed.
    """

    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            package,
            f"is not installed and is needed {purpose}",
            f"pip install 'mien[{extra}]'" if extra else f"pip install {package}",
            package=package,
            extra=extra,
        )

"""Training recipes: all settings of a training, read from TOML and validated before the first step."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mien.core.errors import RecipeError
from mien.core.files import find_file_problem
from mien.data.annotators import rename_label_source

#: (section, key) of recipes of version 0.1, and what the key is called since: runs that were begun then are resumed.
_RENAMED = {("input", "normalise"): "normalize", ("data", "against"): "one_vs_rest"}

Share = Annotated[float, Field(ge=0, le=1)]


def _split_list(value: object) -> object:
    """Split ``happy,sad`` into a list; leave lists as they are."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_split_list)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSettings(Section):
    """The faces for training and validation."""

    train: str = Field(
        "Training", min_length=1, description="split to train on, by name or role; several as in train+validation"
    )
    validation: str = Field(
        "PublicTest", min_length=1, description="split for validation; if the data lacks it, holdout is used"
    )
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="stratified share of the training split held out for validation"
    )
    classes: Names = Field([], description="train on these classes only, in this order; empty: all")
    one_vs_rest: str = Field("", description="train a network of two classes: this one, and 'other' for all the rest")
    labels: Literal["given", "annotators"] = Field(
        "given", description="the file's own, or the majority of FER+'s annotators: eight classes, with contempt"
    )
    oversample: Share = Field(0.0, description="0: each face once per epoch; 1: all classes equally often")
    keep_labels: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="stratified share of training labels that is kept; the rest is treated as unlabeled"
    )


class InputSettings(Section):
    """Size, channels and normalization of the network's input."""

    size: Annotated[int, Field(ge=8, le=512)] = 48
    channels: Literal[1, 3] = Field(1, description="3 repeats the gray picture three times")
    normalize: Literal["training", "half", "unit"] = Field(
        "training", description="mean and std of the training pictures, mean .5 and std .5, or none: values in 0..1"
    )


class NetworkSettings(Section):
    name: str = Field("residual", description="a key of mien.models.MODELS")
    arguments: dict[str, Any] = Field({}, description="the network's own arguments")


class StartSettings(Section):
    """Fine-tuning: start weights and frozen layers."""

    model: str = Field("", description="a run folder, a .pt or a float .onnx file; empty: random weights")
    freeze: Names = Field([], description="parameters whose names start with one of these are not trained")


class AugmentSettings(Section):
    """Random augmentation in training; 0 turns one off."""

    flip: Share = Field(0.0, description="probability of a mirror image")
    vertical_flip: Share = Field(0.0, description="probability of a face upside down; advised against")
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="rotation up to this, either way")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="size by 1 ± this")
    shift: Share = Field(0.0, description="shift by ± this share of the side")
    shear: Annotated[float, Field(ge=0, lt=90)] = Field(0.0, description="shear up to this many degrees, either way")
    crop: Share = Field(0.0, description="random resized crop of at least this share of the area; 0: off")
    ten_crop: bool = Field(False, description="one of the ten crops of 44/48 of the side, drawn anew each time")
    brightness: Share = Field(0.0, description="brightness by 1 ± this")
    contrast: Share = Field(0.0, description="contrast by 1 ± this")
    erasing: Share = Field(0.0, description="probability of an erased rectangle")
    noise: Share = Field(0.0, description="probability of noise; a teacher predicts the face without it")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="alpha of mixup's Beta distribution")
    cutmix: Annotated[float, Field(ge=0)] = Field(
        0.0, description="alpha of cutmix's Beta distribution; with mixup, one of them per batch"
    )


class LossSettings(Section):
    name: Literal["cross-entropy", "focal", "adaptive"] = "cross-entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="how much focal and adaptive favor hard faces")
    class_weights: Literal["none", "inverse", "effective", "validation"] | list[float] = Field(
        "none",
        description="from the training counts, from the recall of start.model on the validation faces, or a list",
    )


class TargetSettings(Section):
    """The parts of a face's target; by default its label only."""

    votes: Share = Field(0.0, description="share of the target that is FER+'s votes, if a face has any")
    teacher: str = Field(
        "",
        description="distil this model: a shipped name, a run folder, a .pt or a float .onnx file; several as in base+large",
    )
    teacher_share: Share = Field(
        0.7, description="share of the target that is the teacher's probabilities, or their mean"
    )
    teacher_sees: Literal["clean", "augmented"] = Field(
        "clean", description="input of the teacher: each face once, or every augmented input of the student"
    )


class OptimizerSettings(Section):
    name: Literal["sgd", "adam", "adamw", "nadam"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = Field(0.1, description="the highest learning rate of the schedule")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="also beta 1 of Adam, AdamW and NAdam")
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0)] = Field(5e-4, description="on weight matrices only")
    clip_norm: Annotated[float, Field(ge=0)] = Field(0.0, description="maximal norm of the gradient; 0: no clipping")


class ScheduleSettings(Section):
    name: Literal["constant", "step", "cosine", "plateau", "one-cycle"] = "cosine"
    epochs: Annotated[int, Field(ge=1)] = 75
    batch_size: Annotated[int, Field(ge=2)] = 128
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(2.0, description="linear rise of the learning rate")
    min_lr: Annotated[float, Field(ge=0)] = Field(0.0, description="the lowest rate after the warm-up")
    milestones: list[int] = Field([], description="step: epochs after which the rate is multiplied by factor")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="of step and plateau")
    patience: Annotated[int, Field(ge=1)] = Field(5, description="plateau: epochs without a lower validation loss")
    early_stop: Annotated[int, Field(ge=0)] = Field(0, description="stop after so many bad epochs in a row; 0: never")


class SemiSettings(Section):
    """Semi-supervised training on faces without labels, in addition to labeled ones."""

    method: Literal["none", "pseudo-label", "fixmatch"] = "none"
    ratio: Annotated[int, Field(ge=1)] = Field(3, description="unlabeled faces for each labeled one in a batch")
    threshold: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.8, description="minimal confidence of a prediction to be used as label"
    )
    weight: Annotated[float, Field(ge=0)] = Field(1.0, description="of the unlabeled faces' loss")
    rampup_epochs: Annotated[float, Field(ge=0)] = Field(0.0, description="linear rise of that weight")


class RunSettings(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="decay of the averaged weights; 0: off")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 if the hardware multiplies it natively"
    )
    device: str = Field("auto", description="auto: the GPU if there is one; else cpu, cuda, cuda:1, ...")
    keep: Literal["best", "last"] = Field("best", description="the epoch that is evaluated and exported")
    tensorboard: bool = Field(False, description="write the log for TensorBoard too")


class Recipe(Section):
    """A training recipe. By default there is no augmentation, no label smoothing, no teacher."""

    name: str = Field("unnamed", pattern=r"^[^/\\.][^/\\]*$", description="also the name of the run folder")
    description: str = ""
    data: DataSettings = DataSettings()
    input: InputSettings = InputSettings()
    network: NetworkSettings = NetworkSettings()
    start: StartSettings = StartSettings()
    augment: AugmentSettings = AugmentSettings()
    targets: TargetSettings = TargetSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    semi: SemiSettings = SemiSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _check_consistency(self) -> Recipe:
        """Check settings against each other; a ValueError becomes a RecipeError."""
        if self.loss.class_weights == "validation" and not self.start.model:
            raise ValueError("loss.class_weights = 'validation' needs start.model, whose confusions it weighs")
        if self.start.freeze and not self.start.model:
            raise ValueError("start.freeze without start.model would freeze random weights")
        if self.targets.teacher and not list_teachers(self.targets.teacher):
            raise ValueError(f"targets.teacher is '{self.targets.teacher}', which names no model")
        if self.data.classes and self.data.one_vs_rest:
            raise ValueError("data.classes and data.one_vs_rest exclude each other")
        if self.schedule.min_lr > self.optimizer.lr:
            raise ValueError("schedule.min_lr is above optimizer.lr, the highest rate of the schedule")
        if defined := {"num_classes", "channels", "size"} & set(self.network.arguments):
            raise ValueError(f"network.arguments has {', '.join(sorted(defined))}, which data and input define")
        weights = self.loss.class_weights
        if isinstance(weights, list) and (min(weights, default=0) < 0 or sum(weights) == 0):
            raise ValueError(f"loss.class_weights are {weights}: none may be below 0, and not all 0")
        return self

    def to_toml(self) -> str:
        """Return the recipe as TOML with all defaults; `load_recipe` reads it back equal."""
        lines = [f"{key} = {_format_toml(getattr(self, key))}" for key in ("name", "description")]
        for key, section in self:
            if isinstance(section, Section):
                lines += ["", f"[{key}]"] + [f"{name} = {_format_toml(value)}" for name, value in section]
        return "\n".join(lines) + "\n"


def list_teachers(named: str) -> list[str]:
    """Return the models that ``targets.teacher`` lists, separated by +; an existing path with a + is one model."""
    if named and Path(named).exists():
        return [named]
    return [name.strip() for name in named.split("+") if name.strip()]


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes inside the package: name → file."""
    folder = Path(str(resources.files("mien") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name_or_path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Load a shipped recipe by name, or a TOML file, and apply ``section.key=value`` overrides.

    Raises RecipeError for an unknown name, an unknown key (with a suggestion) or a value out of range.
    """
    path, shipped = Path(name_or_path), shipped_recipes()
    if str(name_or_path) in shipped:
        path = shipped[str(name_or_path)]
    elif path.suffix.lower() == ".toml" and (fault := find_file_problem(path, "a recipe")):
        raise RecipeError(path, *fault)
    elif not path.is_file():
        raise RecipeError(
            f"recipe '{name_or_path}'", "is unknown", f"choose one of {', '.join(shipped)} or a .toml file"
        )
    try:
        values = rename_old_keys(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:  # ValueError also for text that is not UTF-8, and for huge numbers
        raise RecipeError(path, f"is not TOML ({error})", "correct it") from error
    values.setdefault("name", path.stem)
    return parse_recipe(override_settings(values, overrides or []), str(name_or_path))


def override_settings(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply ``section.key=value`` overrides to the settings of a recipe, in place; return them."""
    for override in overrides:
        _apply_override(values, override)
    return values


def parse_recipe(values: dict[str, Any], source: str) -> Recipe:
    """Validate the settings of a recipe.

    Keys of earlier versions are read, too. Raises RecipeError with the setting, its value and what is allowed.
    """
    try:
        return Recipe.model_validate(rename_old_keys(values))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise RecipeError(
                f"recipe '{source}'", f"has the unknown key '{place}'", _suggest_keys(problem["loc"])
            ) from error
        message = problem["msg"].removeprefix("Value error, ")
        if place:
            message = f"{place} = {problem['input']!r:.80}: {message.lower()}"
        raise RecipeError(f"recipe '{source}'", message, "change it") from error


def has_same_settings(one: Recipe, other: Recipe) -> bool:
    """Return whether two recipes train alike: all but their descriptions is equal."""
    return one.model_copy(update={"description": other.description}) == other


def rename_old_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with keys and values of earlier versions renamed; a key is not renamed if the present key is given, too."""
    present = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for (section, old), new in _RENAMED.items():
        if isinstance(settings := present.get(section), dict) and old in settings and new not in settings:
            settings[new] = settings.pop(old)
    if isinstance(data := present.get("data"), dict) and "labels" in data:
        data["labels"] = rename_label_source(data["labels"])
    return present


def _suggest_keys(location: tuple[int | str, ...]) -> str:
    fields = Recipe.model_fields
    if len(location) > 1:
        fields = _list_settings(fields[str(location[0])])
    close = difflib.get_close_matches(str(location[-1]), list(fields), n=1)
    if not close and len(location) == 1:
        close = [f"{name}.{location[0]}" for name, field in fields.items() if str(location[0]) in _list_settings(field)]
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"{guess}known here: {', '.join(fields)}"


def _list_settings(field: Any) -> dict[str, Any]:
    """Return the settings of a section; {} for a field that is no section."""
    section = field.annotation
    return section.model_fields if isinstance(section, type) and issubclass(section, Section) else {}


def _apply_override(values: dict[str, Any], override: str) -> None:
    """Apply one ``section.key=value`` to nested values. The value is TOML, or text if it is not valid TOML."""
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"setting '{override}'", "is not of the form section.key=value", "as in `schedule.epochs=10`")
    keys[-1] = _RENAMED.get((keys[0], keys[-1]), keys[-1])
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise RecipeError(
                f"setting '{override}'", f"'{key}' is a value, not a section", "as in `schedule.epochs=10`"
            )
    values[keys[-1]] = value


def _format_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_format_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_format_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)

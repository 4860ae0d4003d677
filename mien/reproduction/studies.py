"""The studies of `mien reproduce`: the five reference systems on their own splits, and the questions they left open.

A study is a list of runs; a run is a recipe, what is laid over it, and the split it is made on. Every run has its full
length and a shortened one for machines without a GPU: at least a fifth of the author's epochs (a tenth of R2's thousand).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mien.analysis.inference.classifier import TTA
from mien.core.errors import DataError, UsageError
from mien.core.types import FaceSet, concatenate_faces
from mien.data.splits import hold_out_faces, split_by_class_counts, split_stratified

#: Faces of Training and of PublicTest.
FER2013_ROWS = (28_709, 3_589)

#: One seed draws every split, so that runs of other seeds are made on the same faces.
SPLIT_SEED = 0


@dataclass(frozen=True)
class Run:
    """One training.

    name: unique within its study.
    recipe: a shipped recipe; ``settings`` override it, as ``section.key=value``. RUNS in them is the folder of all runs.
    split: a key of SPLITS.
    epochs, short: the full schedule, and the shortened one.
    tta: what it is scored with beside "none".
    """

    name: str
    recipe: str
    split: str
    epochs: int
    short: int
    settings: tuple[str, ...] = ()
    tta: tuple[TTA, ...] = ()


@dataclass(frozen=True)
class Study:
    """One row of the table, or one question.

    reference: the number to beat in percent, as its author gave it; None where a question has none.
    what: what the reference's number is of.
    needs: other studies whose runs it is made of.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    reference: float | None = None
    what: str = ""
    needs: tuple[str, ...] = ()


def select_official_splits(faces: FaceSet) -> tuple[FaceSet, FaceSet]:
    """Return (Training, PublicTest), labeled. Raises DataError if the data lacks one of them. PrivateTest is not used."""
    for name in ("Training", "PublicTest"):
        if not faces.has_split(name):
            raise DataError("data", f"has no split {name}", "give FER2013's file, or its Training and PublicTest files")
    training, public = (faces.select_split(name) for name in ("Training", "PublicTest"))
    if (len(training), len(public)) != FER2013_ROWS:
        problem = (
            f"has {len(training):,} faces of Training and {len(public):,} of PublicTest, not {FER2013_ROWS[0]:,} and "
        )
        raise DataError(
            "data", f"{problem}{FER2013_ROWS[1]:,}", "give FER2013's whole file: the splits are drawn from it"
        )
    return training.take(training.is_labeled), public.take(public.is_labeled)


def _rename_split(faces: FaceSet, name: str) -> FaceSet:
    return replace(faces, split=np.full(len(faces), name))


def _divide_training(faces: FaceSet, validation: int) -> FaceSet:
    training, public = select_official_splits(faces)
    parts = split_stratified(training, ["train", "validation"], [len(training) - validation, validation], SPLIT_SEED)
    return concatenate_faces([parts, _rename_split(public, "test")])


def _draw_r2(faces: FaceSet) -> FaceSet:
    return split_stratified(
        concatenate_faces(select_official_splits(faces)),
        ["train", "validation", "test"],
        [11_880, 7_350, 7_170],
        SPLIT_SEED,
    )


def _draw_r2_joined(faces: FaceSet) -> FaceSet:
    """Draw the splits of R2's last step, in which validation faces train too. The test faces select nothing: the last
    epoch is kept."""
    faces = _draw_r2(faces)
    return replace(faces, split=np.where(faces.split == "test", "test", "train"))


def _draw_r3(faces: FaceSet) -> FaceSet:
    counts = {"angry": 500, "happy": 1500, "neutral": 1000, "sad": 1500, "surprise": 500}
    drawn = split_by_class_counts(
        concatenate_faces(select_official_splits(faces)),
        {"train": counts, "test": dict.fromkeys(counts, 100)},
        SPLIT_SEED,
    )
    training, validation = hold_out_faces(drawn.select_split("train"), 0.2, SPLIT_SEED)
    return concatenate_faces([training, _rename_split(validation, "validation"), drawn.select_split("test")])


def _draw_whole(faces: FaceSet) -> FaceSet:
    """Return all of Training, and PublicTest for comparison."""
    training, public = select_official_splits(faces)
    return concatenate_faces([_rename_split(training, "train"), _rename_split(public, "test")])


#: Name → what draws it from FER2013's Training and PublicTest: splits train, validation (but for r2-joined and whole) and test.
SPLITS: dict[str, Callable[[FaceSet], FaceSet]] = {
    "r1": lambda faces: _divide_training(faces, 2_800),
    "r2": _draw_r2,
    "r2-joined": _draw_r2_joined,
    "r3": _draw_r3,
    "r4": lambda faces: _divide_training(faces, 2_909),
    "r5": lambda faces: _divide_training(faces, 2_871),
    "whole": _draw_whole,
}


def _make_our_run(network: str, split: str, epochs: int, short: int, *settings: str, tta: tuple[TTA, ...] = ()) -> Run:
    return Run("ours", "strong", split, epochs, short, (f"network.name={network}", *settings), tta)


def _make_author_run(name: str, split: str, epochs: int, short: int, *settings: str, tta: tuple[TTA, ...] = ()) -> Run:
    return Run("author", name, split, epochs, short, settings, tta)


#: base learned from Training alone, so it may teach where PublicTest is the test; on R2's and R3's splits it has seen test faces.
_DISTILLED = ("targets.teacher=base", "targets.teacher_share=0.7", "targets.teacher_sees=augmented")
FIVE_CLASSES = 'data.classes=["angry", "happy", "neutral", "sad", "surprise"]'
TEN_CROP: tuple[TTA, ...] = ("ten-crop",)

REFERENCES: tuple[Study, ...] = (
    Study("r1-lenet", "LeNet with batch norm", (
        _make_author_run("r1-lenet", "r1", 10, 10), _make_our_run("r1-lenet", "r1", 60, 30, "augment.mixup=0"),
    ), 50.0, "validation, the upper end of 40 to 50 %"),
    Study("r1-alexnet", "AlexNet-like", (
        _make_author_run("r1-alexnet", "r1", 30, 30),
        _make_our_run("r1-alexnet", "r1", 200, 25, "optimizer.name=adamw", "optimizer.lr=0.0005",  # SGD stood still for epochs
              "optimizer.weight_decay=0.01", "augment.mixup=0"),
    ), 56.0, "validation"),
    Study("r1-resnet18", "ResNet-18, stem with stride 4", (
        _make_author_run("r1-resnet18", "r1", 30, 30), _make_our_run("r1-resnet18", "r1", 200, 20, *_DISTILLED),
    ), 54.3, "validation"),
    Study("r1-final", "R1's final network", (
        _make_author_run("r1-final", "r1", 70, 70), _make_our_run("r1-final", "r1", 200, 40, *_DISTILLED),
    ), 61.77, "test"),
    Study("r2-resnet18", "ResNet-18, stem with stride 2", (
        _make_author_run("r2-resnet18", "r2-joined", 1000, 100, 'data.validation="test"'),
        _make_our_run("r2-resnet18", "r2-joined", 300, 60, 'data.validation="test"'),
    ), 66.42, "test"),
    Study("r3-vgg", "five classes, little data", (
        _make_author_run("r3-vgg", "r3", 50, 50), _make_our_run("r3-vgg", "r3", 300, 60, FIVE_CLASSES, "input.channels=3", "optimizer.lr=0.03"),
    ), 60.0, "test, the upper end of 57.6 to 60.0 %"),
    Study("r4-cnn", "deep VGG with PReLU", (
        _make_author_run("r4-cnn", "r4", 80, 40), _make_our_run("r4-cnn", "r4", 200, 60, *_DISTILLED),
    ), 67.7, "test"),
    Study("r4-dnn", "dense network of the same size", (
        _make_author_run("r4-dnn", "r4", 80, 16),
        _make_our_run("r4-dnn", "r4", 80, 16, "optimizer.name=adamw", "optimizer.lr=0.002", "optimizer.weight_decay=0.05",
              # Every place has weights of its own here, so that what is moved or turned far has to be learned anew.
              "augment.shift=0.03", "augment.degrees=0", "augment.scale=0", "augment.brightness=0", "augment.contrast=0",
              "augment.mixup=0", "augment.erasing=0", "network.arguments={dropout=0}", "schedule.batch_size=64", *_DISTILLED),
    ), 43.1, "test"),
    Study("r5-vgg10", "VGG of 10 layers", (
        _make_author_run("r5-vgg10", "r5", 300, 60, tta=TEN_CROP), _make_our_run("r5-vgg10", "r5", 300, 60, *_DISTILLED, tta=TEN_CROP),
    ), 73.34, "test, ten-crop; selected on the test set"),
    Study("r5-resnet17", "residual network of 17 layers", (
        _make_author_run("r5-resnet17", "r5", 300, 60, tta=TEN_CROP), _make_our_run("r5-resnet17", "r5", 300, 20, *_DISTILLED, tta=TEN_CROP),
    ), 53.51, "test, first round, without augmentation"),
    Study("r5-resnet25", "residual network of 25 layers", (
        _make_author_run("r5-resnet25", "r5", 300, 60, tta=TEN_CROP), _make_our_run("r5-resnet25", "r5", 300, 60, *_DISTILLED, tta=TEN_CROP),
    ), 70.45, "test, ten-crop; selected on the test set"),
)  # fmt: skip

_HALF = ("network.name=r5-vgg10", "network.arguments={widths = [32, 64, 128, 256], hidden = 512}", "augment.mixup=0",
         "loss.label_smoothing=0.05")  # fmt: skip
_ADAPTIVE = ("loss.name=adaptive", "loss.gamma=2", "loss.class_weights=[0.6, 1.0, 0.8, 0.4, 0.8, 0.4, 0.6]")
_SMALL = ("network.name=residual", "network.arguments={widths = [32, 64, 128], blocks = 1}", "augment.mixup=0")
_MOMENTUM = ("optimizer.momentum=0.9", "optimizer.weight_decay=1e-4")
_COSINE = ("schedule.name=cosine", "schedule.min_lr=1e-5", "schedule.batch_size=128")
#: Share of labels in percent → epochs: fewer for more labels, so that all make about as many steps.
_SHARES = {10: 45, 25: 18, 50: 9}
_METHODS = {
    "supervised": (),
    "supervised-weak": ("augment.shift=0.125", "augment.degrees=0", "augment.scale=0", "augment.brightness=0",
                        "augment.contrast=0", "augment.erasing=0"),  # as FixMatch changes faces with a label
    "pseudo-label": ("semi.method=pseudo-label", "semi.ratio=2", "semi.rampup_epochs=5"),
    "fixmatch": ("semi.method=fixmatch", "semi.ratio=2"),
}  # fmt: skip

STUDIES: tuple[Study, ...] = (
    Study("adaptive-loss", "R5's adaptive loss and cross-entropy: VGG10 at half width, 15 epochs, three seeds", tuple(
        Run(f"{loss}-{seed}", "strong", "r5", 15, 15, (*_HALF, *settings, f"run.seed={seed}"), TEN_CROP)
        for seed in range(3)
        for loss, settings in (("cross-entropy", ()), ("adaptive", _ADAPTIVE))
    )),
    Study("semi-supervised", "Semi-supervised training: a small residual network, about the same number of steps in all runs", tuple(
        Run(f"{method}-{share}-{seed}", "strong", "r5", epochs, epochs,
            (*_SMALL, *settings, f"data.keep_labels={share / 100}", "schedule.batch_size=64", "optimizer.lr=0.05",
             # Smoothed labels would keep the network from ever being as sure as a label for another face has to be.
             "loss.label_smoothing=0", f"run.seed={seed}"))
        for share, epochs in _SHARES.items()
        for seed in (range(3) if share == 10 else range(1))
        for method, settings in _METHODS.items()
    )),
    Study("rare-class", "Methods for a higher recall of disgust: a small residual network", tuple(
        Run(name, "strong", "r5", 20, 20, (*_SMALL, *settings))
        for name, settings in (
            ("plain", ()),
            ("inverse", ("loss.class_weights=inverse",)),
            ("effective", ("loss.class_weights=effective",)),
            ("oversampled", ("data.oversample=0.5",)),
            ("expert", ("data.one_vs_rest=disgust", "data.oversample=0.75")),
        )
    )),
    Study("batch-norm", "R1's first network with and without batch norm", tuple(
        Run(name if rate == 0.01 else f"{name}-rate-{rate}", "r1-lenet", "r1", 10, 10,
            (f"network.arguments={{norm = {norm}}}", f"optimizer.lr={rate}"))
        for rate in (0.01, 0.1)
        for name, norm in (("with", "true"), ("without", "false"))
    )),
    Study("augmentation", "R4's network with and without augmentation", (
        Run("without", "r4-cnn", "r4", 80, 40,
            ("augment.flip=0", "augment.vertical_flip=0", "augment.shift=0")),
    )),
    Study("fine-tuning", "Fine-tuning, R5's last phase: five more epochs of adaptive-loss/adaptive-0", tuple(
        Run(name, "strong", "r5", 5, 5,
            (*_HALF, *_ADAPTIVE, "start.model=RUNS/adaptive-loss/adaptive-0", "optimizer.lr=0.01",
             "schedule.warmup_epochs=0", *settings), TEN_CROP)
        for name, settings in (
            ("same-weights", ()),
            ("retuned", ("loss.class_weights=validation",)),
            ("retuned-frozen", ("loss.class_weights=validation", 'start.freeze=["stages.0", "stages.1"]')),
        )
    ), needs=("adaptive-loss",)),
    Study("r2-ladder", "R2's series of changes, except the last", tuple(
        Run(name, "r2-resnet18", "r2", epochs, max(15, epochs // 5), ("augment.flip=0", "augment.degrees=0", "augment.crop=0",
            "schedule.name=constant", "optimizer.momentum=0", "optimizer.weight_decay=0", "schedule.batch_size=64", *settings))
        for name, epochs, settings in (
            ("plain", 30, ()),
            ("momentum", 30, _MOMENTUM),
            ("cosine", 50, (*_MOMENTUM, *_COSINE)),
            ("flip", 40, (*_MOMENTUM, *_COSINE, "augment.flip=0.5")),
            ("rotation", 100, (*_MOMENTUM, *_COSINE, "augment.flip=0.5", "augment.degrees=30")),
            ("crop", 100, (*_MOMENTUM, *_COSINE, "augment.flip=0.5", "augment.degrees=30", "augment.crop=0.5")),
            ("crop-300", 300, (*_MOMENTUM, *_COSINE, "augment.flip=0.5", "augment.degrees=30", "augment.crop=0.5")),
        )
    )),
    Study("ferplus", "FER+, eight expressions: training on the majority label or on the shares of the votes", (
        Run("votes", "ferplus", "whole", 20, 10, ('data.validation="test"',)),
        Run("majority", "ferplus", "whole", 20, 10, ('data.validation="test"', "targets.votes=0")),
    )),
    Study("ensemble", "An ensemble of three networks on R5's split: VGG10 at half width with two seeds, a small residual network", (),
          needs=("adaptive-loss", "rare-class")),
    Study("learning-rate", "R2's learning rate sweep on its baseline: LeNet without batch norm", tuple(
        Run(f"lr-{rate:g}", "r1-lenet", "r2", 10, 10,
            ("network.arguments={norm = false}", f"optimizer.lr={rate}", "optimizer.momentum=0"))
        for rate in (0.001, 0.01, 0.03, 0.1, 0.3)
    )),
)  # fmt: skip

_NANO = ("network.arguments={widths = [40, 80, 160], blocks = 1}", 'data.validation="test"')
#: One change each: name → what is laid over base's recipe on nano's network.
_STEPS: dict[str, tuple[str, ...]] = {
    "start": (),
    "teacher-augmented": _DISTILLED,
    "votes-0.3": ("targets.votes=0.3",),
    "deeper": ("network.arguments={widths = [40, 80, 160], blocks = 2}",),
    "thinner-deeper": ("network.arguments={widths = [26, 52, 104], blocks = 2}",),
    "teacher": ("targets.teacher=base", "targets.teacher_share=0.7"),
    "start-1": ("run.seed=1",),
    "start-2": ("run.seed=2",),
    "votes-0.6": ("targets.votes=0.6",),
    "no-smoothing": ("loss.label_smoothing=0",),
    "no-mixup": ("augment.mixup=0",),
    "cutmix": ("augment.cutmix=1.0",),
    "no-erasing": ("augment.erasing=0",),
    "noise": ("augment.noise=0.25",),
    "no-light": ("augment.brightness=0", "augment.contrast=0"),
    "no-averaging": ("run.ema=0",),
    "effective-weights": ("loss.class_weights=effective",),
    "focal": ("loss.name=focal",),
    "adamw": ("optimizer.name=adamw", "optimizer.lr=0.002", "optimizer.weight_decay=0.05"),
    "batch-64": ("schedule.batch_size=64", "optimizer.lr=0.05"),
    "wider": ("network.arguments={widths = [64, 128, 256], blocks = 1}",),
    "twice-as-long": (),
}

#: What docs/accuracy.md shows.
LADDER = Study("ladder", "Results: a small residual network, 12 epochs of the recipe base", tuple(
    Run(name, "base", "whole", epochs, epochs, (*_NANO, *settings), ("flip", *TEN_CROP) if name.startswith("start") else ())
    for name, settings in _STEPS.items()
    for epochs in (24 if name == "twice-as-long" else 12,)
))  # fmt: skip

ALL: dict[str, Study] = {study.name: study for study in (*REFERENCES, *STUDIES, LADDER)}

#: The order of `mien reproduce all`, so that most of the table is there early.
CHEAPEST_FIRST = (
    "batch-norm", "learning-rate", "r1-lenet", "r3-vgg", "r1-alexnet", "r1-final", "rare-class", "r1-resnet18",
    "semi-supervised", "r5-resnet17", "adaptive-loss", "r4-dnn", "r5-resnet25", "r5-vgg10", "r2-resnet18", "r4-cnn",
    "augmentation", "fine-tuning", "ensemble", "ferplus", "ladder", "r2-ladder",
)  # fmt: skip


def find_studies(study: str) -> list[Study]:
    """Return the study of a name, or all, the cheapest first. Raises UsageError with the choices."""
    if study == "all":
        return [ALL[name] for name in CHEAPEST_FIRST]
    if study not in ALL:
        raise UsageError(f"study '{study}'", "is unknown", f"choose one of all, {', '.join(ALL)}")
    return [ALL[study]]

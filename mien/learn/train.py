"""The training loop, top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien.core.errors import RecipeError, TrainingDiverged
from mien.core.files import write_json, write_text
from mien.core.memory import keep_memory
from mien.core.preprocess import Preprocessing
from mien.core.progress import Bar, progress_bar
from mien.core.types import FaceSet
from mien.data.augment import cutmix, mixup
from mien.data.splits import write_names
from mien.evaluate.figures import draw_curves
from mien.evaluate.metrics import accuracy, confusion_matrix, log_losses, macro_f1, score
from mien.evaluate.tables import write_scores
from mien.learn.checkpoint import Trained, save_trained
from mien.learn.convolution import as_products
from mien.learn.environment import environment
from mien.learn.events import event_log
from mien.learn.hardware import Hardware
from mien.learn.inference import TorchClassifier, load_run
from mien.learn.losses import check_alpha, class_weights, gives_logits, make_loss, retuned_alpha
from mien.learn.optim import AveragedNetwork, learning_rate, make_optimizer, should_stop
from mien.learn.prepare import (
    Rows,
    augmentation_of,
    choose_rows,
    epoch_order,
    fingerprint,
    input_of,
    normalise,
    start_from,
    to_device,
)
from mien.learn.recipe import Recipe
from mien.learn.resume import saved_state
from mien.learn.semi import Unlabelled
from mien.learn.targets import Teacher, targets_of, teacher_fingerprint, teacher_of
from mien.models import MISFITS, build, takes_size

Say = Callable[[str], None]
#: How often the loss is looked at: on a GPU every look waits for it.
LOOK_EVERY = 10
#: Drawing takes half a second: epochs that are shorter do not draw each time.
CURVES_EVERY_S = 10.0


@dataclass(frozen=True)
class Course:
    """What is taught, the same in every epoch.

    images, labels   uint8 (N, 1, H, W) and int64 (N,), where the network is trained
    targets          float32 (N, K): what each face is to be given, before it is blended with others
    teacher          whom to ask about the augmented inputs, if anybody
    unlabelled       what else to learn from, if anything
    """

    recipe: Recipe
    hardware: Hardware
    preprocessing: Preprocessing
    images: Tensor
    labels: Tensor
    targets: Tensor
    teacher: Teacher | None = None
    unlabelled: Unlabelled | None = None


@dataclass
class State:
    """All that changes while a network is trained; what a checkpoint must hold for a run to go on exactly."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedNetwork
    generator: torch.Generator
    alpha: list[float] | None  # weights of the classes in the loss
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float = -1.0

    def to_checkpoint(self) -> dict[str, Any]:
        """Everything but the averaged weights, which save_trained writes for use."""
        return {
            "raw_weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged_steps": self.averaged.steps,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "alpha": self.alpha,
            "history": json.dumps(self.history),
            "best": self.best,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["raw_weights"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.averaged.network.load_state_dict(saved["weights"])
        self.averaged.steps = saved["averaged_steps"]
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["torch_rng"])
        if saved["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["cuda_rng"][: torch.cuda.device_count()])
        self.history, self.best = json.loads(saved["history"]), saved["best"]


def train(
    recipe: Recipe, faces: FaceSet, folder: Path, *, resume: bool = False, quiet: bool = False, say: Say = print
) -> list[dict[str, Any]]:
    """Train a network as the recipe says; returns the log, a row an epoch.

    The run folder gets recipe.toml, environment.json, log.jsonl, curves.png, best.pt and last.pt, all brought up to
    date after every epoch, and at the end the scores on the validation faces. With ``resume`` a run that was
    interrupted goes on after its last whole epoch and ends with the same weights, bit for bit on the CPU, as if it had
    not been.

    Raises TrainingDiverged when the loss is no longer a number, OutputError when the folder holds another run, and
    RecipeError or DataError when a run is resumed with other settings or other faces.
    """
    rows = choose_rows(recipe, faces, say)
    hardware = Hardware.choose(recipe.run.device, recipe.run.precision)
    keep_memory()
    identity = {
        "faces": fingerprint(rows, votes=bool(recipe.targets.votes)),
        "hardware": f"{hardware.device.type}, {hardware.precision}",
        "teacher": teacher_fingerprint(recipe.targets, hardware),
    }
    saved = saved_state(folder, recipe, identity, resume)
    if resume and saved is None:
        say(f"{folder} holds no whole epoch to go on from: beginning with the first")
    # Before the network and its random numbers: a teacher draws some too.
    course = course_of(recipe, rows, hardware, say)
    trained = _network_begun(recipe, rows.training.classes, course.preprocessing, hardware, say)
    alpha = _alpha(recipe, rows, trained.network, course.preprocessing, hardware) if saved is None else saved["alpha"]
    state = state_of(recipe, trained.network, alpha)
    if saved is not None:
        state.restore(saved)
    trained = replace(trained, network=state.averaged.network)
    header = _header(recipe, hardware, rows, state, saved)
    write_text(folder / "recipe.toml", recipe.to_toml())
    write_json(folder / "environment.json", header["environment"])
    write_names(rows.validation, folder / "validation.csv")
    say(opening_line(header))
    say(f"classes: {', '.join(rows.training.classes)}")
    if note := _batches_note(recipe, len(rows.training)):
        say(note)

    epochs, drawn, count = recipe.schedule.epochs, float("-inf"), len(course.images)
    if len(state.history) >= epochs:
        say(f"all {epochs} epochs are done")
    with (
        progress_bar(recipe.name, epochs * count, done=len(state.history) * count, quiet=quiet) as bar,
        event_log(folder, recipe.run.tensorboard, len(state.history)) as log_events,
    ):
        for epoch in range(len(state.history), epochs):
            if should_stop(state.history, recipe.schedule.early_stop):
                say(f"stopped early: {recipe.schedule.early_stop} bad epochs in a row")
                break
            row = _epoch_row(course, state, rows.validation, bar)
            state.history.append(row)
            say(epoch_line(row, epochs))
            log_events(row)

            trained = replace(trained, epoch=epoch + 1)
            if row["validation_accuracy"] > state.best:
                state.best = row["validation_accuracy"]
                save_trained(folder / "best.pt", trained)
            write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in (header, *state.history)))
            if time.perf_counter() - drawn > CURVES_EVERY_S:
                draw_curves(state.history, folder / "curves.png", recipe.name)
                drawn = time.perf_counter()
            save_trained(
                folder / "last.pt",
                trained,
                **state.to_checkpoint(),
                recipe=recipe.model_dump_json(),
                identity=identity,
                header=json.dumps(header),
            )
    draw_curves(state.history, folder / "curves.png", recipe.name)
    _score_kept(folder, recipe, rows.validation)
    return state.history


def course_of(recipe: Recipe, rows: Rows, hardware: Hardware, say: Say = print) -> Course:
    """What the recipe teaches from these rows, moved to where the network is trained."""
    preprocessing = input_of(recipe, rows.training)
    targets = targets_of(rows.training, recipe.targets, say).to(hardware.device)
    images, labels = to_device(rows.training, hardware)
    unlabelled = None
    if recipe.semi.method != "none":
        unlabelled = Unlabelled(to_device(rows.unlabelled, hardware)[0], recipe, preprocessing, hardware)
    teacher = teacher_of(recipe.targets, rows.training.classes, preprocessing, hardware)
    return Course(recipe, hardware, preprocessing, images, labels, targets, teacher, unlabelled)


def state_of(recipe: Recipe, network: nn.Module, alpha: list[float] | None = None) -> State:
    """Before the first step."""
    return State(
        network,
        make_optimizer(network, recipe.optimizer),
        AveragedNetwork(network, recipe.run.ema),
        torch.Generator().manual_seed(recipe.run.seed),
        alpha,
    )


def _network_begun(
    recipe: Recipe, classes: tuple[str, ...], preprocessing: Preprocessing, hardware: Hardware, say: Say
) -> Trained:
    """The recipe's network with the weights that it begins with; RecipeError where it does not give logits."""
    torch.manual_seed(recipe.run.seed)  # initial weights and dropout draw from the global generator
    size = {"size": preprocessing.size} if takes_size(recipe.network.name) else {}
    arguments = {
        "num_classes": len(classes), "channels": preprocessing.channels, **size, **recipe.network.arguments
    }  # fmt: skip
    try:
        network = build(recipe.network.name, **arguments).to(hardware.device, memory_format=torch.channels_last)
        as_products(network, hardware)
        gives_logits(network, preprocessing.channels, preprocessing.size)
    except MISFITS as error:
        wanted = f"{preprocessing.channels} x {preprocessing.size} x {preprocessing.size} pixels"
        found = f"{recipe.network.name} cannot take pictures of {wanted} with these arguments ({error})"
        raise RecipeError("network", found, "change input.size or network.arguments") from error
    if recipe.start.model:
        say(start_from(network, recipe.start, classes))
    if recipe.augment.vertical_flip:
        say("note: augment.vertical_flip shows faces upside down, as none is met in use; it usually costs accuracy")
    return Trained(
        network,
        recipe.name,
        recipe.network.name,
        arguments,
        classes,
        preprocessing,
        epoch=0,
        labels_by=recipe.data.labels,
    )


def _epoch_row(course: Course, state: State, validation: FaceSet, bar: Bar) -> dict[str, Any]:
    """Train one epoch and watch it: a row of the log. Raises TrainingDiverged before anything of it is saved."""
    started, epoch = time.perf_counter(), len(state.history)
    row = {"epoch": epoch + 1, **train_epoch(course, state, bar)}
    row |= watch(state.averaged.network, validation, course.preprocessing, course.hardware)
    if not np.isfinite(row["validation_loss"]):
        raise _diverged(course.recipe, epoch, row["lr"])
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def train_epoch(course: Course, state: State, bar: Bar) -> dict[str, float]:
    """One pass over the training faces: learning rate, loss, accuracy, speed.

    Batches are whole: what is left of a shuffled epoch, less than a batch, is not seen in it.
    """
    recipe, hardware, images = course.recipe, course.hardware, course.images
    loss_of = make_loss(recipe.loss, state.alpha)
    epoch = len(state.history)
    batch_size = min(recipe.schedule.batch_size, len(images))
    steps = len(images) // batch_size
    augment = augmentation_of(recipe)
    watched = [row["validation_loss"] for row in state.history]
    trained = [p for p in state.network.parameters() if p.requires_grad]
    loss_sum = right = torch.zeros((), device=hardware.device)
    started = time.perf_counter()
    training_mode(state.network)
    order = epoch_order(course.labels.cpu(), recipe.data.oversample, state.generator).to(hardware.device)
    for step in range(steps):
        rate = learning_rate(epoch * steps + step, steps, recipe.optimizer.lr, recipe.schedule, watched)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        rows = order[step * batch_size : (step + 1) * batch_size]
        inputs = normalise(augment(images[rows].float() / 255, state.generator), course.preprocessing)
        inputs, targets = blend(recipe, inputs, course.targets[rows], state.generator)
        if course.teacher is not None:
            targets = course.teacher.blend(inputs, targets)

        with hardware.autocast():
            logits = state.network(inputs)
        loss = loss_of(logits, targets)
        if course.unlabelled is not None:
            loss = loss + course.unlabelled.loss(state.network, batch_size, epoch + step / steps, state.generator)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(trained, recipe.optimizer.clip_norm)
        state.optimizer.step()
        state.averaged.update()

        loss_sum = loss_sum + loss.detach()
        right = right + (logits.detach().argmax(1) == targets.argmax(1)).sum()
        if (step + 1) % LOOK_EVERY == 0 or step == steps - 1:
            seen, mean_loss = (step + 1) * batch_size, float(loss_sum) / (step + 1)
            if not np.isfinite(mean_loss):
                raise _diverged(recipe, epoch, rate)
            speed, share_right = seen / (time.perf_counter() - started), float(right) / seen
            bar.advance(
                (step % LOOK_EVERY + 1) * batch_size,
                f"epoch {epoch + 1}/{recipe.schedule.epochs} "
                f"loss {mean_loss:.3f} accuracy {share_right:.1%} {speed:,.0f} images/s",
            )
    return {"lr": rate, "loss": mean_loss, "accuracy": share_right, "images_per_s": round(speed, 1)}


def blend(recipe: Recipe, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup, cutmix, or one of the two by the toss of a coin, as the recipe says; FixMatch's labelled faces stay their own."""
    settings = recipe.augment
    if recipe.semi.method == "fixmatch":
        return inputs, targets
    cut = bool(settings.cutmix) and (not settings.mixup or bool(torch.rand((), generator=generator) < 0.5))
    if cut:
        return cutmix(inputs, targets, settings.cutmix, generator)
    if settings.mixup:
        return mixup(inputs, targets, settings.mixup, generator)
    return inputs, targets


def training_mode(network: nn.Module) -> None:
    """Training mode, but for batch norms whose weights are frozen: their running statistics stay as they are too."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
            module.eval()


@torch.no_grad()
def probabilities_of(
    network: nn.Module, images: Tensor, preprocessing: Preprocessing, hardware: Hardware, batch_size: int = 256
) -> np.ndarray:
    """uint8 (N, 1, H, W) → float32 (N, K), in evaluation mode; the network's mode is put back."""
    was_training = network.training
    network.eval()
    try:
        parts = []
        for batch in images.split(batch_size):
            with hardware.autocast():
                logits = network(normalise(batch.float() / 255, preprocessing))
            parts.append(logits.float().softmax(dim=1).cpu())
    finally:
        network.train(was_training)
    return torch.cat(parts).numpy()


def watch(
    network: nn.Module, validation: FaceSet, preprocessing: Preprocessing, hardware: Hardware
) -> dict[str, float]:
    """Loss, accuracy and macro-F1 on the validation faces."""
    images, _ = to_device(validation, hardware)
    probabilities = probabilities_of(network, images, preprocessing, hardware)
    matrix = confusion_matrix(validation.labels, probabilities.argmax(axis=1), probabilities.shape[1])
    of_truth = probabilities[np.arange(len(validation)), validation.labels]
    return {
        "validation_loss": float(log_losses(of_truth).mean()),
        "validation_accuracy": float(accuracy(matrix)),
        "validation_macro_f1": float(macro_f1(matrix)),
    }


def opening_line(header: dict[str, Any]) -> str:
    """What is trained on what and where: the console's form of the log's first line."""
    here = (header["resumed"] or [header["environment"]])[-1]
    device = here["processor"] if here["device"] == "cpu" else here["device"]
    return (
        f"{header['recipe']['network']['name']}, {header['parameters']:,} parameters, {header['training']:,} faces train, "
        f"{header['validation']:,} are watched; {device}, {here['threads']} threads, {here['precision']}, {here['started']}"
    )


def _batches_note(recipe: Recipe, count: int) -> str:
    """A line where few faces make few steps, of which many are left over; "" else."""
    batch = min(recipe.schedule.batch_size, count)
    steps, left = divmod(count, batch)
    if steps >= 10 or batch < 8:
        return ""
    smaller = max(4, 2 ** int(np.log2(max(count / 20, 4))))
    return (
        f"note: {count:,} faces make {steps} step{'s' if steps > 1 else ''} an epoch of {batch}"
        + (f", in which {left} of them are not seen" if left else "")
        + (f"; --set schedule.batch_size={smaller} makes more" if smaller < batch else "")
    )


def epoch_line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>3}/{epochs}  lr {row['lr']:.4f}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.1%}  "
        f"validation loss {row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.2%}  "
        f"macro-F1 {row['validation_macro_f1']:.3f}  {row['images_per_s']:,.0f} images/s"
    )


def _alpha(
    recipe: Recipe, rows: Rows, network: nn.Module, preprocessing: Preprocessing, hardware: Hardware
) -> list[float] | None:
    """The weights of the classes in the loss, as loss.class_weights says; None: all alike."""
    how, counts = recipe.loss.class_weights, rows.training.counts()
    if how == "none":
        return None
    if how == "validation":  # the confusions of the network as it is before the first step
        images, _ = to_device(rows.validation, hardware)
        predicted = probabilities_of(network, images, preprocessing, hardware).argmax(axis=1)
        return retuned_alpha(confusion_matrix(rows.validation.labels, predicted, len(counts)))
    if isinstance(how, str):
        return class_weights(counts, how)
    check_alpha(how, rows.training.classes)
    return list(how)


def _header(
    recipe: Recipe, hardware: Hardware, rows: Rows, state: State, saved: dict[str, Any] | None
) -> dict[str, Any]:
    """The first line of the log: what the run began with, and where it was resumed."""
    here = environment(hardware.device, hardware.precision, recipe.run.seed)
    if saved is not None:
        header = json.loads(saved["header"])
        if len(json.loads(saved["history"])) < recipe.schedule.epochs:
            header["resumed"].append(here)
        return header
    return {
        "recipe": recipe.model_dump(),
        "environment": here,
        "training": len(rows.training),
        "validation": len(rows.validation),
        "unlabelled": len(rows.unlabelled),
        "classes": list(rows.training.classes),
        "parameters": sum(p.numel() for p in state.network.parameters()),
        "alpha": state.alpha,
        "resumed": [],
    }


def _score_kept(folder: Path, recipe: Recipe, validation: FaceSet) -> None:
    """Scores of the weights that the run stands for, in float32, as `mien evaluate` gives them."""
    classifier = TorchClassifier(load_run(folder))
    scores = score(classifier.probabilities(validation.images), validation.labels, classifier.labels)
    which = ", ".join(name for name in validation.splits if name) or "held out"
    facts = {"model": recipe.name, "split": which, "tta": "none", "labels_by": recipe.data.labels}
    write_scores(folder, scores, f"{recipe.name} on {which}", facts)


def _diverged(recipe: Recipe, epoch: int, rate: float) -> TrainingDiverged:
    kept = "the epochs before are kept; " if epoch else ""
    return TrainingDiverged(
        recipe.name,
        f"the loss became NaN or infinite in epoch {epoch + 1} at a learning rate of {rate:g}",
        f"{kept}in another --out try --set optimizer.lr={recipe.optimizer.lr / 10:g}, a longer "
        f"--set schedule.warmup_epochs={recipe.schedule.warmup_epochs + 3:g}, or --set run.precision=fp32",
    )

"""Train the face detector: the loop, top to bottom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mien.analysis.detection.detectors import Detections, suppress_overlaps
from mien.analysis.detection.face_net import MIN_FACE_PX, decode_answers, draw_canvas, restore_boxes
from mien.analysis.prefetch import prefetch_items
from mien.core.errors import DataError, ModelError, OutputError
from mien.core.files import make_folder, replace_file, write_json, write_text
from mien.core.locks import hold_lock
from mien.core.progress import progress_bar
from mien.core.types import FaceSet, split_role
from mien.models.face_net import FaceNet
from mien.training.detection.evaluation import choose_threshold, collect_scores
from mien.training.detection.scenes import VARIETY, MinedPlace, Scene, SceneComposer
from mien.training.detection.targets import compute_loss, make_targets
from mien.training.hardware import Hardware
from mien.training.optimizers import AveragedNetwork, compute_learning_rate, make_optimizer
from mien.training.recipe import OptimizerSettings, ScheduleSettings

#: The checkpoint in the folder of a training.
FILE = "detector.pt"

#: Scenes for validation, and the score from which a false detection in a training photograph is mined.
VALIDATION_SCENES, MINED_SCORE = 400, 0.2

#: At most so many places are mined in one photograph.
MAX_MINED = 40

#: The threshold allows one false detection in so many validation pictures.
PICTURES_PER_FALSE = 50


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of one training.

    epochs, scenes    epochs, and scenes in each of them
    batch_size        scenes in one step
    mining_epochs     epochs before which false detections in the training photographs are mined
    lr                highest learning rate; a linear warm-up of half an epoch, then a cosine
    width, depth      of the network, see FaceNet
    """

    epochs: int = 24
    scenes: int = 12800
    batch_size: int = 32
    mining_epochs: tuple[int, ...] = (6, 12, 18)
    lr: float = 2.5e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    width: int = 48
    depth: int = 5
    seed: int = 0


def train_detector(
    faces: np.ndarray,
    validation_faces: np.ndarray,
    photographs: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    folder: Path,
    settings: DetectorSettings,
    *,
    resume: bool = False,
    threads: int = 0,
    validation_scenes: int = VALIDATION_SCENES,
    echo: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Train the detector and return the log, a row for each epoch.

    faces, validation_faces   uint8 (N, S, S), gray face crops
    photographs, held_out     gray uint8 pictures without people; those held out count false detections only
    folder                    gets log.jsonl, settings.json and detector.pt, written after each epoch
    validation_scenes         scenes that measure recall after each epoch
    resume                    go on after the last finished epoch; the result is that of an uninterrupted training

    Raises OutputError if the folder holds another training.
    """
    make_folder(folder)
    with hold_lock(folder / ".lock", folder, "wait, or choose another `out`"):
        return _train(
            SceneComposer(faces, photographs, seed=settings.seed, variety=min(VARIETY, settings.scenes)),
            _make_validation_scenes(validation_faces, held_out, settings.seed, validation_scenes),
            photographs, held_out, folder, settings, resume=resume, threads=threads, echo=echo,
        )  # fmt: skip


def _train(
    composer: SceneComposer,
    validation: list[Scene],
    photographs: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    folder: Path,
    settings: DetectorSettings,
    *,
    resume: bool,
    threads: int,
    echo: Callable[[str], None],
) -> list[dict[str, Any]]:
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    hardware = Hardware.choose()
    network = hardware.move_network(FaceNet(settings.width, settings.depth))
    schedule = ScheduleSettings(
        name="cosine", epochs=settings.epochs, batch_size=settings.batch_size, warmup_epochs=0.5
    )
    optimizer = make_optimizer(
        network, OptimizerSettings(name="adamw", lr=settings.lr, weight_decay=settings.weight_decay)
    )
    averaged = AveragedNetwork(network, settings.average)
    state = _State(network, averaged, optimizer, composer)
    log = state.load(folder, settings) if resume else []
    if not resume and (folder / FILE).exists():
        raise OutputError(folder, "holds a training already", "go on with `resume=True`, or choose another `out`")
    write_json(folder / "settings.json", asdict(settings))
    steps = max(1, settings.scenes // settings.batch_size)
    for epoch in range(len(log), settings.epochs):
        start_s = time.monotonic()
        if epoch in settings.mining_epochs:
            composer.mined = mine_places(averaged.network, photographs)
        network.train()
        losses = []
        with (
            progress_bar(f"epoch {epoch + 1}/{settings.epochs}", steps) as bar,
            prefetch_items(_compose_batches(composer, settings, epoch, steps), 4) as batches,
        ):
            for step, (images, targets) in enumerate(batches):
                rate = compute_learning_rate(epoch * steps + step, steps, settings.lr, schedule)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                with hardware.autocast():
                    answers = network(images.to(hardware.device, memory_format=torch.channels_last))
                loss = compute_loss(answers.float(), targets.to(hardware.device))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizer.step()
                averaged.update()
                losses.append(loss.item())
                bar.advance(1)
        row = {
            "epoch": epoch + 1, "loss": round(float(np.mean(losses)), 4), "mined": len(composer.mined),
            **validate(averaged.network, validation, held_out), "seconds": round(time.monotonic() - start_s, 1),
        }  # fmt: skip
        log.append(row)
        state.save(folder, settings, log)
        echo("  ".join(f"{name} {value}" for name, value in row.items()))
    return log


def _compose_batches(
    composer: SceneComposer, settings: DetectorSettings, epoch: int, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images uint8 (B, 1, S, S) and targets. A scene depends on seed, epoch and its number only."""
    for step in range(steps):
        scenes = [
            composer.compose(np.random.default_rng([settings.seed, 2, epoch, step * settings.batch_size + index]))
            for index in range(settings.batch_size)
        ]
        yield (
            torch.from_numpy(np.stack([scene.image for scene in scenes]))[:, None],
            torch.from_numpy(make_targets(scenes)),
        )


def _make_validation_scenes(faces: np.ndarray, photographs: Sequence[np.ndarray], seed: int, count: int) -> list[Scene]:
    composer = SceneComposer(faces, photographs, seed=seed + 1, variety=min(VARIETY, 16 * count))
    return [composer.compose(np.random.default_rng([seed, 3, index])) for index in range(count)]


@torch.no_grad()
def detect_gray(network: torch.nn.Module, picture: np.ndarray, threshold: float = 0.05) -> Detections:
    """Detect faces of all sizes in gray uint8 (H, W) with a torch network."""
    device = next(network.parameters()).device
    canvas, copies = draw_canvas(picture)
    answers = network.eval()(torch.from_numpy(canvas)[None, None].to(device))[0].float().cpu().numpy()
    return suppress_overlaps(Detections(*restore_boxes(*decode_answers(answers, threshold), copies, picture.shape)))


def validate(network: torch.nn.Module, scenes: Sequence[Scene], photographs: Sequence[np.ndarray]) -> dict[str, float]:
    """Return recall at the threshold that allows one false detection in PICTURES_PER_FALSE pictures, and that threshold."""
    right, false = collect_scores(lambda picture: detect_gray(network, picture), scenes, photographs, MIN_FACE_PX)
    pictures = len(scenes) + len(photographs)
    threshold = choose_threshold(false, pictures, 1 / PICTURES_PER_FALSE)
    tenth = choose_threshold(false, pictures, 0.1)
    return {
        "threshold": round(threshold, 4),
        "recall": round(float((right > threshold).mean()), 4),
        "recall_10": round(float((right > tenth).mean()), 4),
        "faces": len(right),
    }


def mine_places(network: torch.nn.Module, photographs: Sequence[np.ndarray]) -> list[MinedPlace]:
    """Return the places in photographs without people at which the network sees a face, at two scales."""
    mined = []
    for index, photograph in enumerate(photographs):
        for scale in (1.0, 0.7):
            size = tuple(max(1, round(side * scale)) for side in photograph.shape)
            scaled = photograph if scale == 1 else cv2.resize(photograph, size[::-1], interpolation=cv2.INTER_AREA)
            found = detect_gray(network, scaled, MINED_SCORE)
            for box in found.boxes_xyxy[:MAX_MINED]:
                side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
                factor = float(2 ** max(0, np.floor(np.log2(max(side, 1) / MIN_FACE_PX))))
                x, y = (box[:2] + box[2:]) / 2 / factor
                mined.append(MinedPlace(index, scale / factor, float(x), float(y)))
    return mined


@dataclass(frozen=True)
class _State:
    """What a training changes, and what a checkpoint holds of it."""

    network: nn.Module
    averaged: AveragedNetwork
    optimizer: torch.optim.Optimizer
    composer: SceneComposer

    def save(self, folder: Path, settings: DetectorSettings, log: list[dict[str, Any]]) -> None:
        """Write detector.pt and log.jsonl."""
        state = {
            "settings": asdict(settings),
            "weights": self.averaged.network.state_dict(),
            "network": self.network.state_dict(),
            "averaged_steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(),
            "mined": [(one.photograph, one.scale, one.x, one.y) for one in self.composer.mined],
            "log": log,
        }
        with replace_file(folder / FILE) as temporary, temporary.open("wb") as file:
            torch.save(state, file)
        write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))

    def load(self, folder: Path, settings: DetectorSettings) -> list[dict[str, Any]]:
        """Restore the state after the last finished epoch and return the log; an empty folder starts anew."""
        if not (folder / FILE).exists():
            return []
        state = _read_state(folder)
        stored = {**state["settings"], "mining_epochs": tuple(state["settings"]["mining_epochs"])}
        if stored != asdict(settings):
            raise OutputError(folder, "holds a training with other settings", "choose another `out`")
        self.network.load_state_dict(state["network"])
        self.averaged.network.load_state_dict(state["weights"])
        self.averaged.steps = state["averaged_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.composer.mined = [MinedPlace(int(one[0]), *map(float, one[1:])) for one in state["mined"]]
        log: list[dict[str, Any]] = state["log"]
        return log


def _read_state(folder: Path) -> dict[str, Any]:
    """Return the contents of a training's checkpoint. Raises ModelError if there is none, or a damaged one."""
    path = folder / FILE
    if not path.is_file():
        raise ModelError(path, "does not exist", "train a detector with 'mien train-detector'")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        raise ModelError(path, "is not a readable checkpoint", "train again in another folder") from error
    return state


def split_faces(faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the validation faces, uint8 (N, S, S), without those that FER+'s annotators call no face.

    A split named for validation is held out; without one, every tenth face is. Faces of a test split are left out.

    Raises DataError if either is empty.
    """
    is_face = np.ones(len(faces), bool) if faces.votes is None else faces.votes[:, -1] == 0
    roles = np.array([split_role(name) for name in faces.split])
    is_held_out = roles == "validation"
    if not is_held_out.any():
        is_held_out = np.arange(len(faces)) % 10 == 9
    training = faces.images[is_face & ~is_held_out & (roles != "test")]
    validation = faces.images[is_face & is_held_out & (roles != "test")]
    if not len(training) or not len(validation):
        found = f"gives {len(training)} faces for training and {len(validation)} for validation"
        raise DataError("`data`", found, "name a larger data set")
    return training, validation


def load_detector(folder: Path) -> FaceNet:
    """Return the averaged network of a training's folder. Raises ModelError without one, or for a damaged one."""
    state = _read_state(folder)
    network = FaceNet(state["settings"]["width"], state["settings"]["depth"])
    network.load_state_dict(state["weights"])
    return network.eval()

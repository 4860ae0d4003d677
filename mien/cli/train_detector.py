"""`mien train-detector`: train mien's own face detector and write its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli.loaders import read_data, refuse_overwrite
from mien.cli.messages import emit
from mien.cli.options import Data, Json, Quiet, Seed
from mien.core.progress import echo
from mien.training.scoring.classifiers import require_torch

#: Name of the detector's file in the run folder.
FILE = "face.onnx"

Photographs = Annotated[
    list[Path],
    typer.Option("--photographs", help="Folder of photographs without people, as backgrounds; repeat it for several."),
]
Judge = Annotated[
    Path | None,
    typer.Option(
        "--judge", help="A YuNet file: photographs in which it finds a face are left out. Default: YuNet, if pulled."
    ),
]


def train_detector(
    data: Data,
    photographs: Photographs = [],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/detector"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs. Default: 24.")] = None,
    scenes: Annotated[int | None, typer.Option(min=64, help="Scenes per epoch. Default: 12800.")] = None,
    judge: Judge = None,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0: all cores.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a face detector and write its ONNX file.

    Faces of the data are pasted with drawn heads onto photographs without people, beside decoys that are not faces. False
    detections are hard negatives of the next epochs. The run folder gets settings.json, log.jsonl, detector.pt after every
    epoch, and face.onnx at the end: --detector-model of 'mien analyze' takes it.
    """
    require_torch()
    from dataclasses import asdict, replace

    from mien.analysis.detection.detectors import make_detector
    from mien.analysis.inference.model_file import find_pulled_model
    from mien.training.detection.export import export_detector
    from mien.training.detection.photographs import collect_photographs
    from mien.training.detection.train import DetectorSettings, load_detector, split_faces
    from mien.training.detection.train import train_detector as run_training

    silent = quiet or as_json
    settings = DetectorSettings(seed=seed)
    settings = replace(settings, epochs=epochs or settings.epochs, scenes=scenes or settings.scenes)
    refuse_overwrite(out, data, writes=("settings.json", FILE))
    faces = read_data(data, size=48, skip_bad=False, quiet=silent)
    training, validation = split_faces(faces)
    judge = judge or find_pulled_model("yunet")
    backgrounds, held_out = collect_photographs(
        photographs,
        None if judge is None else make_detector("yunet", judge, threads=threads),
        (lambda text: None) if silent else echo,
    )
    log = run_training(
        training, validation, backgrounds, held_out, out, settings,
        resume=resume, threads=threads, echo=(lambda text: None) if silent else echo,
    )  # fmt: skip
    last = log[-1]
    facts: dict[str, Any] = {
        "name": "face", "license": "not stated", "scores": last,
        "training": {"faces": len(training), "photographs": len(backgrounds), "settings": asdict(settings)},
    }  # fmt: skip
    difference = export_detector(load_detector(out), out / FILE, threshold=last["threshold"], facts=facts)
    text = (
        f"{out / FILE}: recall {last['recall']:.1%} of {last['faces']} validation faces at the threshold {last['threshold']}; "
        f"next: mien analyze PHOTO --detector-model {out / FILE}"
    )
    emit({"file": str(out / FILE), "difference": difference, **last}, text, as_json=as_json, quiet=quiet)

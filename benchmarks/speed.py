"""Speed and memory on this machine: several runs, medians and ranges, with hardware and versions.

python benchmarks/speed.py                 all but memory and networks
python benchmarks/speed.py training csv    some of: training networks classify detect start csv video memory
python benchmarks/speed.py --tiny          as little as shows that everything runs; its figures say nothing
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from clips import ASTRONAUT, make_clip
from data_files import YUNET, find_data_file, require_data_file

from mien.core.types import FaceSet
from mien.data.readers import load_faces, save_faces
from mien.training.runs.environment import PACKAGES, describe_processor

ROOT = Path(__file__).resolve().parent.parent


#: Whether as little as possible is measured.
TINY = False


def choose_count(usual: int, tiny: int = 1) -> int:
    """How many of something: runs, faces, seconds."""
    return tiny if TINY else usual


def format_spread(values: list[float], form: str = "{:,.2f}") -> str:
    """``median (lowest to highest of n)``."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high}, {len(values)} runs)"


def measure_time(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


#: Starts a command and prints its seconds and peak memory. It runs in a small process of its own, since a child's peak
#: begins at the size of the process that starts it.
MEASURE = """
import os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - started, usage.ru_maxrss / 1024)
sys.exit(1 if status else 0)
"""


def time_process(command: list[str]) -> tuple[float, float]:
    """(seconds, peak MB) of a process, as the operating system counts them."""
    done = subprocess.run([sys.executable, "-c", MEASURE, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


def make_noise(count: int) -> FaceSet:
    """Faces of noise: speed does not depend on what they show."""
    rng = np.random.default_rng(0)
    from mien.core.labels import FER2013

    return FaceSet(rng.integers(0, 256, (count, 48, 48), dtype=np.uint8), rng.integers(0, 7, count), FER2013,
                   np.array([f"{row}" for row in range(count)]), np.full(count, "Training"))  # fmt: skip


def training() -> None:
    """The rate of train_epoch against the bare forward-backward-step of the same network on one ready batch."""
    import torch

    from mien.core.memory import retain_freed_memory
    from mien.core.progress import progress_bar
    from mien.models import build_network
    from mien.training.epoch import TrainingContext, initial_state, train_epoch
    from mien.training.hardware import Hardware
    from mien.training.losses import make_loss
    from mien.training.preparation import make_preprocessing, move_to_device
    from mien.training.recipe import load_recipe
    from mien.training.targets import make_targets

    steps = choose_count(20)
    recipe, faces, hardware = load_recipe("base"), make_noise(128 * steps), Hardware.choose()
    retain_freed_memory()
    loss = make_loss(recipe.loss)
    network = build_network(recipe.network.name, num_classes=7, **recipe.network.arguments)
    network = network.to(hardware.device, memory_format=torch.channels_last)
    state, (images, labels) = initial_state(recipe, network), move_to_device(faces, hardware)
    targets = make_targets(faces, recipe.targets).to(hardware.device)
    context = TrainingContext(recipe, hardware, make_preprocessing(recipe, faces), images, labels, targets)
    batch = torch.randn(128, 1, 48, 48, device=hardware.device).contiguous(memory_format=torch.channels_last)

    def bare() -> float:
        network.train()
        started = time.perf_counter()
        for _ in range(steps):
            with hardware.autocast():
                logits = network(batch)
            state.optimizer.zero_grad(set_to_none=True)
            loss(logits, targets[:128]).backward()
            state.optimizer.step()
        if hardware.device.type == "cuda":
            torch.cuda.synchronize()
        return 128 * steps / (time.perf_counter() - started)

    def whole() -> float:
        with progress_bar("", None, quiet=True) as bar:
            return train_epoch(context, state, bar)["images_per_s"]

    bare(), whole()  # the first round chooses kernels
    pairs = [(bare(), whole()) for _ in range(choose_count(5))]
    print(f"training, base, batch 128, {hardware.precision} on {hardware.device.type}:")
    print(f"  bare forward-backward-step  {format_spread([a for a, _ in pairs], '{:,.0f}')} images/s")
    print(f"  the training loop, all in   {format_spread([b for _, b in pairs], '{:,.0f}')} images/s")
    print(f"  ratio                       {format_spread([b / a for a, b in pairs])}")


#: What training does beside torch's own, one after the other.
WAYS = ("as torch is", "freed memory kept", "and small convolutions as products")


def step_rate(name: str, way: int) -> float:
    """images/s of forward, backward and step of one network, batch 128, in this process, up to so many of WAYS."""
    import torch

    from mien.core.memory import retain_freed_memory
    from mien.models import build_network
    from mien.training.convolution import replace_large_convolutions
    from mien.training.hardware import Hardware

    if way >= 1:
        retain_freed_memory()
    hardware = Hardware.choose()
    network = (
        build_network(name, num_classes=7, channels=1).to(hardware.device, memory_format=torch.channels_last).train()
    )
    if way >= 2:
        replace_large_convolutions(network, hardware)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    faces, steps = choose_count(128, 4), choose_count(8)
    batch = torch.randn(faces, 1, 48, 48, device=hardware.device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 7, (faces,), device=hardware.device)
    for step in range(steps + 2):
        if step == 2:  # the first two choose kernels
            started = time.perf_counter()
        with hardware.autocast():
            logits = network(batch)
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
    if hardware.device.type == "cuda":
        torch.cuda.synchronize()
    return faces * steps / (time.perf_counter() - started)


def networks() -> None:
    """Every network's rate, each in fresh processes, as torch is and with what training adds to it."""
    from mien.models import MODELS

    print("forward, backward and step, batch 128, images/s:", ", ".join(WAYS))
    sized = [name for name in MODELS if name != "residual"]
    for name in sized[: choose_count(len(sized))]:
        found = {way: [] for way in range(len(WAYS))}
        for way in [*found] * choose_count(3):
            code = f"import speed; speed.TINY = {TINY}; print(speed.step_rate({name!r}, {way}))"
            done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True,
                                  check=True)  # fmt: skip
            found[way].append(float(done.stdout))
        print(f"  {name:<12}", "  ".join(format_spread(values, "{:,.0f}") for values in found.values()), flush=True)


#: Crops that are given at once.
BATCHES = (1, 8, 64)


def rates(action: Callable[[np.ndarray], object], crops: np.ndarray) -> None:
    """Prints crops/s at each batch size; the first tenth of the runs warms up."""
    for batch in BATCHES:
        many = choose_count(220 if batch == 1 else 55, 2)
        runs = [batch / measure_time(lambda: action(crops[:batch])) for _ in range(many)]  # noqa: B023 - called at once
        print(f"    batch {batch:<3} {format_spread(runs[many // 10 :], '{:,.0f}')} crops/s", flush=True)


def classify() -> None:
    """Shipped models in float and int8 through Recognizer, pre-processing included, beside mini-XCEPTION."""
    from mien import Recognizer
    from mien.analysis.inference.model_file import int8_path, list_shipped_models, open_session
    from mien.analysis.inference.precision import find_int8_instructions

    crops = make_noise(64).images
    print(f"classification; instructions for int8: {', '.join(find_int8_instructions()) or 'none'}")
    for name, path in list_shipped_models().items():
        for precision in ("float", "int8") if int8_path(path).is_file() else ("float",):
            recognizer = Recognizer(name, detector="none", precision=precision)
            print(
                f"  {name}, {precision}, {recognizer.classifier.path.stat().st_size / 1e6:.1f} MB, through Recognizer"
            )
            rates(recognizer.classify, crops)
    import mini_xception

    with tempfile.TemporaryDirectory() as folder:
        for size in (48, 64)[: choose_count(2)]:
            path = Path(folder) / f"{size}.onnx"
            weights = mini_xception.write(path, size)
            session, larger = open_session(path), np.repeat(np.repeat(crops, 2, 1), 2, 2)[:, :size, :size]

            def run(images: np.ndarray, session=session) -> None:  # scaled to -1..1, as its authors do
                session.run(None, {"images": ((images / np.float32(255) - np.float32(0.5)) * 2)[:, None]})

            print(f"  mini-XCEPTION, float, {weights:,} weights, {size} x {size}")
            rates(run, larger)


def detect() -> None:
    """Haar, and YuNet as we run it beside OpenCV's own, on the astronaut."""
    from mien.analysis.detection.detectors import HaarDetector, YuNetDetector
    from mien.core.pictures import read_picture

    print("detection, ms a picture:")
    photo = read_picture(ASTRONAUT)
    haar = HaarDetector()
    for size_wh in ((320, 180), (640, 360), (640, 640)):
        picture = cv2.resize(photo, size_wh, interpolation=cv2.INTER_AREA)
        actions = {"Haar": lambda: haar.detect(picture)}  # noqa: B023 - called at once
        if "yunet" in detectors():
            yunet = YuNetDetector(require_data_file(YUNET))
            opencv = cv2.FaceDetectorYN.create(str(require_data_file(YUNET)), "", size_wh)
            actions["YuNet"] = lambda: yunet.detect(picture)  # noqa: B023
            actions["YuNet by OpenCV"] = lambda: opencv.detect(picture)  # noqa: B023
        for name, action in actions.items():
            runs = [1000 * measure_time(action) for _ in range(choose_count(33, 4))][3:]
            print(f"  {name:16} {size_wh[0]} x {size_wh[1]}  {format_spread(runs, '{:.1f}')}", flush=True)


def start() -> None:
    with tempfile.TemporaryDirectory() as folder:
        analyze = [sys.executable, "-m", "mien.cli.main", "analyze", str(ASTRONAUT), "--out", folder]
        time_process(analyze)
        runs = [time_process(analyze) for _ in range(choose_count(7))]
    empty = [time_process([sys.executable, "-c", "pass"])[0] for _ in range(choose_count(7))]
    light = [time_process([sys.executable, "-c", "import mien"])[0] for _ in range(choose_count(7))]
    print("start:")
    print(f"  python -c pass                      {format_spread(empty)} s")
    print(f"  python -c 'import mien'             {format_spread(light)} s")
    print(
        f"  mien analyze examples/astronaut.jpg {format_spread([s for s, _ in runs])} s, {format_spread([m for _, m in runs], '{:,.0f}')} MB"
    )


def csv() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fer2013.csv"
        faces = make_noise(choose_count(32_298, 100))
        save_faces(faces, path)
        code = f"from mien.data import load_faces; assert len(load_faces({str(path)!r})) == {len(faces)}"
        time_process([sys.executable, "-c", code])
        runs = [time_process([sys.executable, "-c", code]) for _ in range(choose_count(5))]
        inside = [measure_time(lambda: load_faces(path)) for _ in range(choose_count(3))]
        print(f"Kaggle CSV of {len(faces):,} rows, {path.stat().st_size / 1e6:,.0f} MB:")
    print(f"  load_faces       {format_spread(inside)} s")
    print(
        f"  whole process    {format_spread([s for s, _ in runs])} s, {format_spread([m for _, m in runs], '{:,.0f}')} MB at its peak"
    )


def analyze_video(clip: Path, detector: str, *more: str) -> tuple[float, float]:
    """(seconds, peak MB) of `mien analyze` of a video."""
    if detector == "yunet":
        more = (*more, "--detector-model", str(require_data_file(YUNET)))
    command = [sys.executable, "-m", "mien.cli.main", "analyze", str(clip), "--out", str(clip.parent)]
    return time_process([*command, "--detector", detector, *more])


def detectors() -> tuple[str, ...]:
    """YuNet, whose file is needed unless all is tiny, and Haar."""
    return ("haar",) if TINY and find_data_file(YUNET) is None else ("yunet", "haar")


def video() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip, seconds = Path(folder) / "clip.mp4", choose_count(10)
        make_clip(clip, seconds=seconds, size_wh=(640, 480), fps=Fraction(30))
        print(f"video, {seconds} s of 640 x 480 at 30 frames/s, one face, start included:")
        for detector in detectors():
            for name, more in (("with annotated video", []), ("records only", ["--no-media"])):
                rates = [30 * seconds / analyze_video(clip, detector, *more)[0] for _ in range(choose_count(3))]
                print(f"  {detector:<5} {name:<21} {format_spread(rates, '{:,.1f}')} frames/s", flush=True)


def memory() -> None:
    """A long video against a short one, with all outputs: as many frames a second, thirty times as long."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = []
        for minutes in (1, 30):
            clip = Path(folder) / f"clip{minutes}.mp4"
            make_clip(clip, seconds=choose_count(60 * minutes, minutes // 10 + 1), size_wh=(640, 480), fps=Fraction(10))
            seconds, peak = analyze_video(clip, detectors()[0])
            peaks.append(peak)
            print(
                f"  {minutes} min of 640 x 480, 10 frames/s: {seconds:,.0f} s, {peak:,.0f} MB at its peak", flush=True
            )
        print(f"  ratio {peaks[1] / peaks[0]:.3f}")


PARTS = {
    "training": training,
    "networks": networks,
    "classify": classify,
    "detect": detect,
    "start": start,
    "csv": csv,
    "video": video,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that everything runs")
    options = parser.parse_args()
    global TINY
    TINY = options.tiny
    parts = options.parts or [name for name in PARTS if TINY or name not in ("memory", "networks")]
    from importlib.metadata import version

    print(f"{describe_processor()}, {os.cpu_count()} cores; Python {sys.version.split()[0]}, "
          + ", ".join(f"{name} {version(name)}" for name in PACKAGES))  # fmt: skip
    for name in parts:
        PARTS[name]()


if __name__ == "__main__":
    main()

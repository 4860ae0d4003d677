"""Footage with known truth: people who move, cross, leave, come back, are hidden, come nearer; and a cut.

python benchmarks/people.py track [--detector yunet] [--detector-model FILE]     how well they are followed
python benchmarks/people.py speed [--seconds 60] [--runs 3]                      frames a second, stage by stage
python benchmarks/people.py write OUT.mp4 --scene walking --seconds 60           such a clip with sound
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from clips import ASTRONAUT, make_clip
from data_files import YUNET, find_data_file

from mien.analysis.detection.detectors import HaarDetector
from mien.analysis.media.yuv import YuvImage
from mien.analysis.tracking.tracker import pairwise_iou
from mien.core.pictures import read_picture

SIZE_WH, FPS = (1280, 720), 30

#: Where a person is at a time: center x, center y and side of the face in pixels; None where it is not in the picture.
Way = Callable[[float], tuple[float, float, float] | None]


@dataclass(frozen=True)
class Actor:
    """A head cut out of a photograph, RGB (S, S, 3), with its soft outline (S, S, 1) and the face's side over S."""

    head: np.ndarray
    outline: np.ndarray
    face: float


@dataclass(frozen=True)
class Scene:
    """Who goes which way; ``back`` is the ground they stand before at a time; what is drawn last is in front."""

    ways: tuple[Way, ...]
    ground: Callable[[float], int] = lambda time_s: 0
    pillar: tuple[int, int] | None = None  # x from, to: something that hides who is behind it


def make_actors(photos: list[Path]) -> list[Actor]:
    """Two persons: of one photograph the second is its mirror image in other colors."""
    found = [_make_actor(read_picture(photo)) for photo in photos[:2]]
    if len(found) == 1:
        other = cv2.cvtColor(found[0].head[:, ::-1], cv2.COLOR_RGB2HSV).astype(int)
        other[..., 0] = (other[..., 0] + 18) % 180
        other[..., 2] = np.clip(other[..., 2] * 0.75, 0, 255)
        head = cv2.cvtColor(other.astype(np.uint8), cv2.COLOR_HSV2RGB)
        found.append(Actor(head, found[0].outline, found[0].face))
    return found


def _make_actor(photo: np.ndarray) -> Actor:
    boxes = HaarDetector().detect(photo).boxes_xyxy
    if not len(boxes):
        raise SystemExit("no face in the photograph; name others with --photos")
    x1, y1, x2, y2 = boxes[0]
    side, reach = float(x2 - x1), 0.95  # the head reaches this far from the face's center, in its sides
    x, y, half = (x1 + x2) / 2, (y1 + y2) / 2, side * reach
    matrix = np.array(
        [[300 / (2 * half), 0, -(x - half) * 150 / half], [0, 300 / (2 * half), -(y - half) * 150 / half]]
    )
    head = cv2.warpAffine(photo, matrix, (300, 300), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
    far = np.sqrt((columns / 0.85) ** 2 + (rows / 0.98) ** 2)
    return Actor(head, np.clip((1 - far) * 8, 0, 1).astype(np.float32)[..., None], 1 / (2 * reach))


def _interpolate(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _move_to_and_fro(turns: float) -> float:
    """0 to 1 and back again."""
    return 1 - abs(1 - turns % 2)


SCENES: dict[str, Scene] = {
    "walking": Scene((
        lambda t: (350 + 180 * np.sin(0.9 * t), 330 + 60 * np.sin(1.7 * t), 150 + 25 * np.sin(0.5 * t)),
        lambda t: (930 + 160 * np.sin(1.1 * t + 1), 360 + 70 * np.sin(1.3 * t), 130 + 20 * np.sin(0.7 * t)),
    )),
    "crossing": Scene((
        lambda t: (_interpolate(250, 1030, _move_to_and_fro(t / 10)), 360, 130),
        lambda t: (_interpolate(1030, 250, _move_to_and_fro(t / 10)), 375, 170),
    )),
    "returning": Scene((
        lambda t: (400, 360, 140),
        lambda t: None if 4 < t % 10 < 6 else (900, 360, 140),
    )),
    "leaving": Scene((
        lambda t: (_interpolate(300, 1700, _move_to_and_fro(t / 4)), 360, 150),
        lambda t: (300, 250, 110),
    )),
    "cut": Scene((lambda t: (400, 360, 150), lambda t: (900, 340, 150)), ground=lambda t: int(t // 4) % 2),
    "hidden": Scene((lambda t: (_interpolate(250, 1030, _move_to_and_fro(t / 8)), 360, 140),), pillar=(600, 700)),
    "nearing": Scene((
        lambda t: (400, 360, 60 + 120 * (1 - np.cos(0.8 * t)) / 2),
        lambda t: (900, 360, 260 - 180 * (1 - np.cos(0.6 * t)) / 2),
    )),
}  # fmt: skip


#: Number of the actor, box of the face (4,), and the share of it that is to be seen.
Truth = tuple[int, np.ndarray, float]


def render_frames(
    scene: Scene, seconds: float, people: list[Actor], every: int = 1
) -> Iterator[tuple[np.ndarray, list[Truth]]]:
    """RGB frames and who is where; ``every``: only each second frame (2), each third (3) and so on."""
    rng = np.random.default_rng(5)
    grounds = [
        cv2.resize(rng.integers(low, low + 90, (9, 16, 3), np.uint8), SIZE_WH, interpolation=cv2.INTER_CUBIC)
        for low in (40, 150)
    ]
    for number in range(0, round(seconds * FPS), every):
        time_s = number / FPS
        picture, truth = grounds[scene.ground(time_s)].copy(), []
        covered = np.zeros(SIZE_WH[::-1], bool)
        placed = [(index, way(time_s)) for index, way in enumerate(scene.ways)]
        for index, place in placed:
            if place is not None:
                _paste_actor(picture, people[index % len(people)], *place)
        if scene.pillar:
            left, right = scene.pillar
            picture[:, left:right] = (90, 70, 60)
            covered[:, left:right] = True
        for index, place in reversed(placed):  # from the front to the back
            if place is None:
                continue
            x, y, side = place
            box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
            left, top, right, bottom = np.clip(box.round(), 0, np.array(SIZE_WH * 2)).astype(int)
            seen = (~covered[top:bottom, left:right]).sum() / side**2
            covered[top:bottom, left:right] = True
            truth.append((index, box, seen))
        yield picture, truth


def _paste_actor(picture: np.ndarray, actor: Actor, x: float, y: float, side: float) -> None:
    scale = side / actor.face / actor.head.shape[0]
    half = side / actor.face / 2
    matrix = np.array([[scale, 0, x - half], [0, scale, y - half]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = max(0, int(x - half)), max(0, int(y - half))
    right, bottom = min(SIZE_WH[0], int(x + half) + 1), min(SIZE_WH[1], int(y + half) + 1)
    if left >= right or top >= bottom:
        return
    matrix[:, 2] -= left, top
    size_wh = right - left, bottom - top
    head = cv2.warpAffine(actor.head, matrix, size_wh, flags=flags)
    outline = cv2.warpAffine(actor.outline, matrix, size_wh)[..., None]
    part = picture[top:bottom, left:right]
    part[:] = (part * (1 - outline) + head * outline).astype(np.uint8)


@dataclass
class Account:
    """What CLEAR MOT counts (Bernardin & Stiefelhagen, 2008), boxes of one face overlapping by at least 0.4."""

    truths: int = 0
    missed: int = 0
    false: int = 0
    switches: int = 0
    numbers: int = 0

    @property
    def mota(self) -> float:
        return 1 - (self.missed + self.false + self.switches) / max(self.truths, 1)


def count_errors(truth: list[list[Truth]], found: list[list[tuple[int, np.ndarray]]]) -> Account:
    """Truth and answer (number, box) of every frame; the pairs that overlap most are taken first.

    Who is seen by less than six tenths need not be found, and may be.
    """
    total, last, numbers = Account(), {}, set()
    for wanted, given in zip(truth, found, strict=True):
        overlap = pairwise_iou(
            np.array([box for _, box, _ in wanted]).reshape(-1, 4), np.array([box for _, box in given]).reshape(-1, 4)
        )
        certain = {row for row, (_, _, seen) in enumerate(wanted) if seen >= 0.6}
        matched, pairs = 0, 0
        while overlap.size and overlap.max() >= 0.4:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            overlap[row], overlap[:, column] = 0, 0
            pairs += 1
            if row in certain:
                person, number = wanted[row][0], given[column][0]
                total.switches += last.get(person, number) != number
                last[person] = number
                matched += 1
        numbers.update(number for number, _ in given)
        total.truths += len(certain)
        total.missed += len(certain) - matched
        total.false += len(given) - pairs
    total.numbers = len(numbers)
    return total


def measure_tracking(options: argparse.Namespace) -> None:
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.tracking.follower import Follower

    people = make_actors(options.photos)
    print(
        "| scene | people | MOTA | missed | false | switches | tracks | searched |\n|---|---|---|---|---|---|---|---|"
    )
    for name, scene in SCENES.items():
        recognizer = Recognizer("base", detector=options.detector, detector_model=options.detector_model)
        finder, follower, truth, found = recognizer.make_face_finder(), Follower(), [], []
        count = 0
        for count, (picture, known) in enumerate(render_frames(scene, options.seconds or 20, people), 1):
            time_s, frame = (count - 1) / FPS, YuvImage.from_rgb(picture)  # as videos give them
            seen = finder.find_faces(frame, time_s)
            faces = follower.follow_faces(recognizer.classify_faces([frame], [seen])[0], time_s, finder.was_cut, frame)
            truth.append(known)
            found.append([(face.track, np.array(face.box_xyxy)) for face in faces])
        result = count_errors(truth, found)
        print(f"| {name} | {len(scene.ways)} | {result.mota:.3f} | {result.missed / result.truths:.1%} | "
              f"{result.false / result.truths:.1%} | {result.switches} | {result.numbers} | {finder.search_count / count:.0%} |")  # fmt: skip


def measure_speed(options: argparse.Namespace) -> None:
    from mien.analysis.media.inputs import Input
    from mien.analysis.pipeline import analyze_input
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.settings import OUTPUTS, AnalysisContext, AnalysisOptions

    seconds = options.seconds or 60
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "walking.mp4"
        write_scene(clip, "walking", seconds, options.photos)
        _measure_stages(clip, options)
        for detector in dict.fromkeys((options.detector, "haar")):
            file = options.detector_model if detector == "yunet" else None
            recognizer = Recognizer("base", detector=detector, detector_model=file)
            for media in (True, False):
                rates = []
                for _ in range(options.runs):
                    started = time.perf_counter()
                    done = analyze_input(
                        Input(clip, Path("clip")),
                        recognizer,
                        AnalysisContext(
                            Path(folder) / "out",
                            AnalysisOptions(outputs=OUTPUTS if media else OUTPUTS[1:]),
                            quiet=True,
                        ),
                    )
                    rates.append(done.frames / (time.perf_counter() - started))
                kind = "annotated H.264" if media else "records alone"
                print(
                    f"{detector:6} {kind:16} {statistics.median(rates):6.0f} frames/s ({min(rates):.0f} to {max(rates):.0f})"
                )
        rate = _run_plain_loop(clip)
        print(f"plain loop (OpenCV, Haar on every frame, one crop at a time) {rate:6.1f} frames/s")


def _measure_stages(clip: Path, options: argparse.Namespace) -> None:
    """Milliseconds a frame of each stage alone, in as many threads as it has beside the others, on up to 300 frames."""
    from mien.analysis.media.video_reader import VideoSource
    from mien.analysis.media.video_writer import PartWriter
    from mien.analysis.media.yuv import FrameFormat
    from mien.analysis.output.annotate import annotate_frame
    from mien.analysis.output.writers import make_records
    from mien.analysis.prefetch import limit_opencv_threads
    from mien.analysis.recognizer import Recognizer
    from mien.analysis.tracking.follower import Follower
    from mien.core.types import FrameResult

    recognizer = Recognizer("base", detector=options.detector, detector_model=options.detector_model)
    recognizer = recognizer.for_streaming()
    spent: dict[str, float] = {}

    def clocked(name: str, action: Callable[..., object], *arguments: object) -> object:
        started = time.perf_counter()
        result = action(*arguments)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        return result

    with limit_opencv_threads(), VideoSource(clip) as source, tempfile.TemporaryDirectory() as folder:
        stream, read = source.frames(), []
        while len(read) < 300 and (frame := clocked("decode", next, stream, None)) is not None:
            read.append(frame)
        finder, follower = recognizer.make_face_finder(), Follower()
        writer = PartWriter(Path(folder) / "part.nut", source, FrameFormat.from_image(read[0].image))
        for start in range(0, len(read), 5):
            batch = read[start : start + 5]
            found = [clocked("find", finder.find_faces, frame.image, frame.time_s) for frame in batch]
            faces = clocked("classify", recognizer.classify_faces, [frame.image for frame in batch], found)
            for frame, one in zip(batch, faces, strict=True):
                followed = clocked("follow", follower.follow_faces, one, frame.time_s, False, frame.image)
                result = FrameResult("clip", frame.index, frame.time_s, SIZE_WH, tuple(followed))
                clocked("records", make_records, result, "base", "yunet")
                drawn = clocked("draw", annotate_frame, frame.image, followed)
                clocked("encode", writer.write, frame.pts, drawn)
        writer.close()
    print(f"{options.detector}, ms a frame: " + ", ".join(f"{name} {1000 * s / len(read):.2f}" for name, s in spent.items())
          + f"; {finder.search_count / len(read):.0%} of the frames were searched")  # fmt: skip


def _run_plain_loop(clip: Path, most: int = 150) -> float:
    from mien.analysis.inference.classifier import Classifier

    classifier, cascade = Classifier("base"), HaarDetector()
    capture, count, started = cv2.VideoCapture(str(clip)), 0, time.perf_counter()
    while count < most:
        there, picture = capture.read()
        if not there:
            break
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        for x1, y1, x2, y2 in cascade.detect(picture).boxes_xyxy.astype(int):
            classifier.probabilities(cv2.resize(picture[y1:y2, x1:x2], (48, 48))[None])
        count += 1
    return count / (time.perf_counter() - started)


def write_scene(path: Path, scene: str, seconds: float, photos: list[Path]) -> None:
    pictures = (picture for picture, _ in render_frames(SCENES[scene], seconds, make_actors(photos)))
    make_clip(path, seconds=seconds, size_wh=SIZE_WH, fps=Fraction(FPS), pictures=pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["track", "speed", "write"])
    parser.add_argument("out", type=Path, nargs="?", help="the clip, for write")
    parser.add_argument("--scene", choices=SCENES, default="walking")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--photos", type=Path, nargs="+", default=[ASTRONAUT], help="photographs of one face each")
    parser.add_argument("--detector", choices=["yunet", "haar"], default="yunet" if find_data_file(YUNET) else "haar")
    parser.add_argument("--detector-model", type=Path, default=find_data_file(YUNET))
    options = parser.parse_args()
    if options.detector == "haar":
        options.detector_model = None
    if options.what == "write":
        write_scene(options.out, options.scene, options.seconds or 60, options.photos)
    else:
        {"track": measure_tracking, "speed": measure_speed}[options.what](options)


if __name__ == "__main__":
    main()

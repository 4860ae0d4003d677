"""The kinds of files that benchmarks/mutated.py damages: how valid ones are made, how they are changed, and what reads them."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from PIL import Image

#: A data set, a model and records of so many faces and labels: small files are damaged more thoroughly.
FACES, LABELS = 14, ("angry", "happy", "sad")


@dataclass(frozen=True)
class Kind:
    """weight: share of all files. make: name → bytes of valid files; a name with a slash lies in a folder, which is read whole."""

    name: str
    weight: int
    make: Callable[[], dict[str, bytes]]
    read: Callable[[Path], None]


@cache
def make_valid_files(name: str) -> dict[str, bytes]:
    """The valid files of a kind, made once."""
    return KINDS[name].make()


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three changes; ``other`` is a valid file of the same kind."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not changed:
            break
        # Half of the time where the headers are.
        place = rng.randrange(min(len(changed), 200) if rng.random() < 0.5 else len(changed))
        length = min(rng.choice((1, 4, 16, 100, 1000)), len(changed) - place)
        change = rng.randrange(8)
        if change <= 1:
            for _ in range(rng.choice((1, 3, 10, 100))):
                changed[min(len(changed) - 1, place + rng.randrange(200))] = rng.choice(
                    (0, 255, 127, 128, rng.randrange(256))
                )
        elif change == 2:
            del changed[place:]
        elif change == 3:
            del changed[place : place + length]
        elif change == 4:
            changed[place:place] = changed[place : place + length]
        elif change == 5:
            changed[place : place + length] = bytes(length)
        elif change == 6:
            begin = rng.randrange(max(1, len(other)))
            changed[place : place + length] = other[begin : begin + length]
        else:
            head = rng.choice((8, 32, 128))
            changed[:head] = other[:head]
    return bytes(changed)


def mutate_files(kind: Kind, rng: random.Random, folder: Path) -> Path:
    """A damaged file of a kind in ``folder``, or a folder of them; what was there before is removed."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    files = make_valid_files(kind.name)
    name = rng.choice(sorted(files))
    root = name.partition("/")[0]
    together = [other for other in files if "/" in name and other.startswith(f"{root}/")] or [name]
    damaged = {name, rng.choice(together)}
    for one in together:
        path = folder / one
        path.parent.mkdir(parents=True, exist_ok=True)
        other = files[rng.choice(sorted(files))]
        path.write_bytes(mutate(files[one], other, rng) if one in damaged else files[one])
    return folder / root


def _pictures() -> dict[str, bytes]:
    y, x = np.mgrid[:48, :64]
    noise = np.random.default_rng(0).integers(0, 40, (48, 64, 4))
    color = Image.fromarray(
        np.clip(np.dstack([x * 4, y * 5, 255 - x * 4, y * 5]) // 2 + noise, 0, 255).astype(np.uint8)
    )
    plain, deep = color.convert("RGB"), Image.fromarray((np.asarray(color)[..., 0].astype(np.uint16)) * 257)
    moving = {"save_all": True, "append_images": [plain.rotate(angle) for angle in (90, 180)], "duration": 80}
    profile = {"icc_profile": _profile(), "exif": _exif()}
    wanted = [
        ("a.jpg", plain, "jpeg", profile), ("b.jpg", plain, "jpeg", {"progressive": True}), ("c.jpg", plain.convert("CMYK"), "jpeg", {}),
        ("a.png", color, "png", profile), ("b.png", deep, "png", {}), ("c.png", plain.convert("P"), "png", {}),
        ("d.png", plain, "png", moving), ("a.gif", plain, "gif", {}), ("b.gif", plain, "gif", moving),
        ("a.webp", color, "webp", profile), ("b.webp", plain, "webp", {"lossless": True}), ("c.webp", plain, "webp", moving),
        ("a.bmp", plain, "bmp", {}), ("a.tif", plain, "tiff", profile), ("b.tif", plain, "tiff", {"compression": "tiff_lzw"}),
        ("c.tif", deep, "tiff", {}), ("d.tif", plain, "tiff", {"compression": "jpeg"}), ("a.ppm", plain, "ppm", {}),
        ("a.avif", plain, "avif", {}), ("b.avif", plain, "avif", moving), ("a.jp2", plain, "jpeg2000", {}),
    ]  # fmt: skip
    files = {}
    for name, picture, form, options in wanted:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        files[name] = buffer.getvalue()
    try:
        import pillow_heif
    except ImportError:  # an extra
        return files
    buffer = io.BytesIO()
    pillow_heif.from_pillow(plain).save(buffer)
    return files | {"a.heic": buffer.getvalue(), "heic.jpg": buffer.getvalue()}


def _profile() -> bytes:
    from PIL import ImageCms

    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace("sRGB".encode("utf-16-be"), "other".encode("utf-16-be")[:8])  # so that it is applied


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _read_picture(path: Path) -> None:
    from mien.analysis.media.inputs import Input
    from mien.analysis.media.source import open_video
    from mien.core.errors import MienError
    from mien.core.pictures import count_pages, read_gray, read_picture

    count_pages(path)
    if Input(path, Path("x")).is_video:
        try:
            with open_video(path) as source:
                for frame in source.frames():
                    assert frame.picture.ndim == 3
        except MienError:
            read_gray(path)  # it is refused there too, or has a first frame
    assert read_picture(path, allow_truncated=True).ndim == 3
    read_picture(path)


def _videos() -> dict[str, bytes]:
    wanted = {
        "a.mp4": ("libx264", "yuv420p"), "a.mkv": ("libx264", "yuv420p"), "a.webm": ("libvpx-vp9", "yuv420p"),
        "a.avi": ("mpeg4", "yuv420p"), "b.avi": ("mjpeg", "yuvj420p"), "a.ts": ("mpeg2video", "yuv420p"),
        "a.flv": ("flv", "yuv420p"), "a.mov": ("prores_ks", "yuv422p10le"), "a.mpg": ("mpeg1video", "yuv420p"),
        "a.h264": ("libx264", "yuv420p"), "a.wmv": ("wmv2", "yuv420p"), "b.mov": ("png", "rgb24"),
    }  # fmt: skip
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, pixels) in wanted.items():
            path = Path(folder) / name
            with av.open(str(path), "w") as out:
                video = out.add_stream(codec, rate=25)
                video.width, video.height, video.pix_fmt = 64, 48, pixels
                for number in range(12):
                    picture = np.full((48, 64, 3), 20 * number, np.uint8)
                    picture[number : number + 20, 10:40] = 255 - 20 * number
                    out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                out.mux(video.encode(None))
            files[name] = path.read_bytes()
    return files


def _read_video(path: Path) -> None:
    from mien.analysis.media.source import open_video

    with open_video(path) as source:
        for frame in source.frames():
            assert frame.picture.ndim == 3


def _data() -> dict[str, bytes]:
    from mien.core.types import FaceSet
    from mien.data.layouts.csv_layout import write_kaggle_csv
    from mien.data.layouts.folder_layout import write_folder
    from mien.data.layouts.parquet_layout import write_parquet

    rng = np.random.default_rng(0)
    faces = FaceSet(
        images=rng.integers(0, 256, (FACES, 48, 48), dtype=np.uint8), labels=np.arange(FACES) % 7,
        classes=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        names=np.array([f"{number}.png" for number in range(FACES)]), split=np.array(["Training", "PublicTest"] * (FACES // 2)),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_kaggle_csv(faces, root / "a.csv")
        write_parquet(faces, root / "a.parquet")
        write_folder(faces, root / "tree")
        names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
        files = {name: (root / name).read_bytes() for name in names}
    rows = files["a.csv"].split(b"\n")[:4]  # whose pixels are found by few changes
    return files | {"few.csv": b"\n".join(rows) + b"\n"}


def _read_data(path: Path) -> None:
    from mien.core.errors import MienError
    from mien.data import load_faces

    try:
        load_faces(path)
    except MienError:
        load_faces(path, skip_bad=True)


def _models() -> dict[str, bytes]:
    """A network of one convolution that mien takes for its own, with and without a score for what is no face."""
    from onnx import TensorProto, helper, numpy_helper

    from mien.analysis.inference.model_file import METADATA_KEY, METADATA_VERSION
    from mien.core.preprocessing import Preprocessing

    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 1, 3, 3)), "f": rng.normal(size=(4, len(LABELS))), "n": rng.normal(size=(4, 1))}
    values = {
        "version": METADATA_VERSION, "name": "small", "labels": LABELS, "preprocessing": Preprocessing().to_json(),
        "network": {"name": "small", "arguments": {}}, "temperature": 1.5, "thresholds": {"unsure": 0.5}, "scores": {},
        "license": "MIT", "quantized": False, "labels_by": "given",
    }  # fmt: skip
    files = {}
    for name in ("plain.onnx", "negatives.onnx"):
        nodes = [
            helper.make_node("Conv", ["images", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]), helper.make_node("Flatten", ["p"], ["features"]),
            helper.make_node("MatMul", ["features", "f"], ["logits"]),
        ]  # fmt: skip
        outputs = {"logits": ["N", len(LABELS)], "features": ["N", 4]}
        if name.startswith("negatives"):
            nodes += [helper.make_node("MatMul", ["features", "n"], ["m"]), helper.make_node("Sigmoid", ["m"], ["s"]),
                      helper.make_node("Squeeze", ["s", "axis"], ["not_a_face"])]  # fmt: skip
            outputs["not_a_face"] = ["N"]
        constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 48, 48])
        shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        model = helper.make_model(
            helper.make_graph(nodes, "g", [images], shapes, constants),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps(values)
        files[name] = model.SerializeToString()
    return files


def _read_model(path: Path) -> None:
    from mien.analysis.inference.classifier import Classifier

    classifier = Classifier(path, threads=1)
    probabilities, _ = classifier.predict(np.zeros((2, 48, 48), np.uint8))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


def _records() -> dict[str, bytes]:
    from mien.analysis.output.writers import make_records, record_path, record_writer
    from mien.core.types import Face, FrameResult

    formats = ("jsonl", "csv", "parquet")
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "clip"
        with record_writer(stem, formats, LABELS) as writer:
            for frame in range(12):
                p = np.array([0.2, 0.5, 0.3], np.float32)
                face = Face((1.0, 2.0, 30.0, 40.0), 0.9, p, LABELS, track=frame % 2, smoothed=p, smoothed_label="happy")
                writer.write(
                    make_records(FrameResult("clip.mp4", frame, frame / 25, (64, 48), (face,)), "base", "haar")
                )
        return {f"clip.{name}": record_path(stem, name).read_bytes() for name in formats}


def _read_records(path: Path) -> None:
    from mien.analysis.people.records import read_records

    for records in read_records(path):
        assert len(records.duration_s) == len(records)
        if (records.track >= 0).all():
            records.people()


def _parts() -> dict[str, bytes]:
    """What an analysis leaves that was cut short: two parts, and where it stood."""
    from mien.analysis.detection.detectors import make_detector
    from mien.analysis.resume import PartStore
    from mien.analysis.settings import AnalysisResult
    from mien.analysis.tracking.face_finder import FaceFinder

    finder = FaceFinder(make_detector("haar"))
    finder.find_faces(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        parts = PartStore(Path(folder) / "clip", {})
        for number in range(2):
            parts.path("jsonl").write_text('{"frame": 0}\n')
            parts.path("vtt").write_text("00:00.000 --> 00:01.000\nhappy\n\n")
            parts.finish_part(
                {
                    "done": AnalysisResult("clip.mp4", frames=8 * number),
                    "finder": finder,
                    "times": np.arange(9.0),
                    "seen": {1},
                }
            )
        files = sorted(path for path in parts.folder.iterdir())
        return {f"{parts.folder.name}/{path.name}": path.read_bytes() for path in files}


def _read_parts(path: Path) -> None:
    """Damaged parts are thrown away, and it is said so; what is read is whole."""
    from mien.analysis.resume import PartStore
    from mien.core.errors import DataError

    _sign(path)
    parts = PartStore(path.parent / "clip", {})
    if parts.stored_state() is None:
        raise DataError(path, "was thrown away", "the analysis begins anew")
    assert parts.stored_state()["done"].source == "clip.mp4"
    assert all(part.is_file() for part in parts.paths("jsonl"))


def _sign(folder: Path) -> None:
    """Half of the states get the checksum of what they hold, so that more than the checksum is tried."""
    for state in folder.glob("*.state"):
        _digest, _, content = state.read_bytes().partition(b"\n")
        if content and len(content) % 2:
            state.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("pictures", 30, _pictures, _read_picture),
        Kind("videos", 20, _videos, _read_video),
        Kind("data sets", 18, _data, _read_data),
        Kind("models", 12, _models, _read_model),
        Kind("records", 12, _records, _read_records),
        Kind("parts", 8, _parts, _read_parts),
    )
}

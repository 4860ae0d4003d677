"""Videos that are shown otherwise than they are stored: interlaced, and of high dynamic range."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mien import Recognizer
from mien.analysis.media.tone_mapping import HLG, PQ, map_to_sdr
from mien.analysis.media.video_reader import VideoSource
from mien.analysis.output.stills import read_frames_at
from mien.core.pictures import read_picture
from tests.analysis.footage import analyze, frame_times, records
from tests.conftest import ASTRONAUT

FACE = np.asarray(Image.fromarray(read_picture(ASTRONAUT)).resize((320, 320)))


def coded(picture: np.ndarray, transfer: int) -> np.ndarray:
    """RGB uint8 of an ordinary screen → float (H, W, 3) in 0..1 as PQ or HLG codes it, in BT.2020's primaries."""
    light = (picture / 255) ** 2.4 @ np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    ).T
    if transfer == PQ:
        power = (light * 203 / 10_000) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    scene = (light * 203 / 1_000) ** (1 / 1.2)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colors_come_back_from_high_dynamic_range(transfer: int) -> None:
    colors = np.uint8(
        [[[0, 0, 0], [60, 60, 60], [128, 128, 128], [200, 90, 80], [40, 120, 60], [60, 70, 160], [200, 200, 200]]]
    )
    back = map_to_sdr(np.round(255 * coded(colors, transfer)).astype(np.uint8), transfer, primaries=9)
    assert np.abs(back.astype(int) - colors).max() <= 10  # eight bits are few for PQ


def test_light_above_white_is_bent_and_does_not_wrap() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    shown = map_to_sdr(ramp, PQ, primaries=1).astype(int)[0, :, 0]
    assert (np.diff(shown) >= 0).all()
    assert (shown[0], shown[-1]) == (0, 255)


def write(
    path: Path, frames: Iterable[av.VideoFrame], codec: str, pixels: str, options: dict[str, str], **said: int
) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.pix_fmt = pixels
        for name, value in {"width": 320, "height": 320, **said}.items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_video_of_high_dynamic_range_is_seen_as_an_ordinary_screen_shows_it(tmp_path: Path) -> None:
    deep = np.round(65535 * coded(FACE, PQ)).astype(np.uint16)
    frames = [
        av.VideoFrame.from_ndarray(deep, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
        for _ in range(3)
    ]
    said = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    write(tmp_path / "hdr.mkv", frames, "ffv1", "yuv420p10le", {}, **said)
    with VideoSource(tmp_path / "hdr.mkv") as source:
        seen = next(iter(source.frames())).picture
    dim = FACE < 200  # above, light is bent
    assert np.abs(seen.astype(int) - FACE)[dim].mean() < 8
    analyze(tmp_path / "hdr.mkv", Recognizer("base", detector="haar"), tmp_path)
    assert {row["label"] for row in records(tmp_path, "hdr")} == {"happy"}
    with av.open(str(tmp_path / "hdr.annotated.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.color_trc, frame.color_primaries) == (1, 1)


def combing(picture: np.ndarray) -> float:
    """How much more neighboring lines differ than lines two apart: above 1 where they are of two times."""
    gray = picture.astype(float).mean(axis=2)
    return float(np.abs(np.diff(gray, axis=0)).mean() / np.abs(gray[2:] - gray[:-2]).mean())


def test_interlaced_frames_are_made_whole(tmp_path: Path) -> None:
    def woven(number: int) -> av.VideoFrame:
        picture = np.roll(FACE, 16 * number, axis=1)
        picture[1::2] = np.roll(FACE, 16 * number + 8, axis=1)[1::2]  # half a frame later
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(format="yuv420p")

    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "18"}
    write(tmp_path / "clip.mkv", [woven(number) for number in range(8)], "libx264", "yuv420p", options)
    with av.open(str(tmp_path / "clip.mkv")) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with VideoSource(tmp_path / "clip.mkv") as source:
        frames = [(frame.index, frame.time_s, frame.picture) for frame in source.frames()]
    assert [index for index, *_ in frames] == list(range(8))
    assert [time_s for _, time_s, _ in frames] == pytest.approx([number / 25 for number in range(8)], abs=0.001)
    assert min(map(combing, stored)) > 1.2 > 1 > max(combing(picture) for *_, picture in frames)
    (still,) = read_frames_at(tmp_path / "clip.mkv", [frames[4][1]])
    assert combing(still) < 1
    analyze(tmp_path / "clip.mkv", Recognizer("base", detector="haar"), tmp_path)
    assert frame_times(tmp_path / "clip.annotated.mp4") == pytest.approx(
        [number / 25 for number in range(8)], abs=0.001
    )

"""Frames are turned as their matrix says, whatever else they carry."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from mien.analysis.media.video_reader import VideoSource
from tests.conftest import ROOT

#: Red above left, green above right, blue below left.
PICTURE = np.zeros((48, 64, 3), np.uint8)
PICTURE[:24, :32, 0] = PICTURE[:24, 32:, 1] = PICTURE[24:, :32, 2] = 250


def write(path: Path, codec: str, pixels: str, kind: str, **said: object) -> None:
    """Five pictures as a video, each with what ``said`` has Pillow write into its file."""
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, kind, **said)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number in range(5):
            packet = av.Packet(content.getvalue())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 5), True
            packet.pts = packet.dts = number
            container.mux(packet)


def test_a_video_with_color_profiles_does_not_end_the_process(tmp_path: Path) -> None:
    """In a process of its own, which a crash of FFmpeg's bindings would end."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(tmp_path / "clip.mov", "png", "rgb24", "PNG", icc_profile=profile)
    code = (
        "import sys, pathlib; from mien.analysis.media.video_reader import VideoSource\n"
        "with VideoSource(pathlib.Path(sys.argv[1])) as source: frames = list(source.frames())\n"
        "print(len(frames), *(frame.picture[0, 0].tolist() for frame in frames[:1]))\n"
        "del frames, source; import gc; gc.collect()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "clip.mov")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "5 [250, 0, 0]"), done.stderr


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda picture: picture),
        (2, np.fliplr),
        (3, lambda picture: np.rot90(picture, 2)),
        (4, np.flipud),
        (5, lambda picture: picture.transpose(1, 0, 2)),
        (6, lambda picture: np.rot90(picture, -1)),
        (7, lambda picture: np.rot90(picture, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_frames_with_exif_are_seen_as_pillow_shows_them(tmp_path: Path, orientation: int, upright) -> None:
    """A camera's time lapse: JPEGs as they are, whose EXIF is side data of a kind that PyAV does not know."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(tmp_path / "lapse.mov", "mjpeg", "yuvj420p", "JPEG", exif=exif, quality=95)
    with VideoSource(tmp_path / "lapse.mov") as source:
        pictures = [frame.picture for frame in source.frames()]
    expected = upright(PICTURE)
    assert len(pictures) == 5 and pictures[0].shape == expected.shape
    assert np.abs(pictures[4].astype(int) - expected).mean() < 8

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mien.core.errors import MediaError
from mien.service.jobs.worker import probe_video


def test_an_animated_picture_that_is_sent_is_a_video(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (40, 30), shade) for shade in ("black", "white")]
    for kind in ("gif", "webp", "png", "avif"):
        pictures[0].save(tmp_path / "source.mp4", kind, save_all=True, append_images=pictures[1:], duration=100)
        facts = probe_video(tmp_path / "source.mp4", f"a.{kind}", 2000, 100)
        assert (facts["width"], facts["height"], facts["start_s"]) == (40, 30, 0.0)
        with pytest.raises(MediaError, match=r"has 40 x 30 pixels, more than the limit of 1,000"):
            probe_video(tmp_path / "source.mp4", f"a.{kind}", 1000, 100)


def test_a_still_picture_that_is_sent_as_a_video_is_named_one(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "source.mp4", "png")
    with pytest.raises(MediaError, match=r"a.png: is a picture, not a video; send it to /v1/images"):
        probe_video(tmp_path / "source.mp4", "a.png", 2000, 100)

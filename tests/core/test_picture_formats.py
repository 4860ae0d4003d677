from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mien.core.errors import MediaError
from mien.core.picture_formats import PICTURE_FORMATS, is_heif, is_video_head
from mien.core.pictures import count_pages, is_animation, is_picture, read_gray, read_picture
from tests.conftest import ASTRONAUT, ROOT

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshowpage\n"


def heic_head(brand: bytes = b"heic") -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand


def test_no_file_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of PostScript, whatever it is called, is refused before Ghostscript is looked for."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("a process was started"))
    assert "EPS" not in PICTURE_FORMATS
    for name in ("a.jpg", "a.eps", "a.png"):
        (tmp_path / name).write_bytes(POSTSCRIPT)
        assert not is_picture(tmp_path / name)
        for read in (read_picture, read_gray):
            with pytest.raises(MediaError, match="is not a picture in a format that is read here"):
                read(tmp_path / name)


def test_every_opening_of_a_picture_names_its_formats() -> None:
    calls = [
        (path.name, line)
        for path in (ROOT / "mien").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"Image\.open\((?!formats=)", line.replace("``Image.open``", ""))
    ]
    assert calls
    assert [call for call in calls if "formats=" not in call[1]] == []


@pytest.mark.parametrize("ending", ["jp2", "ppm", "pgm", "avif", "apng", "mpo", "jfif"])
def test_pictures_of_rarer_kinds_are_read(ending: str, tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((20, 30, 3), (200, 100, 50), np.uint8)).convert("L" if ending == "pgm" else "RGB")
    picture.save(tmp_path / f"p.{ending}", {"apng": "png", "jfif": "jpeg"}.get(ending))
    expected = [124] * 3 if ending == "pgm" else [200, 100, 50]
    assert np.abs(read_picture(tmp_path / f"p.{ending}")[5, 5].astype(int) - expected).max() <= 3


def test_heic_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = (220, 60, 30)
    for name in ("p.heic", "p.jpg", "p.mp4"):
        pillow_heif.from_pillow(Image.fromarray(picture)).save(tmp_path / name, quality=95)
        assert is_picture(tmp_path / name) and not is_animation(tmp_path / name)
        read = read_picture(tmp_path / name).astype(int)
        assert read.shape == picture.shape
        assert np.abs(read[30, [10, 80]] - [[0, 0, 0], [220, 60, 30]]).max() < 8


def test_without_its_extra_heic_names_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.core import picture_formats

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    picture_formats._register_heif.cache_clear()
    (tmp_path / "p.jpg").write_bytes(heic_head())
    with pytest.raises(MediaError, match=r"p.jpg: is a HEIC picture.*pip install 'mien\[heic\]'"):
        read_picture(tmp_path / "p.jpg")


def test_a_damaged_heic_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    (tmp_path / "p.heic").write_bytes(heic_head() + bytes(200))
    with pytest.raises(MediaError, match=r"p.heic: is"):
        read_picture(tmp_path / "p.heic")


@pytest.mark.parametrize(
    ("head", "heif", "video"),
    [
        (heic_head(), True, False),
        (heic_head(b"mif1"), True, False),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", False, False),
        (b"\0\0\0\x20ftypavis\0\0\0\0avifmsf1", False, False),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", False, True),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", False, True),
        (b"RIFF\0\0\0\0AVI LIST", False, True),
        (b"RIFF\0\0\0\0WEBPVP8 ", False, False),
        (b"\x1aE\xdf\xa3" + bytes(40), False, True),
        (b"\x00\x00\x01\xba" + bytes(40), False, True),
        ((b"G" + bytes(187)) * 3, False, True),
        ((bytes(4) + b"G" + bytes(187)) * 3, False, True),
        (b"GIF89a" + bytes(40), False, False),
        (b"\xff\xd8\xff\xe0" + bytes(600), False, False),
        (b"", False, False),
    ],
)
def test_the_first_bytes_say_what_a_file_is(head: bytes, heif: bool, video: bool) -> None:
    assert (is_heif(head), is_video_head(head)) == (heif, video)


def test_a_video_given_for_a_picture_says_where_videos_go(tmp_path: Path) -> None:
    (tmp_path / "film.jpg").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0mp42isom" + bytes(100))
    with pytest.raises(MediaError, match=r"film.jpg: is a video, not a picture; 'mien analyze' reads videos"):
        read_picture(tmp_path / "film.jpg")


def test_pages_of_a_tiff_are_counted_without_smaller_copies(tmp_path: Path) -> None:
    pages = [Image.new("L", (16, 16), value) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "three.tif", save_all=True, append_images=pages[1:])
    assert count_pages(tmp_path / "three.tif") == 3 and not is_animation(tmp_path / "three.tif")
    assert read_gray(tmp_path / "three.tif")[0, 0] == 10
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "one.tif", save_all=True, append_images=pages[1:2])
    assert count_pages(tmp_path / "one.tif") == 1
    assert count_pages(ASTRONAUT) == 1


def profile_with_swapped_primaries() -> bytes:
    """sRGB's profile with the red and the blue primary exchanged: its red is our blue."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return (
        bytes(data)
        .replace("sRGB".encode("utf-16-be"), "XRGB".encode("utf-16-be"))
        .replace(b"sRGB built", b"XRGB built")
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_are_brought_to_srgb_by_the_profile_of_a_picture(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    picture.save(tmp_path / "p.png", icc_profile=profile_with_swapped_primaries())
    assert np.abs(read_picture(tmp_path / "p.png")[4, 4].astype(int) - [0, 0, 255]).max() <= 2
    assert read_gray(tmp_path / "p.png")[4, 4] == pytest.approx(29, abs=2)  # blue's, not red's 76


@pytest.mark.parametrize("damage", [lambda data: data[:60], lambda data: b"", lambda data: b"\0" * 300])
def test_a_damaged_profile_changes_nothing(damage, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (200, 30, 10)).save(
        tmp_path / "p.png", icc_profile=damage(profile_with_swapped_primaries())
    )
    assert read_picture(tmp_path / "p.png")[4, 4].tolist() == [200, 30, 10]

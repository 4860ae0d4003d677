from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mien.core import pictures
from mien.core.errors import MediaError
from mien.core.pictures import convert_pillow, convert_to_rgb, is_picture, read_gray, read_picture


@pytest.fixture
def picture() -> np.ndarray:
    """RGB (40, 60): a smooth ramp, so that lossy formats keep it nearly."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, 255 - x * 4], axis=2).astype(np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "webp", "jpg", "gif"])
def test_every_format_is_read(ending: str, picture: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / f"p.{ending}"
    Image.fromarray(picture).save(file, **({"quality": 95} if ending in ("jpg", "webp") else {}))
    read = read_picture(file)
    assert read.shape == picture.shape
    assert np.abs(read.astype(int) - picture).mean() < 4


def test_exif_orientation_is_applied(picture: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture must be rotated clockwise to stand upright
    Image.fromarray(picture).save(tmp_path / "p.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png"), np.rot90(picture, k=-1))
    assert read_gray(tmp_path / "p.png").shape == (60, 40)


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
@pytest.mark.parametrize("exif", [b"garbage!", b"II", b"II*\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_a_damaged_exif_block_turns_nothing(ending: str, exif: bytes, picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / f"p.{ending}", exif=exif)
    assert read_picture(tmp_path / f"p.{ending}").shape == picture.shape
    assert read_gray(tmp_path / f"p.{ending}").shape == picture.shape[:2]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_picture(tmp_path / "pipe")


def test_the_first_frame_of_an_animation_is_read(picture: np.ndarray, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "p.gif")[0, 0].tolist() == [10, 10, 10]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (200, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png")[[0, 3], 0].tolist() == [[200, 0, 0], [255, 255, 255]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(tmp_path / "p.png")
    assert read_picture(tmp_path / "p.png")[0, :, 0].tolist() == [0, 100, 255]


def test_float_tiff_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.4, 1.0]], np.float32)).save(tmp_path / "p.tiff")
    assert read_picture(tmp_path / "p.tiff")[0, :, 0].tolist() == [0, 102, 255]


def test_arrays_of_every_kind_become_rgb() -> None:
    gray = np.array([[0, 51], [102, 255]], np.uint8)
    expected = np.repeat(gray[..., None], 3, axis=2)
    for array in (gray, gray[..., None], expected, gray / 255, gray.astype(np.uint16) * 257, gray.astype(np.int64),
                  gray.astype(np.float32), np.dstack([expected, np.full((2, 2), 255, np.uint8)])):  # fmt: skip
        np.testing.assert_array_equal(convert_to_rgb(array), expected)
    assert convert_to_rgb(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (0, 65535), (-0.03, 1.04), (-4, 262)])
def test_floats_are_scaled_by_what_stands_for_white(low: float, high: float) -> None:
    """Cubic interpolation leaves values a little beyond black and white."""
    white = 1 if high < 2 else 255 if high < 300 else 65535
    array = np.array([[low, white / 2, high]], np.float32)
    assert np.abs(convert_to_rgb(array)[0, :, 0].astype(int) - [0, 128, 255]).max() <= 1


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_white_pictures_of_floats_are_white(white: float) -> None:
    assert convert_to_rgb(np.full((4, 4, 3), white)).min() == 255


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_normalized_pictures_are_refused_with_what_was_expected(dtype: type) -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (48, 48))
    white = np.full((4, 4, 3), (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225])  # ImageNet's
    for array in ((picture - picture.mean()) / picture.std(), picture / 127.5 - 1, -picture, white):
        with pytest.raises(
            ValueError, match=r"must lie in 0\.\.1, 0\.\.255 or 0\.\.65535, not .*: undo what normalized it"
        ):
            convert_to_rgb(array.astype(dtype))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_pillows_own(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In strips of a few rows, too."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8))
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(convert_pillow(picture), expected)
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 10)
    np.testing.assert_array_equal(convert_pillow(picture), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "1", "L"])
def test_a_picture_read_in_strips_is_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    picture = Image.fromarray(noise).convert(mode) if mode != "CMYK" else Image.fromarray(noise, "CMYK")
    whole = convert_pillow(picture)
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 100)
    np.testing.assert_array_equal(convert_pillow(picture), whole)


def test_a_large_transparent_picture_is_held_twice_and_no_more() -> None:
    """Once by Pillow (4 bytes a pixel), once as the array (3)."""
    picture = Image.new("RGBA", (4000, 6000), (10, 20, 30, 128))
    tracemalloc.start()
    read = convert_pillow(picture)
    peak = tracemalloc.get_traced_memory()[1]  # NumPy's; what Pillow holds of a strip is no more
    tracemalloc.stop()
    assert read[0, 0].tolist() == [132, 137, 142]
    assert peak < read.nbytes * 1.6


@pytest.mark.parametrize(
    "array",
    [np.zeros((0, 5)), np.zeros(5), np.zeros((4, 4, 2)), np.array([[np.nan]]), np.array([["a"]]), np.array([[-1]])],
)
def test_what_is_no_picture_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a picture"):
        convert_to_rgb(array)


def test_a_limit_on_pixels_names_the_option(picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png")
    with pytest.raises(
        MediaError, match=r"60 x 40 pixels, more than the limit of 2,399; scale it down, or raise .*`max_pixels=2400`"
    ):
        read_picture(tmp_path / "p.png", max_pixels=2399)
    assert read_picture(tmp_path / "p.png", max_pixels=2400).shape == (40, 60, 3)


def test_broken_files_are_named(picture: np.ndarray, tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(whole, format="JPEG")
    cases = {"empty.jpg": (b"", "is empty"), "text.jpg": (b"not a picture", "is not a picture"),
             "cut.jpg": (whole.getvalue()[:5000], "is cut off")}  # fmt: skip
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=f"{name}: {message}"):
            read_picture(tmp_path / name)
    with pytest.raises(MediaError, match="does not exist"):
        read_picture(tmp_path / "absent.jpg")
    with pytest.raises(MediaError, match="is a folder"):
        read_picture(tmp_path)
    assert read_picture(tmp_path / "cut.jpg", allow_truncated=True).shape == (200, 200, 3)


@pytest.mark.parametrize("ending", ["png", "webp", "tiff", "bmp", "gif"])
def test_every_format_cut_short_is_refused_or_read_in_part(ending: str, tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, format=ending.upper())
    for share in (0.02, 0.3, 0.9):
        (tmp_path / f"cut.{ending}").write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
        with pytest.raises(MediaError, match=f"cut.{ending}: "):
            read_picture(tmp_path / f"cut.{ending}")
        try:
            part = read_picture(tmp_path / f"cut.{ending}", allow_truncated=True)
        except MediaError as error:
            assert ending in ("webp", "tiff") or share < 0.1, error
        else:
            assert part.shape == (200, 200, 3)


def test_pillow_is_left_as_it_was(picture: np.ndarray, tmp_path: Path) -> None:
    from PIL import ImageFile

    Image.fromarray(picture).save(tmp_path / "p.png")
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    read_picture(tmp_path / "p.png", allow_truncated=True)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_tiff_is_the_same_from_a_file_and_from_its_bytes(mode: str, orientation: int, tmp_path: Path) -> None:
    """Pillow maps uncompressed files into memory where it is given a name, and takes the wrong side for their width."""
    stored = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).convert(mode).save(tmp_path / "x.tif", exif=exif)
    upright = np.rot90(stored, {3: 2, 6: -1, 8: 1}[orientation])
    for source in (tmp_path / "x.tif", (tmp_path / "x.tif").read_bytes()):
        np.testing.assert_array_equal(read_gray(source, name="x"), upright)


def test_a_color_that_stands_for_nothing_lies_over_white_in_gray_too(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 200]], np.uint8)).save(tmp_path / "x.png", transparency=0)
    assert read_gray(tmp_path / "x.png").tolist() == [[255, 200]]


def test_dark_pictures_of_16_bits_stay_dark_in_either_order_of_bytes() -> None:
    dark = np.full((4, 4), 255)
    assert convert_to_rgb(dark.astype("<u2")).max() == convert_to_rgb(dark.astype(">u2")).max() == 0

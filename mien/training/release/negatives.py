"""Training pictures without faces: photographs without people, scrambled faces, textures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mien.analysis.detection.detectors import HaarDetector
from mien.analysis.detection.framing import crop_faces
from mien.core.errors import MissingExtra
from mien.core.pictures import read_picture
from mien.core.preprocessing import convert_to_gray, resize
from mien.evaluation.audit.non_faces import SCRAMBLING, make_non_faces

#: Photographs and drawings without people in scikit-image's wheel, in two groups that share no subject: one trains, the
#: other tests. Left out: "astronaut" and "camera" show people, "coins" portraits.
GROUPS = (
    ("brick.png", "cell.png", "clock_motion.png", "coffee.png", "grass.png", "hubble_deep_field.jpg", "moon.png",
     "motorcycle_left.png", "motorcycle_right.png", "phantom.png", "text.png"),
    ("chelsea.png", "gravel.png", "horse.png", "ihc.png", "logo.png", "microaneurysms.png", "page.png", "retina.jpg",
     "rocket.jpg"),
)  # fmt: skip

#: Crops of each photograph: random squares, and at most this many false detections.
SQUARES_PER_PHOTOGRAPH, MAX_FALSE_DETECTIONS = 150, 250

_LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")


def load_photographs(group: int) -> list[np.ndarray]:
    """Return the pictures of one of GROUPS, RGB uint8 (H, W, 3). Raises MissingExtra without scikit-image."""
    try:
        import skimage
    except ImportError as error:
        raise MissingExtra("scikit-image", "finish", "for photographs without faces") from error
    folder = Path(skimage.__file__).parent / "data"
    return [read_picture(folder / name) for name in GROUPS[group]]


def crop_false_detections(picture: np.ndarray, size: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return crops of false detections by OpenCV's frontal cascades: uint8 (n, size, size), at most ``most``.

    Every window that passes a cascade counts, without neighbors, at three scales.
    """
    crops = [np.empty((0, size, size, 3), np.uint8)]
    for cascade in ("alt", "alt2", "default"):
        detector = HaarDetector(cascade, min_neighbors=0)
        for side in (320, 640, 1000):
            scale = side / max(picture.shape[:2])
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way)
            crops.append(crop_faces(scaled, detector.detect(scaled).boxes_xyxy, detector.framing, size))
    squares = convert_to_gray(np.concatenate(crops))
    return squares[rng.permutation(len(squares))[:most]]


def crop_squares(picture: np.ndarray, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random squares of a picture, of random size, half of them mirrored: uint8 (count, size, size)."""
    gray = convert_to_gray(picture)
    squares = np.empty((count, size, size), np.uint8)
    for index in range(count):
        most = min(gray.shape)
        side = int(np.exp(rng.uniform(np.log(min(size / 2, most)), np.log(most))))
        top, left = (int(rng.integers(0, length - side + 1)) for length in gray.shape)
        crop = resize(np.ascontiguousarray(gray[top : top + side, left : left + side]), size)
        squares[index] = crop if rng.random() < 0.5 else crop[:, ::-1]
    return squares


def scramble_faces(faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return scrambled faces, uint8 (count, S, S). None is only rotated, since a rotated face is a face."""
    return make_non_faces(faces, count, rng, SCRAMBLING)


def distort_images(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return distorted pictures, drawn with replacement: uint8 (count, S, S).

    They are rotated, scaled, shifted and changed in brightness and contrast. Some are blurred, noisy, downsampled or
    partly covered.
    """
    size = images.shape[1]
    distorted = np.empty((count, size, size), np.uint8)
    for index, row in enumerate(rng.integers(0, len(images), count)):
        middle = ((size - 1) / 2, (size - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, rng.normal(0, 15), rng.uniform(0.7, 1.35))
        matrix[:, 2] = matrix[:, 2] + rng.normal(0, size / 14, 2)
        image: np.ndarray = cv2.warpAffine(images[row], matrix, (size, size), borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32
        )
        if rng.random() < 0.2:
            top, left = rng.integers(0, size, 2)
            high, wide = rng.integers(size // 6, size // 2, 2)
            image[top : top + high, left : left + wide] = rng.uniform(0, 255)
        if rng.random() < 0.2:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2))
        if rng.random() < 0.1:
            few = int(rng.integers(size // 4, size // 2))
            image = cv2.resize(cv2.resize(image, (few, few), interpolation=cv2.INTER_AREA), (size, size))
        image = (image - 128) * rng.uniform(0.3, 1.3) + 128 + rng.uniform(-50, 50)
        if rng.random() < 0.3:
            image += rng.normal(0, rng.uniform(5, 30), image.shape)
        distorted[index] = np.clip(image if rng.random() < 0.5 else image[:, ::-1], 0, 255)
    return distorted


def draw_textures(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return noisy stripes, clouds, checkerboards, gradients, ellipses and text: uint8 (count, size, size)."""
    ways = (_draw_stripes, _draw_clouds, _draw_board, _draw_slope, _draw_ellipses, _draw_writing)
    textures = np.empty((count, size, size), np.uint8)
    for index in range(count):
        picture = ways[index % len(ways)](size, rng) + rng.normal(0, rng.uniform(0, 10), (size, size))
        textures[index] = np.clip(picture, 0, 255)
    return textures


def _draw_stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    angle = rng.uniform(0, np.pi)
    across = x * np.cos(angle) + y * np.sin(angle)
    return 128 + rng.uniform(20, 120) * np.sin(across * rng.uniform(0.1, 2) + rng.uniform(0, 2 * np.pi))


def _draw_clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose amplitude falls with frequency, as in photographs (with an exponent of about 1)."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    noise = np.real(np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / frequency ** rng.uniform(0, 2.5)))
    return 128 + (noise - noise.mean()) / noise.std() * rng.uniform(10, 70)


def _draw_board(size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    cell = int(rng.integers(2, max(3, size // 3)))
    return (x // cell + y // cell) % 2 * rng.uniform(30, 220) + rng.uniform(0, 80)


def _draw_slope(size: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return rng.uniform(0, 255) + x * rng.uniform(-3, 3) + y * rng.uniform(-3, 3)


def _draw_ellipses(size: int, rng: np.random.Generator) -> np.ndarray:
    picture = np.full((size, size), rng.uniform(0, 255), np.float32)
    for _ in range(rng.integers(1, 12)):
        center = tuple(int(value) for value in rng.integers(0, size, 2))
        axes = tuple(int(value) for value in rng.integers(2, size // 2, 2))
        filled = -1 if rng.random() < 0.7 else 1
        cv2.ellipse(picture, center, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0, 255), filled)
    return picture


def _draw_writing(size: int, rng: np.random.Generator) -> np.ndarray:
    picture = np.full((size, size), rng.uniform(0, 255), np.float32)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(-5, size // 2)), int(rng.integers(min(10, size - 1), size))
        word = "".join(rng.choice(_LETTERS, 5))
        cv2.putText(picture, word, place, int(rng.integers(0, 6)), rng.uniform(0.3, 1), rng.uniform(0, 255), 1)
    return picture

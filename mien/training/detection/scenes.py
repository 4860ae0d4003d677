"""Compose training scenes for the face detector: faces with drawn heads and decoys on photographs without people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mien.analysis.detection.face_net import MAX_FACE_PX, MIN_FACE_PX
from mien.training.release.negatives import draw_textures, scramble_faces

#: Side of a training scene in pixels.
SCENE_PX = 128

#: A head is drawn on a square of this many sides of the face, so that hair and shoulders find room.
HEAD_SIDES = 2.25

#: Sides of the pasted faces in pixels, and the share of faces within the sizes that the network answers to.
PASTED_PX, ANSWERED_SHARE = (5, 170), 0.7

#: At most so many heads are pasted into a scene.
MAX_HEADS = 7

#: Scrambled faces that are made once, to be pasted as decoys.
VARIETY = 4000

#: Largest rotation of a face in degrees.
MAX_ROTATION_DEG = 40.0

#: A face with less than this share of its square inside the scene, or uncovered, is neither a face nor background.
MIN_VISIBLE_SHARE = 0.6


@dataclass(frozen=True)
class Scene:
    """One training picture.

    image      uint8 (S, S), gray
    squares    float32 (N, 3): center x, center y and side of each face in pixels
    is_clear   bool (N,): False for a face that is mostly hidden or cut off, which counts neither as face nor as background
    """

    image: np.ndarray
    squares: np.ndarray
    is_clear: np.ndarray


@dataclass(frozen=True)
class MinedPlace:
    """A place at which an earlier network saw a face where there is none: photograph, scale and center in its scaled pixels."""

    photograph: int
    scale: float
    x: float
    y: float


class SceneComposer:
    """Compose scenes from face crops and photographs without people.

    faces         uint8 (N, H, H), gray face crops
    photographs   gray uint8 pictures of any size without people
    mined         places of false detections; a part of the backgrounds shows one of them
    variety       number of scrambled faces; a quarter as many textures are drawn

    The same generator gives the same scene.
    """

    def __init__(
        self,
        faces: np.ndarray,
        photographs: Sequence[np.ndarray],
        mined: Sequence[MinedPlace] = (),
        seed: int = 0,
        variety: int = VARIETY,
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self._faces, self._photographs, self.mined = faces, photographs, list(mined)
        self._side = faces.shape[1]
        self._masks = [_draw_face_mask(self._side, rng) for _ in range(256)]
        self._scrambled = scramble_faces(faces[rng.permutation(len(faces))[:variety]], variety, rng)
        self._textures = draw_textures(variety // 4, self._side, rng)
        self._backgrounds = draw_textures(variety // 16, SCENE_PX, rng)

    def compose(self, rng: np.random.Generator) -> Scene:
        """Return one scene."""
        image = self._draw_background(rng)
        hidden = np.zeros(image.shape, bool)  # what a later head may not cover
        squares: list[tuple[float, float, float]] = []
        shares: list[float] = []
        for _ in range(int(rng.integers(0, MAX_HEADS + 1))):
            side = _draw_side(rng)
            x, y = rng.uniform(-0.1 * side, SCENE_PX + 0.1 * side, 2)
            square = _square_slices(x, y, side * 0.9)
            if hidden[square].any() and rng.random() < 0.85:
                continue
            is_face = rng.random() < 0.6
            patch = self._draw_face(rng) if is_face else self._draw_decoy(rng)
            _paste_head(image, patch, self._masks[rng.integers(len(self._masks))], x, y, side, rng)
            shares = [
                share - _covered_share(_square_slices(*old, scale=0.8), square)
                for old, share in zip(squares, shares, strict=True)
            ]
            hidden[square] = True
            if is_face:
                squares.append((x, y, side))
                shares.append(_inside_share(x, y, side) - self._occlude(image, x, y, side, rng))
        clear = np.array([share >= MIN_VISIBLE_SHARE for share in shares], bool)
        return Scene(_distort(image, rng), np.array(squares, np.float32).reshape(-1, 3), clear)

    def _draw_background(self, rng: np.random.Generator) -> np.ndarray:
        """Return float32 (SCENE_PX, SCENE_PX): a part of a photograph, a mined place, or a drawn texture."""
        chance = rng.random()
        if self.mined and chance < 0.35:
            place = self.mined[rng.integers(len(self.mined))]
            offset = rng.uniform(-0.4, 0.4, 2) * SCENE_PX
            image = cut_window(
                self._photographs[place.photograph],
                place.scale * rng.uniform(0.9, 1.1),
                place.x + offset[0],
                place.y + offset[1],
                place.scale,
            )
        elif chance < 0.9:
            photograph = self._photographs[int(rng.integers(len(self._photographs)))]
            least = SCENE_PX / min(photograph.shape)
            scale = float(np.exp(rng.uniform(np.log(least), np.log(max(1.2, 2 * least)))))
            height, width = (side * scale for side in photograph.shape)
            x, y = (
                rng.uniform(0.3 * SCENE_PX, width - 0.3 * SCENE_PX),
                rng.uniform(0.3 * SCENE_PX, height - 0.3 * SCENE_PX),
            )
            image = cut_window(photograph, scale, x, y, scale)
        else:
            image = self._backgrounds[rng.integers(len(self._backgrounds))]
        image = image[:, ::-1] if rng.random() < 0.5 else image
        return (image.astype(np.float32) - 128) * rng.uniform(0.4, 1.2) + rng.uniform(78, 178)

    def _draw_face(self, rng: np.random.Generator) -> np.ndarray:
        face = self._faces[rng.integers(len(self._faces))]
        return face[:, ::-1] if rng.random() < 0.5 else face

    def _draw_decoy(self, rng: np.random.Generator) -> np.ndarray:
        """Return what is no face but is pasted like one: a scrambled face, a part of a face, a photograph, a texture."""
        chance = rng.random()
        if chance < 0.35:
            return self._scrambled[rng.integers(len(self._scrambled))]
        if chance < 0.55:  # a part of a face at the size of a face: an eye, a cheek, a forehead
            face, side = self._draw_face(rng), int(self._side * rng.uniform(0.25, 0.45))
            top, left = rng.integers(0, self._side - side, 2)
            return cv2.resize(face[top : top + side, left : left + side], (self._side, self._side))
        if chance < 0.85:
            photograph = self._photographs[int(rng.integers(len(self._photographs)))]
            scale = rng.uniform(0.2, 1)
            height, width = (side * scale for side in photograph.shape)
            window = cut_window(photograph, scale, rng.uniform(0, width), rng.uniform(0, height), scale)
            return window[: self._side, : self._side]
        return self._textures[rng.integers(len(self._textures))]

    def _occlude(self, image: np.ndarray, x: float, y: float, side: float, rng: np.random.Generator) -> float:
        """Cover a part of one face in five by something like a hand, a microphone or a mask; return the covered share."""
        if rng.random() > 0.2:
            return 0.0
        height, width = side * rng.uniform(0.15, 0.5), side * rng.uniform(0.15, 0.8)
        at_x, at_y = x + rng.uniform(-0.5, 0.5) * side, y + rng.uniform(-0.2, 0.6) * side
        axes = max(1, round(width / 2)), max(1, round(height / 2))
        color, angle = float(rng.uniform(20, 235)), float(rng.uniform(0, 180))
        cv2.ellipse(image, (round(at_x), round(at_y)), axes, angle, 0, 360, color, -1, cv2.LINE_AA)
        return 0.5 * height * width / side**2


def cut_window(photograph: np.ndarray, scale: float, x: float, y: float, center_scale: float) -> np.ndarray:
    """Cut a window of SCENE_PX from a gray photograph scaled by ``scale``; its border continues by reflection.

    x, y           center of the window, in pixels of the photograph scaled by ``center_scale``
    """
    half = SCENE_PX / 2 / scale
    height, width = photograph.shape
    center_x, center_y = (
        float(np.clip(value / center_scale, min(half, side / 2), max(side - half, side / 2)))
        for value, side in ((x, width), (y, height))
    )
    left, top = max(0, round(center_x - half)), max(0, round(center_y - half))
    source = photograph[top : round(center_y + half) + 1, left : round(center_x + half) + 1]
    return cv2.resize(source, (SCENE_PX, SCENE_PX), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _draw_side(rng: np.random.Generator) -> float:
    low, high = (MIN_FACE_PX, MAX_FACE_PX) if rng.random() < ANSWERED_SHARE else PASTED_PX
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_face_mask(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return float32 (side, side) in 0..1: a soft superellipse, from a tight oval to nearly the whole square."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    power = rng.choice([2.0, 2.5, 4.0, 8.0])
    across, down = (
        np.abs(axis) / rng.uniform(0.72, 1.1),
        np.abs(axis - rng.uniform(-0.05, 0.1)) / rng.uniform(0.85, 1.15),
    )
    radius = (across[None] ** power + down[:, None] ** power) ** (1 / power)
    return (1 / (1 + np.exp(-(1 - radius) * np.exp(rng.uniform(np.log(4), np.log(40)))))).astype(np.float32)


def _paste_head(
    image: np.ndarray, patch: np.ndarray, mask: np.ndarray, x: float, y: float, side: float, rng: np.random.Generator
) -> None:
    """Paste a face or decoy (S, S) with hair, neck and shoulders into float32 ``image``: rotated, scaled and relit."""
    head, alpha = _draw_head(patch, mask, rng)
    size = head.shape[0]
    angle = (
        float(np.clip(rng.normal(0, 15), -MAX_ROTATION_DEG, MAX_ROTATION_DEG))
        if rng.random() < 0.8
        else float(rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG))
    )
    turn = cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), angle, 1.0)
    layers = cv2.warpAffine(np.dstack([head, alpha]), turn, (size, size), flags=cv2.INTER_LINEAR)
    extent = side * HEAD_SIDES
    left, top = round(x - extent / 2), round(y - extent / 2)
    pixels = max(4, round(extent))
    way = cv2.INTER_AREA if pixels < size else cv2.INTER_CUBIC
    layers = cv2.resize(layers, (pixels, pixels), interpolation=way)
    rows = slice(max(0, top), min(image.shape[0], top + pixels))
    columns = slice(max(0, left), min(image.shape[1], left + pixels))
    part = layers[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    if not part.size:
        return
    under, share = image[rows, columns], np.clip(part[..., 1], 0, 1)
    pulled = rng.uniform(0, 0.5)  # toward the brightness of what lies under it
    lit = part[..., 0] + pulled * (under.mean() - part[..., 0].mean())
    image[rows, columns] = share * lit + (1 - share) * under


def _draw_head(patch: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return gray and alpha, float32 (H, H) each: the patch in the middle, drawn shoulders, neck and hair around it."""
    side = patch.shape[0]
    size = round(side * HEAD_SIDES)
    start = (size - side) // 2
    face = (patch.astype(np.float32) - 128) * rng.uniform(0.6, 1.25) + 128 + rng.uniform(-40, 40)
    # Beyond its border the patch goes on as its blurred edge: a head without hair, a hood.
    border = size - side - start
    head = cv2.copyMakeBorder(face, start, border, start, border, cv2.BORDER_REPLICATE)
    alpha = np.zeros((size, size), np.float32)
    center = size / 2
    skin = float(np.median(face[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4]))

    def draw_ellipse(x: float, y: float, wide: float, high: float, color: float) -> None:
        """Draw a filled ellipse; places and radii in sides of the face, from its center."""
        at = round(center + x * side), round(center + y * side)
        axes = max(1, round(wide * side)), max(1, round(high * side))
        cv2.ellipse(head, at, axes, 0, 0, 360, color, -1, cv2.LINE_AA)
        cv2.ellipse(alpha, at, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)

    if rng.random() < 0.6:
        draw_ellipse(rng.uniform(-0.1, 0.1), 1.2, rng.uniform(0.8, 1.1), rng.uniform(0.45, 0.65), rng.uniform(10, 245))
        draw_ellipse(0, 0.6, rng.uniform(0.2, 0.3), 0.4, skin * rng.uniform(0.7, 1.0))
    if rng.random() < 0.65:
        color = rng.uniform(5, 90) if rng.random() < 0.7 else rng.uniform(90, 250)
        long_hair = 0.3 if rng.random() < 0.3 else 0.0
        draw_ellipse(
            rng.uniform(-0.06, 0.06), rng.uniform(-0.12, 0.0) + long_hair / 2, rng.uniform(0.5, 0.66),
            rng.uniform(0.58, 0.72) + long_hair, color,
        )  # fmt: skip
    elif rng.random() < 0.7:
        draw_ellipse(0, 0, rng.uniform(0.42, 0.52), rng.uniform(0.55, 0.62), skin * rng.uniform(0.75, 1.1))
    noise = rng.normal(0, rng.uniform(0, 14), (size // 2 + 1, size // 2 + 1)).astype(np.float32)
    head = head + cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)
    blurred = rng.uniform(0.4, 2.0)
    head, alpha = (cv2.GaussianBlur(layer, (0, 0), blurred) for layer in (head, alpha))
    middle = slice(start, start + side)
    head[middle, middle] = mask * face + (1 - mask) * head[middle, middle]
    alpha[middle, middle] = np.maximum(alpha[middle, middle], mask)
    if rng.random() < 0.15:  # a hat's brim or a fringe over the forehead
        y = center - side * rng.uniform(0.3, 0.42)
        cv2.ellipse(
            head, (round(center), round(y)), (round(side * rng.uniform(0.4, 0.7)), round(side * rng.uniform(0.05, 0.14))),
            float(rng.normal(0, 6)), 0, 360, rng.uniform(5, 245), -1, cv2.LINE_AA,
        )  # fmt: skip
    return head, alpha


def _distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, add noise, change brightness and compress; float32 → uint8."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    elif rng.random() < 0.1:
        length = int(rng.integers(2, 6))
        kernel = np.zeros((5, 5), np.float32)
        cv2.line(kernel, (2, 2), (int(rng.integers(0, 5)), int(rng.integers(0, 5))), 1.0)
        image = cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1)) if length else image
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(1, 10), image.shape)
    image = (image - 128) * rng.uniform(0.6, 1.2) + 128 + rng.uniform(-45, 45)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_GRAYSCALE)
        assert decoded is not None  # it was just encoded
        pixels = decoded.astype(np.uint8, copy=False)
    return pixels


def _square_slices(x: float, y: float, side: float, scale: float = 1.0) -> tuple[slice, slice]:
    half = side * scale / 2
    return (
        slice(max(0, round(y - half)), max(0, round(y + half))),
        slice(max(0, round(x - half)), max(0, round(x + half))),
    )


def _covered_share(square: tuple[slice, slice], cover: tuple[slice, slice]) -> float:
    """Return the share of ``square`` that ``cover`` covers."""
    area, shared = 1, 1
    for one, other in zip(square, cover, strict=True):
        area *= max(1, one.stop - one.start)
        shared *= max(0, min(one.stop, other.stop) - max(one.start, other.start))
    return shared / area


def _inside_share(x: float, y: float, side: float) -> float:
    """Return the share of a square that lies inside the scene."""
    inside = 1.0
    for center in (x, y):
        inside *= max(0.0, min(center + side / 2, SCENE_PX) - max(center - side / 2, 0)) / side
    return inside

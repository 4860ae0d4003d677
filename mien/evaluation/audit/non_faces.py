"""Detection of pictures that are no faces, learned from the data set alone.

There are no labels for non-faces, but distorted faces serve as examples: shuffled tiles, rotated faces, small pieces, random
phases. A small network learns to separate the pictures of the set from these. A picture that it classifies as distorted is
no face, or has an unusual framing, rotation or occlusion.

Source: Golan & El-Yaniv, "Deep anomaly detection using geometric transformations", 2018. Distances to a mean face or to
principal components do not work: smooth pictures without a face are nearer than real faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mien.core.preprocessing import resize
from mien.core.progress import progress_bar

#: Log odds above which a picture is no face. Not 0, since non-faces are much rarer than in training. With this margin, 90 % of
#: crops of photographs without faces are found, and 1 to 2 % of the pictures of FER2013.
LOG_ODDS_MARGIN = 1.5
_SIDE_PX = 48
_TRAINING_PICTURES = 12_000  # pictures of each kind
_CELLS = 12  # side of the coarse picture; gradients alone do not contain brightness
_HIDDEN, _EPOCHS, _BATCH, _RATE, _DECAY = 64, 5, 128, 1e-3, 1e-2


def score_non_faces(images: np.ndarray, *, seed: int = 0, quiet: bool = False) -> np.ndarray:
    """Compute the log odds that each uint8 picture (N, H, W) is no face, minus LOG_ODDS_MARGIN: float32 (N,).

    Pictures with a score above 0 are no faces. Each half of the set is scored by a network that was trained on the other
    half. A few hundred faces are not enough for reliable scores.
    """
    if len(images) < 4:
        return np.full(len(images), -np.inf, np.float32)
    rng = np.random.default_rng(seed)
    pictures = (
        images if images.shape[1:] == (_SIDE_PX, _SIDE_PX) else np.stack([resize(image, _SIDE_PX) for image in images])
    )
    score = np.empty(len(images), np.float32)
    halves = np.array_split(rng.permutation(len(images)), 2)
    steps = len(images) + 6 * _TRAINING_PICTURES
    with progress_bar("non-faces", steps, quiet=quiet) as bar:
        described = describe_pictures(pictures, bar.advance)
        for ours, others in (halves, halves[::-1]):
            # The pictures of a small set are used several times. Half of them are mirrored.
            drawn = np.concatenate([rng.permutation(others) for _ in range(-(-_TRAINING_PICTURES // len(others)))])[
                :_TRAINING_PICTURES
            ]
            shown = np.where(rng.random((len(drawn), 1, 1)) < 0.5, pictures[drawn], pictures[drawn][:, :, ::-1])
            non_faces = make_non_faces(pictures[others], len(drawn), rng)
            network = _Network(
                np.concatenate([describe_pictures(shown, bar.advance), describe_pictures(non_faces, bar.advance)]), rng
            )
            network.fit(np.repeat([0.0, 1.0], [len(shown), len(non_faces)]), rng)
            score[ours] = network.log_odds(described[ours]) - LOG_ODDS_MARGIN
            bar.advance(_TRAINING_PICTURES)
    return score


def describe_pictures(images: np.ndarray, advance: Callable[[float], None] = lambda amount: None) -> np.ndarray:
    """Compute the features of pictures, uint8 (N, 48, 48) → float32 (N, 1044): gradients and a normalized 12 × 12 picture."""
    pictures = images.astype(np.float32)
    cells = pictures.reshape(len(images), _CELLS, _SIDE_PX // _CELLS, _CELLS, _SIDE_PX // _CELLS).mean(axis=(2, 4))
    mean, deviation = pictures.mean(axis=(1, 2)), np.maximum(pictures.std(axis=(1, 2)), 3)
    coarse = (cells.reshape(len(images), -1) - mean[:, None]) / deviation[:, None]
    return np.concatenate([oriented_gradients(images, advance), coarse], axis=1)


def oriented_gradients(images: np.ndarray, advance: Callable[[float], None] = lambda amount: None) -> np.ndarray:
    """Compute histograms of oriented gradients: uint8 (N, 48, 48) → float32 (N, 900).

    5 × 5 blocks of 2 × 2 cells of 8 × 8 pixels, nine directions for each cell (Dalal & Triggs, "Histograms of oriented gradients for human detection", 2005).
    """
    import cv2

    histograms = cv2.HOGDescriptor((_SIDE_PX, _SIDE_PX), (16, 16), (8, 8), (8, 8), 9)
    rows = np.empty((len(images), histograms.getDescriptorSize()), np.float32)
    for index, image in enumerate(images):
        rows[index] = np.ravel(histograms.compute(np.ascontiguousarray(image)))
        if (index + 1) % 1000 == 0:
            advance(1000)
    return rows


def make_non_faces(
    images: np.ndarray,
    count: int,
    rng: np.random.Generator,
    distortions: Sequence[Callable[[np.ndarray, np.random.Generator], np.ndarray]] | None = None,
) -> np.ndarray:
    """Distort random faces uint8 (N, S, S) to non-faces uint8 (count, S, S), by the distortions in turn; default: all six."""
    distortions = distortions or (_shuffle_tiles, _rotate, _enlarge_piece, _randomize_phases, _roll, _repeat_piece)
    rows = rng.integers(0, len(images), count)
    return np.stack([distortions[index % len(distortions)](images[row], rng) for index, row in enumerate(rows)])


def _shuffle_tiles(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle square tiles."""
    cells = int(rng.choice([2, 3, 4, 6, 8]))
    side = len(image) // cells
    if side * cells < len(image):  # pixels outside the tiles are cut off
        return resize(_permute_tiles(image[: side * cells, : side * cells], cells, rng), len(image))
    return _permute_tiles(image, cells, rng)


def _permute_tiles(image: np.ndarray, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Permute the cells × cells tiles of a picture (S, S), where S is a multiple of cells."""
    side = len(image) // cells
    tiles = image.reshape(cells, side, cells, side).swapaxes(1, 2).reshape(-1, side, side)
    tiles = tiles[rng.permutation(cells * cells)]
    return tiles.reshape(cells, cells, side, side).swapaxes(1, 2).reshape(image.shape)


def _rotate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate by 90, 180 or 270 degrees."""
    return np.rot90(image, int(rng.integers(1, 4)))


def _enlarge_piece(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Enlarge a piece that is too small to be recognized."""
    side = int(rng.integers(len(image) // 6, len(image) // 2 - 2))
    top, left = rng.integers(0, len(image) - side, 2)
    return resize(image[top : top + side, left : left + side], len(image))


def _randomize_phases(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep the frequencies of the picture and replace its phases by those of noise, which gives a texture."""
    phases = np.angle(np.fft.fft2(rng.normal(size=image.shape)))
    texture = np.real(np.fft.ifft2(np.abs(np.fft.fft2(image)) * np.exp(1j * phases)))
    texture = (texture - texture.mean()) / (texture.std() + 1e-6) * image.std() + image.mean()
    return np.clip(texture, 0, 255).astype(np.uint8)


def _roll(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift cyclically by a quarter to three quarters of the side."""
    down, right = rng.integers(len(image) // 4, 3 * len(image) // 4 + 1, 2)
    return np.roll(image, (int(down), int(right)), (0, 1))


def _repeat_piece(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Repeat a rotated piece of half the size four times."""
    side = int(rng.integers(len(image) // 3, len(image)))
    top, left = rng.integers(0, len(image) - side + 1, 2)
    piece = resize(image[top : top + side, left : left + side], (len(image) + 1) // 2)
    return np.tile(np.rot90(piece, int(rng.integers(4))), (2, 2))[: len(image), : len(image)]


#: Distortions after which no face is recognizable.
SCRAMBLING = (_shuffle_tiles, _enlarge_piece, _randomize_phases, _roll, _repeat_piece)


class _Network:
    """A network in numpy: one hidden ReLU layer, logistic loss, trained with Adam (Kingma & Ba, 2015)."""

    def __init__(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.mean, self.deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        self.rows = self._scaled(rows)
        width = rows.shape[1]
        self.weights = [
            rng.normal(0, np.sqrt(2 / width), (width, _HIDDEN)).astype(np.float32),
            np.zeros(_HIDDEN, np.float32),
            rng.normal(0, np.sqrt(2 / _HIDDEN), _HIDDEN).astype(np.float32),
            np.zeros((), np.float32),
        ]

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) / self.deviation

    def fit(self, targets: np.ndarray, rng: np.random.Generator) -> None:
        """Train on the rows of the constructor with targets float (N,), 1 for non-faces."""
        first = [np.zeros_like(weight) for weight in self.weights]
        second = [np.zeros_like(weight) for weight in self.weights]
        step = 0
        for _ in range(_EPOCHS):
            order = rng.permutation(len(targets))
            for start in range(0, len(order), _BATCH):
                batch, step = order[start : start + _BATCH], step + 1
                for index, gradient in enumerate(self._gradients(self.rows[batch], targets[batch])):
                    first[index] = 0.9 * first[index] + 0.1 * gradient
                    second[index] = 0.999 * second[index] + 0.001 * gradient**2
                    change = first[index] / (1 - 0.9**step) / (np.sqrt(second[index] / (1 - 0.999**step)) + 1e-8)
                    self.weights[index] = (self.weights[index] - _RATE * change).astype(np.float32)

    def _gradients(self, rows: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        into, bias, out, offset = self.weights
        hidden = np.maximum(rows @ into + bias, 0)  # (B, H)
        odds = np.clip(hidden @ out + offset, -30, 30)
        error = ((1 / (1 + np.exp(-odds)) - targets) / len(rows)).astype(np.float32)  # (B,)
        back = np.outer(error, out) * (hidden > 0)
        return [rows.T @ back + _DECAY / len(rows) * into, back.sum(axis=0), hidden.T @ error, error.sum()]

    def log_odds(self, rows: np.ndarray) -> np.ndarray:
        """Return the log odds float (N,) that each row float (N, D) is a non-face."""
        into, bias, out, offset = self.weights
        return np.maximum(self._scaled(rows) @ into + bias, 0) @ out + offset

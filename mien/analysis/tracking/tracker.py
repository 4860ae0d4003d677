"""Faces linked over time, so that one person keeps one number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mien.analysis.detection.detectors import crop_faces
from mien.analysis.media.yuv import YuvImage

#: Boxes further apart than this (in sides of a face) and without overlap are never the same face a moment later.
MAX_MATCH_DISTANCE = 0.8

#: A face that is not seen keeps its place, moving on as it moved, for so long; then its number is given up.
MEMORY_S = 1.0

#: A track that was given up, by time or by a cut, is taken up again within so long...
RETURN_S = 30.0

#: ...where a face looks like it: the correlation of the two crops. What is asked for depends on how far away it appears, in
#: sides of a face, and anywhere. Of pairs of different faces of FER2013's PublicTest 23, 2 and 0.1 in 1,000 reach
#: these, of the same face shifted, turned, scaled and lit otherwise 997, 966 and 774 (benchmarks/looks.py).
SIMILARITY_THRESHOLDS = ((0.8, 0.6), (3.0, 0.75), (math.inf, 0.85))

#: Nearer than the last of these, faces of one person have one size; further away they may be of another shot.
SAME_SIZE_DISTANCE = 3.0

#: Two faces that are less alike than this are two persons, if no more than so many seconds lie between them: of pairs of
#: different faces of FER2013's PublicTest 86 in 100 are, of the same face shifted, turned, scaled and lit otherwise none.
MAX_STRANGER_SIMILARITY, STRANGER_TIME_S = 0.4, 0.25

#: A face is somebody else than who should be there if it is so much more like another.
SIMILARITY_MARGIN = 0.25

#: Faces are compared at this size: hair, brows, shadows and the set of the head, not the expression.
EMBEDDING_SIDE_PX = 12

#: Share of a new look in what is known of a track's: little, since a face that is about to vanish is half covered.
EMBEDDING_UPDATE_SHARE = 0.03

#: Share of a new position that is believed; the rest is what the motion so far foretold. Of the speed, less.
POSITION_SHARE, SPEED_SHARE = 0.7, 0.4

#: Seconds between two frames that a speed is told from, at least: nearer ones stand beside a hole in a file's times.
MIN_STEP_S = 0.001


@dataclass(eq=False)
class Track:
    """One face over time.

    number    unique within a video, from 0
    place     (4,) float64: center x, center y in pixels, logarithm of width and of height
    speed     (4,) float64: the same for each second
    time_s    when it was last seen
    seen      how often it was seen
    looks     (2, LOOK_SIDE²): what it looks like most of the time, and what it looked like last; None where nobody looked
    """

    number: int
    place: np.ndarray
    speed: np.ndarray
    time_s: float
    update_count: int = 1
    embeddings: np.ndarray | None = None

    def predict_place(self, time_s: float) -> np.ndarray:
        """Where it should be, (4,); the size does not go on growing while it is out of sight."""
        elapsed = time_s - self.time_s
        return self.place + self.speed * elapsed * np.array([1, 1, 0, 0])

    def update(self, place: np.ndarray, time_s: float) -> None:
        """It is seen here now."""
        elapsed = max(time_s - self.time_s, MIN_STEP_S)
        foretold = self.predict_place(time_s)
        now = foretold + POSITION_SHARE * (place - foretold)
        # A single step tells nothing of the speed that came before it: the first one is believed in full.
        share = 1.0 if self.update_count == 1 else SPEED_SHARE
        self.speed += share * ((place - self.place) / elapsed - self.speed)
        self.place, self.time_s, self.update_count = now, time_s, self.update_count + 1

    @property
    def has_stable_appearance(self) -> bool:
        """Whether it looks now as it does most of the time: not of a head that turns, or of noise in the dark."""
        return (
            self.update_count > 1
            and self.embeddings is not None
            and _appearance_similarities(self.embeddings[None, :1], self.embeddings[1:])[0, 0]
            >= SIMILARITY_THRESHOLDS[0][1]
        )

    def update_embedding(self, look: np.ndarray) -> None:
        """It looks like this now, (LOOK_SIDE²,)."""
        usual = (
            look
            if self.embeddings is None
            else self.embeddings[0] + EMBEDDING_UPDATE_SHARE * (look - self.embeddings[0])
        )
        self.embeddings = np.stack([usual, look])


@dataclass
class Tracker:
    """Gives each detected face the number of its track; new faces get new numbers.

    Boxes are matched to where the tracks should be by now, all at once, at the least total cost (the Hungarian
    assignment of SORT: Bewley et al., "Simple Online and Realtime Tracking", 2016). The cost of a pair is 1 − their
    overlap plus their distance in sides of a face plus the difference of the logarithms of their sizes. Where appearance
    says that a face is somebody else than who should be there, as where the tiles of a video call change places,
    appearance decides.

    memory_s   a track that is not seen for longer is given up
    return_s   and forgotten after this
    jumped     how many persons were found elsewhere in the last frame than where they were before, by their looks
    stayed     how many were known again there where they were
    """

    memory_s: float = MEMORY_S
    return_s: float = RETURN_S
    moved_count: int = 0
    stayed_count: int = 0
    tracks: list[Track] = field(default_factory=list)
    next_number: int = 0
    lost_tracks: list[Track] = field(default_factory=list)

    def update(self, boxes_xyxy: np.ndarray, time_s: float, embeddings: np.ndarray | None = None) -> list[int]:
        """Boxes (N, 4) of one frame, times rising from call to call → a number for each box.

        looks: (N, D) from ``looks_of``. With them a face that comes back, after a cut or from behind something, gets its
        number again where place, size and look agree; without them it gets a new one.
        """
        self._retire_tracks([track for track in self.tracks if time_s - track.time_s > self.memory_s])
        self.lost_tracks = [track for track in self.lost_tracks if time_s - track.time_s <= self.return_s]
        places = boxes_to_places(boxes_xyxy)
        matched = self._match(places, time_s)
        if embeddings is not None:
            matched = self._reject_strangers(matched, embeddings, time_s)
            matched |= self._reidentify(places, embeddings, matched)
        numbers = []
        for index, place in enumerate(places):
            track = matched.get(index)
            if track is None:
                track = Track(self.next_number, place, np.zeros(4), time_s)
                self.tracks.append(track)
                self.next_number += 1
            elif track in self.tracks:
                track.update(place, time_s)
            else:
                track = Track(track.number, place, np.zeros(4), time_s, embeddings=track.embeddings)
                self.tracks.append(track)
            if embeddings is not None:
                track.update_embedding(embeddings[index])
            numbers.append(track.number)
        return numbers

    def start_shot(self) -> None:
        """The picture changed altogether: nobody is where the motion so far foretold."""
        self._retire_tracks(self.tracks)

    def _retire_tracks(self, tracks: list[Track]) -> None:
        self.lost_tracks += [track for track in tracks if track.embeddings is not None]
        self.tracks = [track for track in self.tracks if track not in tracks]

    def _reject_strangers(self, matched: dict[int, Track], looks: np.ndarray, time_s: float) -> dict[int, Track]:
        """The matches without those in which somebody else stands where a track should be; such a track is given up.

        Somebody else looks like another track, or, a moment later, not like this one, if this one looks like itself: not
        a head that turns, nor noise in the dark.
        """
        known = [track for track in (*self.tracks, *self.lost_tracks) if track.embeddings is not None]
        if not known:
            return matched
        strangers: dict[int, Track] = {}
        alike = _appearance_similarities(
            np.stack([track.embeddings for track in known if track.embeddings is not None]), looks
        )  # (G, N)
        for index, track in matched.items():
            if track not in known:
                continue
            own, best = alike[known.index(track), index], alike[:, index].max()
            is_other = (
                own < MAX_STRANGER_SIMILARITY
                and time_s - track.time_s <= STRANGER_TIME_S
                and track.has_stable_appearance
            )
            if is_other or (best >= SIMILARITY_THRESHOLDS[1][1] and best - own > SIMILARITY_MARGIN):
                strangers[index] = track
        self._retire_tracks(list(strangers.values()))
        return {index: track for index, track in matched.items() if index not in strangers}

    def _reidentify(self, places: np.ndarray, looks: np.ndarray, matched: dict[int, Track]) -> dict[int, Track]:
        """Index of a place that no track leads to → whose track it continues by its look; the most alike first."""
        self.moved_count = self.stayed_count = 0
        new = [index for index in range(len(places)) if index not in matched]
        taken = list(matched.values())
        lost = [
            track for track in (*self.tracks, *self.lost_tracks) if track.embeddings is not None and track not in taken
        ]
        if not new or not lost:
            return {}
        distance, growth = pair_distances(np.stack([track.place for track in lost]), places[new])
        alike = _appearance_similarities(
            np.stack([track.embeddings for track in lost if track.embeddings is not None]), looks[new]
        )  # (G, N)
        asked = np.select(
            [distance < reach for reach, _ in SIMILARITY_THRESHOLDS], [least for _, least in SIMILARITY_THRESHOLDS]
        )
        same_size = (growth < math.log(2)) | (distance >= SAME_SIZE_DISTANCE)
        alike = np.where((alike >= asked) & same_size, alike, -1.0)
        found: dict[int, Track] = {}
        while alike.size and alike.max() > 0:
            row, column = np.unravel_index(alike.argmax(), alike.shape)
            found[new[column]] = lost[row]
            self.moved_count += bool(distance[row, column] > MAX_MATCH_DISTANCE)
            self.stayed_count += bool(distance[row, column] <= MAX_MATCH_DISTANCE)
            alike[row], alike[:, column] = -1.0, -1.0
        returned = list(found.values())
        self.lost_tracks = [track for track in self.lost_tracks if track not in returned]
        self.tracks = [track for track in self.tracks if track not in returned]
        return found

    def _match(self, places: np.ndarray, time_s: float) -> dict[int, Track]:
        """Index of a place → the track that it continues."""
        if not len(places) or not self.tracks:
            return {}
        import lap

        expected = np.stack([track.predict_place(time_s) for track in self.tracks])  # (T, 4)
        costs, allowed = pair_costs(expected, places)
        most = 1e6
        _, column_of, _ = lap.lapjv(np.where(allowed, costs, most), extend_cost=True)
        return {
            int(column): self.tracks[row]
            for row, column in enumerate(column_of)
            if column >= 0 and allowed[row, column]
        }


def _appearance_similarities(known: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """(G, 2, D) looks of tracks and (N, D) of faces → how alike they are (G, N): the better of the usual look and the last."""
    known = known / np.maximum(np.linalg.norm(known, axis=2, keepdims=True), 1e-6)
    return (known @ looks.T).max(axis=1)


def boxes_to_places(boxes_xyxy: np.ndarray) -> np.ndarray:
    """(N, 4) corners → (N, 4) centers and logarithms of the sides."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.log(sides)], axis=1)


def pair_costs(expected: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4) and (N, 4) places → costs (T, N), and bool (T, N): which pairs can be one face at all."""
    distance, growth = pair_distances(expected, places)
    overlap = pairwise_iou(places_to_boxes(expected), places_to_boxes(places))
    allowed = ((overlap > 0) | (distance < MAX_MATCH_DISTANCE)) & (growth < math.log(2))
    return 1 - overlap + distance + growth, allowed


def pair_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4) and (N, 4) places → distances in sides of a face (T, N), and differences of the logarithms of their sizes."""
    a, b = a[:, None], b[None]
    sides = np.exp((a[..., 2:].mean(axis=-1) + b[..., 2:].mean(axis=-1)) / 2)  # geometric mean of all four sides
    distance = np.hypot(*np.moveaxis(a[..., :2] - b[..., :2], -1, 0)) / sides
    return distance, np.abs(a[..., 2:] - b[..., 2:]).max(axis=-1)


def appearance_embeddings(picture: np.ndarray | YuvImage, boxes_xyxy: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) or planes, and boxes (N, 4) → float32 (N, LOOK_SIDE²): small gray crops without their light, of length 1.

    The product of two is their correlation.
    """
    seen = picture.luma if isinstance(picture, YuvImage) else picture
    crops = crop_faces(seen, boxes_xyxy, None, EMBEDDING_SIDE_PX).astype(np.float32)
    crops = (crops if crops.ndim == 3 else crops.mean(axis=-1)).reshape(-1, EMBEDDING_SIDE_PX**2)
    crops -= crops.mean(axis=1, keepdims=True)
    return crops / np.maximum(np.linalg.norm(crops, axis=1, keepdims=True), 1e-6)


def places_to_boxes(places: np.ndarray) -> np.ndarray:
    """(N, 4) centers and logarithms of the sides → (N, 4) corners."""
    half = np.exp(places[:, 2:]) / 2
    return np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)


def pairwise_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (T, 4) and (N, 4) → (T, N)."""
    a, b = np.asarray(a_xyxy, np.float64)[:, None], np.asarray(b_xyxy, np.float64)[None]
    shared = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    return shared / np.maximum(areas - shared, 1e-12)


#: Frames are compared at this size, (width, height).
CUT_SIZE_WH = (32, 18)

#: How far two small pictures, of mean 0 and deviation 1, are apart on average where there is a cut: two that have nothing
#: to do with each other by about 1, those of a quick pan by less than half of that.
CUT_DIFFERENCE = 0.5

#: Seconds between two frames from which on a moving camera changes the picture as a cut does, so that more is asked for.
SPARSE_S, SPARSE_DIFFERENCE = 0.15, 0.8

#: Deviation of brightness, of 255, below which a picture counts as flat: what little there is in it may be noise.
MIN_CONTRAST = 8.0

#: A line of a small picture with less deviation than this, and less change, is a bar at the border.
MAX_BAR_CONTRAST = 2.0


@dataclass
class CutDetector:
    """Tells where a video cuts to another shot.

    A cut changes most of the picture at once: small copies of two frames in a row, without their light and contrast and
    without black bars, differ by more than ``difference`` on average, and by more than twice what they differed by
    lately, so that a shaking camera is not one cut after the other, nor is a flickering light.
    """

    difference: float = CUT_DIFFERENCE
    _before: np.ndarray | None = None
    _usual_change: float = 0.0

    def is_cut(self, gray: np.ndarray, elapsed_s: float = 0.0) -> bool:
        """Gray uint8 (H, W) of any size → whether a new shot begins with it; of a video's first frame no.

        elapsed_s: since the frame before. After more than SPARSE_S a moving camera looks like a cut: who is still where
        they were tells then that there was none (`Follower.was_cut`).
        """
        import cv2

        small = cv2.resize(gray, CUT_SIZE_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        inside = _find_content(before, small)
        change = float(np.abs(_standardize(small[inside]) - _standardize(before[inside])).mean())
        least = self.difference if elapsed_s <= SPARSE_S else max(self.difference, SPARSE_DIFFERENCE)
        found = change > max(least, 2 * self._usual_change)
        if not found:
            self._usual_change += 0.1 * (change - self._usual_change)
        return found


def _standardize(picture: np.ndarray) -> np.ndarray:
    """Without its light and contrast: mean 0, deviation 1; flat pictures stay flat."""
    return (picture - picture.mean()) / max(float(picture.std()), MIN_CONTRAST)


def _find_content(a: np.ndarray, b: np.ndarray) -> tuple[slice, slice]:
    """The part inside lines at the borders that are flat, and alike in both; all of it where nothing would be left."""
    inside = []
    for axis in (1, 0):
        bar = (
            (a.std(axis) < MAX_BAR_CONTRAST)
            & (b.std(axis) < MAX_BAR_CONTRAST)
            & (np.abs(a.mean(axis) - b.mean(axis)) < MAX_BAR_CONTRAST)
        )
        lines = np.flatnonzero(~bar)
        inside.append(slice(lines[0], lines[-1] + 1) if len(lines) else slice(None))
    return inside[0], inside[1]

"""Link faces over time, so that a person keeps the same track number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mien.analysis.detection.framing import crop_faces
from mien.analysis.media.yuv import YuvImage

#: Maximum distance of two boxes without overlap that can be the same face in consecutive frames, in sides of a face.
MAX_MATCH_DISTANCE = 0.8

#: A face that is not detected keeps its track, which moves on at its last speed, for this long.
MEMORY_S = 1.0

#: A lost track can be continued within this time...
RETURN_S = 30.0

#: ...by a face of similar appearance: (maximum distance in sides of a face, minimum correlation of the embeddings). Of pairs of
#: different faces of FER2013's PublicTest 23, 2 and 0.1 in 1,000 reach these correlations; of the same face shifted, rotated,
#: scaled and lit differently 997, 966 and 774 (benchmarks/appearance.py).
SIMILARITY_THRESHOLDS = ((0.8, 0.6), (3.0, 0.75), (math.inf, 0.85))

#: Within this distance a person's face keeps its size; further away it may be in another shot.
SAME_SIZE_DISTANCE = 3.0

#: Two faces with a lower correlation are two persons, if at most this many seconds lie between them: 86 % of the pairs of
#: different faces of FER2013's PublicTest, and none of the same face shifted, rotated, scaled and lit differently.
MAX_STRANGER_SIMILARITY, STRANGER_TIME_S = 0.4, 0.25

#: A face belongs to another track than the expected one if its correlation with that is higher by this margin.
SIMILARITY_MARGIN = 0.25

#: Side of the embedded crop in pixels: hair, brows, shadows and the pose of the head remain, the expression does not.
EMBEDDING_SIDE_PX = 12

#: Weight of a new embedding in a track's average: low, since a face that disappears is half covered before.
EMBEDDING_UPDATE_SHARE = 0.03

#: Weights of a new position and of a new speed against the predicted ones.
POSITION_SHARE, SPEED_SHARE = 0.7, 0.4

#: Minimum time in seconds from which a speed is computed: closer frames are next to a gap in a file's time stamps.
MIN_STEP_S = 0.001


@dataclass(eq=False)
class Track:
    """One face over time.

    number         unique within a video, from 0
    place          float64 (4,): center x and y in pixels, logarithms of width and height
    speed          float64 (4,): change of ``place`` per second
    time_s         time of the last update
    update_count   number of updates
    embeddings     float32 (2, EMBEDDING_SIDE_PX²): average and last appearance; None without pictures
    """

    number: int
    place: np.ndarray
    speed: np.ndarray
    time_s: float
    update_count: int = 1
    embeddings: np.ndarray | None = None

    def predict_place(self, time_s: float) -> np.ndarray:
        """Return the predicted place (4,) at a time; the size stays constant."""
        elapsed = time_s - self.time_s
        return self.place + self.speed * elapsed * np.array([1, 1, 0, 0])

    def update(self, place: np.ndarray, time_s: float) -> None:
        """Add a detection at ``place`` (4,)."""
        elapsed = max(time_s - self.time_s, MIN_STEP_S)
        predicted = self.predict_place(time_s)
        now = predicted + POSITION_SHARE * (place - predicted)
        # The first step sets the speed, since there is none to average with.
        share = 1.0 if self.update_count == 1 else SPEED_SHARE
        self.speed += share * ((place - self.place) / elapsed - self.speed)
        self.place, self.time_s, self.update_count = now, time_s, self.update_count + 1

    @property
    def has_stable_appearance(self) -> bool:
        """Whether the last appearance is similar to the average: not so for a turning head, or noise in the dark."""
        return (
            self.update_count > 1
            and self.embeddings is not None
            and _appearance_similarities(self.embeddings[None, :1], self.embeddings[1:])[0, 0]
            >= SIMILARITY_THRESHOLDS[0][1]
        )

    def update_embedding(self, embedding: np.ndarray) -> None:
        """Add the embedding (EMBEDDING_SIDE_PX²,) of a detection."""
        average = (
            embedding
            if self.embeddings is None
            else self.embeddings[0] + EMBEDDING_UPDATE_SHARE * (embedding - self.embeddings[0])
        )
        self.embeddings = np.stack([average, embedding])


@dataclass
class Tracker:
    """Assign a track number to each detected face; new faces get new numbers.

    Boxes are matched with the predicted places of the tracks at the minimum total cost (the Hungarian assignment of SORT:
    Bewley et al., "Simple Online and Realtime Tracking", 2016). The cost of a pair is 1 − IoU, plus the distance in sides of
    a face, plus the difference of the logarithms of the sizes. If the appearance shows that a face is another person, as
    when the tiles of a video call change places, the appearance decides.

    memory_s       a track without detection for longer is lost
    return_s       a lost track is forgotten after this time
    moved_count    persons of the last frame that were recognized by their appearance at another place
    stayed_count   persons of the last frame that were recognized at the same place
    """

    memory_s: float = MEMORY_S
    return_s: float = RETURN_S
    moved_count: int = 0
    stayed_count: int = 0
    tracks: list[Track] = field(default_factory=list)
    next_number: int = 0
    lost_tracks: list[Track] = field(default_factory=list)

    def update(self, boxes_xyxy: np.ndarray, time_s: float, embeddings: np.ndarray | None = None) -> list[int]:
        """Add the boxes (N, 4) of a frame at an increasing time → the track number of each box.

        embeddings: float32 (N, EMBEDDING_SIDE_PX²) from ``appearance_embeddings``. With them, a face that reappears keeps
        its number if position, size and appearance match; without them it gets a new number.
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
        """Start a new shot: positions of the last one predict nothing."""
        self._retire_tracks(self.tracks)

    def _retire_tracks(self, tracks: list[Track]) -> None:
        """Move tracks to the lost ones, if they have embeddings."""
        self.lost_tracks += [track for track in tracks if track.embeddings is not None]
        self.tracks = [track for track in self.tracks if track not in tracks]

    def _reject_strangers(self, matched: dict[int, Track], embeddings: np.ndarray, time_s: float) -> dict[int, Track]:
        """Return the matches without those of another person than the track's; such a track is lost.

        A face is another person if it is more similar to another track, or, within a moment, not similar to this track
        although that has a stable appearance.
        """
        known = [track for track in (*self.tracks, *self.lost_tracks) if track.embeddings is not None]
        if not known:
            return matched
        strangers: dict[int, Track] = {}
        alike = _appearance_similarities(
            np.stack([track.embeddings for track in known if track.embeddings is not None]), embeddings
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

    def _reidentify(self, places: np.ndarray, embeddings: np.ndarray, matched: dict[int, Track]) -> dict[int, Track]:
        """Match the remaining places with lost tracks by appearance, most similar first → {index of a place: track}."""
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
            np.stack([track.embeddings for track in lost if track.embeddings is not None]), embeddings[new]
        )  # (G, N)
        min_similarity = np.select(
            [distance < reach for reach, _ in SIMILARITY_THRESHOLDS], [least for _, least in SIMILARITY_THRESHOLDS]
        )
        same_size = (growth < math.log(2)) | (distance >= SAME_SIZE_DISTANCE)
        alike = np.where((alike >= min_similarity) & same_size, alike, -1.0)
        matches: dict[int, Track] = {}
        while alike.size and alike.max() > 0:
            row, column = np.unravel_index(alike.argmax(), alike.shape)
            matches[new[column]] = lost[row]
            self.moved_count += bool(distance[row, column] > MAX_MATCH_DISTANCE)
            self.stayed_count += bool(distance[row, column] <= MAX_MATCH_DISTANCE)
            alike[row], alike[:, column] = -1.0, -1.0
        returned = list(matches.values())
        self.lost_tracks = [track for track in self.lost_tracks if track not in returned]
        self.tracks = [track for track in self.tracks if track not in returned]
        return matches

    def _match(self, places: np.ndarray, time_s: float) -> dict[int, Track]:
        """Match places (N, 4) with the predicted places of the tracks → {index of a place: track}."""
        if not len(places) or not self.tracks:
            return {}
        import lap

        expected = np.stack([track.predict_place(time_s) for track in self.tracks])  # (T, 4)
        costs, allowed = pair_costs(expected, places)
        forbidden_cost = 1e6
        _, column_of, _ = lap.lapjv(np.where(allowed, costs, forbidden_cost), extend_cost=True)
        return {
            int(column): self.tracks[row]
            for row, column in enumerate(column_of)
            if column >= 0 and allowed[row, column]
        }


def _appearance_similarities(tracks: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the correlations (G, N) of tracks (G, 2, D) and faces (N, D): the higher one of average and last appearance."""
    tracks = tracks / np.maximum(np.linalg.norm(tracks, axis=2, keepdims=True), 1e-6)
    return (tracks @ faces.T).max(axis=1)


def boxes_to_places(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Convert corners (N, 4) to places float64 (N, 4): centers, and logarithms of the sides."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.log(sides)], axis=1)


def pair_costs(expected: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for places (T, 4) and (N, 4) the costs (T, N), and bool (T, N): which pairs can be the same face."""
    distance, growth = pair_distances(expected, places)
    overlap = pairwise_iou(places_to_boxes(expected), places_to_boxes(places))
    allowed = ((overlap > 0) | (distance < MAX_MATCH_DISTANCE)) & (growth < math.log(2))
    return 1 - overlap + distance + growth, allowed


def pair_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for places (T, 4) and (N, 4) the distances in sides of a face and the differences of log sizes, both (T, N)."""
    a, b = a[:, None], b[None]
    sides = np.exp((a[..., 2:].mean(axis=-1) + b[..., 2:].mean(axis=-1)) / 2)  # geometric mean of all four sides
    distance = np.hypot(*np.moveaxis(a[..., :2] - b[..., :2], -1, 0)) / sides
    return distance, np.abs(a[..., 2:] - b[..., 2:]).max(axis=-1)


def appearance_embeddings(picture: np.ndarray | YuvImage, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Embed the appearance of boxes (N, 4) in RGB uint8 (H, W, 3) or YUV → float32 (N, EMBEDDING_SIDE_PX²) of length 1.

    An embedding is a small gray crop with zero mean. The product of two is their correlation.
    """
    pixels = picture.luma if isinstance(picture, YuvImage) else picture
    crops = crop_faces(pixels, boxes_xyxy, None, EMBEDDING_SIDE_PX).astype(np.float32)
    crops = (crops if crops.ndim == 3 else crops.mean(axis=-1)).reshape(-1, EMBEDDING_SIDE_PX**2)
    crops -= crops.mean(axis=1, keepdims=True)
    return crops / np.maximum(np.linalg.norm(crops, axis=1, keepdims=True), 1e-6)


def places_to_boxes(places: np.ndarray) -> np.ndarray:
    """Convert places (N, 4) to corners float64 (N, 4)."""
    half = np.exp(places[:, 2:]) / 2
    return np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1)


def pairwise_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the intersection over union (T, N) of boxes (T, 4) and (N, 4)."""
    a, b = np.asarray(a_xyxy, np.float64)[:, None], np.asarray(b_xyxy, np.float64)[None]
    shared = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    return shared / np.maximum(areas - shared, 1e-12)


#: Frames are compared at this size: width, height.
CUT_SIZE_WH = (32, 18)

#: Minimum mean absolute difference of two frames at a cut, after normalization to mean 0 and deviation 1. Unrelated frames differ
#: by about 1, those of a fast pan by less than half of that.
CUT_DIFFERENCE = 0.5

#: Beyond this many seconds between two frames a moving camera changes the frame like a cut; then the difference must be higher.
SPARSE_S, SPARSE_DIFFERENCE = 0.15, 0.8

#: Minimum standard deviation of a frame (of 255) for the normalization; below it there may be only noise.
MIN_CONTRAST = 8.0

#: Maximum deviation and change of a row or column that belongs to a black bar at the border.
MAX_BAR_CONTRAST = 2.0


@dataclass
class CutDetector:
    """Detect cuts between shots.

    At a cut most of the frame changes at once: small copies of two consecutive frames, normalized and without black bars,
    differ by more than ``difference`` on average, and by more than twice the recent average. So a shaking camera or a
    flickering light is not a series of cuts.
    """

    difference: float = CUT_DIFFERENCE
    _before: np.ndarray | None = None
    _usual_change: float = 0.0

    def is_cut(self, gray: np.ndarray, elapsed_s: float = 0.0) -> bool:
        """Whether a new shot starts with this frame, gray uint8 (H, W); False for the first frame.

        elapsed_s: seconds since the previous frame. Beyond SPARSE_S a moving camera looks like a cut; ``Follower.was_cut``
        then checks whether faces are still at their places.
        """

        import cv2

        small = cv2.resize(gray, CUT_SIZE_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, small
        if before is None:
            return False
        inside = _find_content(before, small)
        change = float(np.abs(_standardize(small[inside]) - _standardize(before[inside])).mean())
        least = self.difference if elapsed_s <= SPARSE_S else max(self.difference, SPARSE_DIFFERENCE)
        is_large = change > max(least, 2 * self._usual_change)
        if not is_large:
            self._usual_change += 0.1 * (change - self._usual_change)
        return is_large


def _standardize(picture: np.ndarray) -> np.ndarray:
    """Normalize to mean 0 and deviation 1; flat pictures stay flat."""
    return (picture - picture.mean()) / max(float(picture.std()), MIN_CONTRAST)


def _find_content(a: np.ndarray, b: np.ndarray) -> tuple[slice, slice]:
    """Return the (rows, columns) inside the black bars that both frames share; everything if nothing would remain."""
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

"""Pictures of high dynamic range (PQ of SMPTE ST 2084, HLG of ITU-R BT.2100) → what an ordinary screen shows."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

#: FFmpeg's numbers of how brightness is coded.
PQ, HLG = 16, 18

#: FFmpeg's number of BT.2020's primaries; and what makes BT.709's light of theirs (ITU-R BT.2087).
_BT2020 = 9
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)

#: The light of paper in cd/m² (ITU-R BT.2408); an ordinary screen shows it as white.
_PAPER_WHITE_CD_M2 = 203.0

#: Light above this share of white is bent, so that a lamp does not become a hole.
_KNEE = 0.75

#: Steps of the last table, over the square root of light up to so many times white.
_TABLE_STEPS, _MAX_LIGHT = 4096, 50.0


def is_hdr(transfer: int) -> bool:
    return transfer in (PQ, HLG)


def map_to_sdr(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """RGB uint8 (H, W, 3) as it is coded in PQ or HLG → the same for BT.709."""
    light = cv2.LUT(picture, _light_table(transfer))
    if primaries == _BT2020:
        light = cv2.transform(light, _TO_BT709)
    steps = np.sqrt(np.clip(light, 0, _MAX_LIGHT)) * ((_TABLE_STEPS - 1) / np.sqrt(_MAX_LIGHT))
    return _display_table()[steps.astype(np.uint16)]


@lru_cache
def _light_table(transfer: int) -> np.ndarray:
    """float32 (256,): the light of a code value, 1 for paper white."""
    code = np.arange(256) / 255
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:  # as a screen of 1,000 cd/m² shows it
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        light = 1_000 * scene**1.2
    return (light / _PAPER_WHITE_CD_M2).astype(np.float32)


@lru_cache
def _display_table() -> np.ndarray:
    """uint8 (_STEPS,): the code value of a screen with BT.1886's gamma for each step of light."""
    light = np.linspace(0, np.sqrt(_MAX_LIGHT), _TABLE_STEPS) ** 2
    bent = np.where(light <= _KNEE, light, 1 - (1 - _KNEE) * np.exp(-(light - _KNEE) / (1 - _KNEE)))
    return np.round(255 * bent ** (1 / 2.4)).astype(np.uint8)

"""Map pictures of high dynamic range (PQ of SMPTE ST 2084, HLG of ITU-R BT.2100) to standard dynamic range."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

#: FFmpeg's numbers of the transfer functions.
PQ, HLG = 16, 18

#: FFmpeg's number of the primaries of BT.2020, and the matrix from linear BT.2020 to linear BT.709 (ITU-R BT.2087).
_BT2020 = 9
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)

#: Luminance of diffuse white in cd/m² (ITU-R BT.2408); it becomes the white of the result.
_PAPER_WHITE_CD_M2 = 203.0

#: Light above this share of white is compressed, so that highlights keep some structure.
_KNEE = 0.75

#: Entries of the last table over the square root of light, and its maximum light as a multiple of white.
_TABLE_STEPS, _MAX_LIGHT = 4096, 50.0


def is_hdr(transfer: int) -> bool:
    """Whether FFmpeg's number of a transfer function means high dynamic range."""
    return transfer in (PQ, HLG)


def map_to_sdr(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Convert RGB uint8 (H, W, 3) in PQ or HLG to RGB uint8 (H, W, 3) in BT.709.

    transfer, primaries   FFmpeg's numbers, as frames carry them
    """
    light = cv2.LUT(picture, _light_table(transfer))
    if primaries == _BT2020:
        light = cv2.transform(light, _TO_BT709)
    steps = np.sqrt(np.clip(light, 0, _MAX_LIGHT)) * ((_TABLE_STEPS - 1) / np.sqrt(_MAX_LIGHT))
    return _display_table()[steps.astype(np.uint16)]


@lru_cache
def _light_table(transfer: int) -> np.ndarray:
    """Return linear light float32 (256,) of the code values; 1 is diffuse white."""
    code = np.arange(256) / 255
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:  # HLG on a screen of 1,000 cd/m²
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
        light = 1_000 * scene**1.2
    return (light / _PAPER_WHITE_CD_M2).astype(np.float32)


@lru_cache
def _display_table() -> np.ndarray:
    """Return code values uint8 (_TABLE_STEPS,) for the gamma of BT.1886, one for each step of light."""
    light = np.linspace(0, np.sqrt(_MAX_LIGHT), _TABLE_STEPS) ** 2
    bent = np.where(light <= _KNEE, light, 1 - (1 - _KNEE) * np.exp(-(light - _KNEE) / (1 - _KNEE)))
    return np.round(255 * bent ** (1 / 2.4)).astype(np.uint8)

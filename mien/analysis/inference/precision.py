"""int8 or float: which of a model's two files this machine should run.

A model ships as NAME.onnx (float32) and NAME.int8.onnx. The int8 file pays most where the processor multiplies bytes and
adds the products up in one instruction: AVX512-VNNI, AVX-VNNI or AMX on x86, the dot-product instructions on ARM. With AVX2
alone it still takes half the time of float; pairs of products are added in 16 bits there, which the weights of our int8
files, 7 bits wide, leave room for. Accelerators (CUDA, OpenVINO) are given the float file.
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from mien.core.errors import UsageError

Precision = Literal["auto", "float", "int8"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float", "int8")

#: The environment variable that chooses where nothing else does.
PRECISION_VARIABLE = "MIEN_PRECISION"

#: What operating systems call the instructions that make int8 pay → our name.
_LINUX = {"amx_int8": "AMX", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "avx2": "AVX2",
          "asimddp": "ARM dot product"}  # fmt: skip
_MACOS = {"hw.optional.avx512vnni": "AVX512-VNNI", "hw.optional.avx2_0": "AVX2",
          "hw.optional.arm.FEAT_DotProd": "ARM dot product"}  # fmt: skip
_NUMPY = {"AVX512VNNI": "AVX512-VNNI", "AVX512_ICL": "AVX512-VNNI", "AVX2": "AVX2", "ASIMDDP": "ARM dot product"}

#: Windows' number of "the SDOT and UDOT instructions are there" (PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE).
_WINDOWS_ARM_DOT = 43


def resolve_precision(precision: str) -> Precision:
    """``precision``, or for "auto" what MIEN_PRECISION says; UsageError, with the choices, for an unknown one."""
    for name, value in (("--precision", precision), (PRECISION_VARIABLE, os.environ.get(PRECISION_VARIABLE) or "auto")):
        if value not in PRECISIONS:
            raise UsageError(f"{name} {value}", "is unknown", f"choose one of {', '.join(PRECISIONS)}")
        if value != "auto":
            return value
    return "auto"


@cache
def find_int8_instructions() -> tuple[str, ...]:
    """The instructions of this processor that make int8 pay, as the operating system (else NumPy) tells them."""
    system = platform.system()
    if system == "Linux":
        found = _find_linux_instructions(Path("/proc/cpuinfo"))
    elif system == "Darwin":
        found = {ours for name, ours in _MACOS.items() if _has_sysctl_value(name)}
    else:
        found = _find_windows_instructions() | _find_numpy_instructions()
    return tuple(sorted(found))


def _find_linux_instructions(cpuinfo: Path) -> set[str]:
    """From the kernel's list: "flags" of the first processor on x86, "Features" on ARM."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a container without /proc
        return _find_numpy_instructions()
    named = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return {ours for name, ours in _LINUX.items() if name in named.split()}


def _has_sysctl_value(name: str) -> bool:
    """macOS: whether a value of the kernel is there and not 0."""
    import ctypes

    value, size = ctypes.c_int(0), ctypes.c_size_t(4)
    try:
        answer = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return False
    return answer == 0 and value.value != 0


def _find_windows_instructions() -> set[str]:
    if sys.platform != "win32":
        return set()
    import ctypes

    there = ctypes.windll.kernel32.IsProcessorFeaturePresent(_WINDOWS_ARM_DOT)
    return {"ARM dot product"} if there else set()


def _find_numpy_instructions() -> set[str]:
    """What NumPy found when it was loaded; its table is not part of its public names."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:
        return set()
    return {ours for name, ours in _NUMPY.items() if features.get(name)}

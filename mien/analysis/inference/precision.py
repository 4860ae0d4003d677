"""Tell which precision was requested, and whether int8 is faster on this processor.

`choose_model_file` in `mien.analysis.inference.model_file` decides by them which file of a model is run.

A model ships as NAME.onnx (float32) and NAME.int8.onnx. The int8 file is fastest if the processor multiplies and adds bytes in
one instruction: AVX512-VNNI, AVX-VNNI or AMX on x86, the dot-product instructions on ARM. With AVX2 alone it takes half the
time of float; there products are added in 16 bits, which the 7-bit weights of mien's int8 files do not overflow. Accelerators
(CUDA, OpenVINO) run the float file.
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

#: The environment variable that sets the default precision.
PRECISION_VARIABLE = "MIEN_PRECISION"

#: Names of the instructions that make int8 faster, in operating systems and NumPy → mien's names.
_LINUX = {"amx_int8": "AMX", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "avx2": "AVX2",
          "asimddp": "ARM dot product"}  # fmt: skip
_MACOS = {"hw.optional.avx512vnni": "AVX512-VNNI", "hw.optional.avx2_0": "AVX2",
          "hw.optional.arm.FEAT_DotProd": "ARM dot product"}  # fmt: skip
_NUMPY = {"AVX512VNNI": "AVX512-VNNI", "AVX512_ICL": "AVX512-VNNI", "AVX2": "AVX2", "ASIMDDP": "ARM dot product"}

#: Windows' PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE: the SDOT and UDOT instructions are available.
_WINDOWS_ARM_DOT = 43


def resolve_precision(precision: str) -> Precision:
    """Return ``precision``, or for "auto" the value of MIEN_PRECISION. Raises UsageError for an unknown value."""
    default = os.environ.get(PRECISION_VARIABLE) or "auto"
    for name, value in ((f"`precision={precision}`", precision), (f"{PRECISION_VARIABLE} {default}", default)):
        if value not in PRECISIONS:
            raise UsageError(name, "is unknown", f"choose one of {', '.join(PRECISIONS)}")
        if value != "auto":
            return value
    return "auto"


@cache
def find_int8_instructions() -> tuple[str, ...]:
    """Return the instructions of this processor that make int8 faster, from the operating system, else from NumPy."""
    system = platform.system()
    if system == "Linux":
        instructions = _find_linux_instructions(Path("/proc/cpuinfo"))
    elif system == "Darwin":
        instructions = {short_name for name, short_name in _MACOS.items() if _has_sysctl_value(name)}
    else:
        instructions = _find_windows_instructions() | _find_numpy_instructions()
    return tuple(sorted(instructions))


def _find_linux_instructions(cpuinfo: Path) -> set[str]:
    """Return the instructions in the kernel's list: "flags" of the first processor on x86, "Features" on ARM."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # a container without /proc
        return _find_numpy_instructions()
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return {short_name for name, short_name in _LINUX.items() if name in features.split()}


def _has_sysctl_value(name: str) -> bool:
    """Whether a kernel value of macOS exists and is not 0."""
    import ctypes

    value, size = ctypes.c_int(0), ctypes.c_size_t(4)
    try:
        answer = ctypes.CDLL(None).sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return False
    return answer == 0 and value.value != 0


def _find_windows_instructions() -> set[str]:
    """Return the dot-product instructions of ARM, as Windows states them."""
    if sys.platform != "win32":
        return set()
    import ctypes

    is_available = ctypes.windll.kernel32.IsProcessorFeaturePresent(_WINDOWS_ARM_DOT)
    return {"ARM dot product"} if is_available else set()


def _find_numpy_instructions() -> set[str]:
    """Return the instructions that NumPy detected; its table is private."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:
        return set()
    return {short_name for name, short_name in _NUMPY.items() if features.get(name)}

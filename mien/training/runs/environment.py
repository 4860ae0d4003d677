"""Describe the hardware and software of a training, for its log and its model card."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import mien

PACKAGES = ("torch", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "pillow")


def describe_environment(device: torch.device, precision: str, seed: int) -> dict[str, Any]:
    """Return plain values for environment.json."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "mien": mien.__version__,
        "commit": _find_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": describe_processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": precision,
        "seed": seed,
        "versions": {name: _find_version(name) for name in PACKAGES},
    }


def describe_processor() -> str:
    """Return the processor's name with the instruction sets that matter for speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", "").split()
    notable = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if name in flags]
    return f"{facts.get('model name', 'unknown')} ({', '.join(notable) or 'no vector extensions listed'})"


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _find_commit() -> str | None:
    """Return the commit of the running checkout, with "+" if it has changes; None outside a checkout."""
    git, folder = shutil.which("git"), Path(mien.__file__).parent.parent
    if git is None or not (folder / ".git").exists():
        return None
    run_git = partial(subprocess.run, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace")
    name = run_git([git, "rev-parse", "--short", "HEAD"]).stdout.strip()
    # `describe --dirty` would take a lock in the checkout.
    changed = run_git([git, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]).stdout
    return (name + "+" * bool(changed)) or None

"""An analysis killed at random moments, again and again, until it comes to its end; compared with one left in peace.

python benchmarks/killed.py [--kills 20] [--seconds 30] [--seed 0]

Exit 1 where anything differs, or where a file under a final name was ever not whole.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
from clips import make_clip

#: What is killed: one clip in parts of half a second, so that the work goes on from another place each time.
ANALYZE = """
import sys
from pathlib import Path
from mien import Recognizer
from mien.analysis.pipeline import analyze_input
from mien.analysis.settings import AnalysisContext
from mien.analysis.media.inputs import Input
clip, out = map(Path, sys.argv[1:3])
recognizer = Recognizer("base", detector="haar", threads=1)
analyze_input(Input(clip, Path("clip")), recognizer, AnalysisContext(out, quiet=True, part_frames=16))
"""


def start_analysis(clip: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ANALYZE, str(clip), str(out)], cwd=Path(__file__).parent.parent)


def read_outputs(out: Path) -> dict[str, object]:
    """Every output: of the video the packets with their times, of the page what it shows, of the rest the bytes."""
    found: dict[str, object] = {}
    for path in out.iterdir():
        if path.suffix == ".mp4":
            with av.open(str(path)) as container:
                found[path.name] = [(part.pts, part.duration, bytes(part)) for part in container.demux() if part.size]
        elif not path.name.startswith("."):
            found[path.name] = path.read_bytes()
    return found


def are_outputs_complete(out: Path) -> bool:
    """Whether what lies under a final name can be read to its end."""
    for path in out.glob("clip.*"):
        if path.suffix == ".mp4":
            with av.open(str(path)) as container:
                sum(1 for _ in container.decode(video=0))
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return True


def run_with_kills(clip: Path, out: Path, kills: int, longest_s: float, rng: random.Random) -> int:
    """Kill an analysis up to ``kills`` times, then let it come to its end; returns how often it was killed."""
    done = 0
    while done < kills:
        process = start_analysis(clip, out)
        try:
            process.wait(timeout=rng.uniform(0.2, longest_s))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
            assert are_outputs_complete(out)
            continue
        break  # it came to its end before it could be killed
    if start_analysis(clip, out).wait():
        sys.exit("the analysis failed after it was killed")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        make_clip(clip, seconds=options.seconds, size_wh=(640, 360), fps=Fraction(30))
        started = time.monotonic()
        if start_analysis(clip, folder / "peace").wait():
            sys.exit("the analysis failed")
        took, expected = time.monotonic() - started, read_outputs(folder / "peace")
        count, rounds = 0, 0
        while count < options.kills:
            out = folder / f"killed-{rounds}"
            count += run_with_kills(clip, out, options.kills - count, took, rng)
            rounds += 1
            found = read_outputs(out)
            different = [what for what in expected if found.get(what) != expected[what]] + sorted(
                found.keys() - expected
            )
            if different or any(path.name.startswith(".") for path in out.iterdir()):
                sys.exit(f"round {rounds}: not the same: {different}")
    print(
        f"killed {count} times in {rounds} analyses of {options.seconds:g} s: every output equals the one left in peace"
    )


if __name__ == "__main__":
    main()

"""One recognizer and one clip in threads, forked and spawned processes and asyncio: every way gives the same records."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from clips import make_clip

import mien
from mien import Recognizer
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("nano", detector="haar")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=0.4, sound=None)
    return path


@pytest.fixture(scope="module")
def expected(clip: Path, recognizer: Recognizer) -> list[dict]:
    rows = analyze(clip, recognizer)
    assert len(rows) == 10
    return rows


def analyze(clip: Path, recognizer: Recognizer) -> list[dict]:
    return mien.analyze_video(clip, recognizer=recognizer, progress=False).to_records()


def test_threads_share_a_recognizer(clip: Path, recognizer: Recognizer, expected: list[dict]) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(analyze, [clip] * 3, [recognizer] * 3)) == [expected] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_process_uses_its_parents_recognizer(clip: Path, tmp_path: Path) -> None:
    """In a process of its own: one with many threads, as that of the tests, is not to be forked."""
    code = f"""
import multiprocessing, mien
recognizer = mien.Recognizer("nano", detector="haar")
def analyze(clip):
    return mien.analyze_video(clip, recognizer=recognizer, progress=False).to_records()
expected = analyze({str(clip)!r})
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(analyze, [{str(clip)!r}] * 2) == [expected] * 2
assert len(recognizer.analyze({str(ROOT / "examples" / "astronaut.jpg")!r})) == 1
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_spawned_process_gets_a_recognizer_and_gives_an_analysis_back(
    clip: Path, recognizer: Recognizer, expected: list[dict]
) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        analysis = pool.submit(mien.analyze_video, clip, recognizer=recognizer, progress=False).result()
        faces = pool.submit(recognizer.analyze, ROOT / "examples" / "astronaut.jpg").result()
    assert analysis.to_records() == expected
    assert [person.number for person in analysis.people] == [1]
    assert faces == recognizer.analyze(ROOT / "examples" / "astronaut.jpg")
    assert faces[0].crop.shape == recognizer.analyze(ROOT / "examples" / "astronaut.jpg")[0].crop.shape


def test_asyncio_goes_on_while_a_video_is_analyzed(clip: Path, recognizer: Recognizer, expected: list[dict]) -> None:
    async def run() -> tuple[list[dict], int]:
        ticks, task = 0, asyncio.create_task(asyncio.to_thread(analyze, clip, recognizer))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0)
        return task.result(), ticks

    rows, ticks = asyncio.run(run())
    assert rows == expected and ticks > 1

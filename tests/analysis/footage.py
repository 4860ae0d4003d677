"""What the tests of video share: a clip analyzed, what lies in the files, and clips changed on the way."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from mien import Recognizer
from mien.analysis.media.inputs import Input
from mien.analysis.pipeline import analyze_input
from mien.analysis.settings import PART_FRAMES, AnalysisContext, AnalysisOptions, AnalysisResult

#: All but the timeline and its page: to draw the timeline takes longer than all the rest of a short clip.
QUICK_OUTPUTS = ("media", "captions")


def analyze(
    path: Path,
    recognizer: Recognizer,
    out: Path,
    *,
    part_frames: int = PART_FRAMES,
    report_progress: Callable | None = None,
    outputs: tuple[str, ...] = QUICK_OUTPUTS,
    **options,
) -> AnalysisResult:
    context = AnalysisContext(
        out,
        AnalysisOptions(outputs=outputs, **options),
        quiet=True,
        part_frames=part_frames,
        report_progress=report_progress,
    )
    return analyze_input(Input(path, Path(path.stem)), recognizer, context)


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def sound_of(path: Path) -> tuple[str, float, np.ndarray]:
    """(codec, seconds, packets' bytes) of the first audio stream."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return stream.codec_context.name, samples / stream.rate, packets


def records(out: Path, stem: str) -> list[dict]:
    return [json.loads(line) for line in (out / f"{stem}.records.jsonl").read_text().splitlines()]


def turn(path: Path, a: int, b: int, c: int, d: int, x: int = 0, y: int = 0) -> None:
    """Write a matrix that turns the picture into the track header of an .mp4."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30
    )
    path.write_bytes(content)


def remuxed(path: Path, target: Path, *, shift_s: float) -> None:
    """The same packets, ``shift_s`` later."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        outputs = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            packet.pts += round(shift_s / packet.time_base)
            packet.dts += round(shift_s / packet.time_base)
            packet.stream = outputs[packet.stream.index]
            out.mux(packet)


def outputs_of(folder: Path) -> dict[str, object]:
    """All outputs of clip.mp4: of its annotated video every packet with its time, of the rest the bytes."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".mp4"}
    with av.open(str(folder / "clip.annotated.mp4")) as container:
        found["video"] = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux() if packet.size]
    return found

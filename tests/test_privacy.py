"""Nothing leaves the machine: seen from the system, through strace, rather than from inside Python, whose guards native code passes by."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from functools import cache
from pathlib import Path

import pytest
from clips import make_clip

from tests.conftest import ASTRONAUT, ROOT, patterns, small_recipe

#: What onnxruntime takes as a sign that nobody is there, and then sends nothing: a person's machine has none of them.
HIDING = ("CI", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "MIEN_CACHE", "MPLCONFIGDIR")

#: Calls that reach the network or make, open and move files.
CALLS = "network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"

OPENED = re.compile(r'\b(?:open|openat|creat)\((?:[^",]+, )?"(?P<path>[^"]*)"(?P<rest>.*)\) = \d+')
MADE = re.compile(r'\b(?:mkdir|mkdirat|rename|renameat2?|link|linkat|symlink|symlinkat)\(.*"(?P<path>[^"]*)".*\) = 0')
CONNECTED = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?\b.*")
LOOPBACK = re.compile(r'inet_addr\("127\.[\d.]+"\)|inet_pton\(AF_INET6, "(?:::1|::ffff:127\.[\d.]+)"')
LOOKED_UP = re.compile(r"/etc/(?:resolv\.conf|hosts)\b|htons\(53\)|io\.systemd\.Resolve")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has just been given an account."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDING and name[:4] != "XDG_"}
    for name in ("home/.cache", "out", "temporary"):
        (tmp_path / name).mkdir(parents=True)
    return environment | {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / ".cache"),
        "TMPDIR": str(tmp_path / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",  # Python's own cache beside the modules
        "PYTHONUNBUFFERED": "1",
    }


@cache
def no_strace() -> str:
    """Why nothing can be traced here; "" where it can."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def traced(trace: Path, *arguments: str | Path) -> list[str]:
    """The program's command under strace, which writes what every one of its processes asks of the system to ``trace``."""
    if why := no_strace():
        pytest.skip(why)
    program = [sys.executable, "-m", "mien", *map(str, arguments)]
    return ["strace", "-f", "-qq", "-s", "400", "-e", f"trace={CALLS}", "-o", str(trace), *program]


def asked(trace: Path) -> list[str]:
    """Lines of a trace, those whose call was interrupted by another thread's put together again."""
    begun: dict[tuple[str, str], str] = {}
    lines = []
    for line in trace.read_text(errors="replace").splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread, call.partition("(")[0]] = call.removesuffix("<unfinished ...>")
        elif resumed := re.match(r"<\.\.\. (\w+) resumed>", call):
            lines.append(begun.pop((thread, resumed[1]), "") + call[resumed.end() :])
        else:
            lines.append(call)
    return lines + list(begun.values())


def check_trace(trace: Path, folder: Path) -> None:
    """No name was looked up, no other machine reached, and nothing written but outputs, mien's cache and temporary files."""
    lines = asked(trace)
    assert sum("openat(" in line for line in lines) > 100, "strace saw the program"
    assert [line for line in lines if LOOKED_UP.search(line)] == []
    assert [line for line in lines if CONNECTED.search(line) and not LOOPBACK.search(line)] == []
    allowed = tuple(str(folder / place) for place in ("out", "temporary", "home/.cache/mien"))
    paths = {os.path.join(folder, "out", path) for path in written(lines)}  # noqa: PTH118 - the program works in `out`
    assert sorted(path for path in paths if not path.startswith(allowed)) == []
    assert in_home(folder) <= {".cache", ".cache/mien"}
    left = [path for path in (folder / "temporary").rglob("*") if not path.name.startswith("torchinductor_")]
    assert left == [], "torch makes an empty folder, nothing else stays"


def in_home(folder: Path) -> set[str]:
    """What lies in the home folder, one level into its cache folder."""
    home = folder / "home"
    return {path.relative_to(home).as_posix() for path in [*home.glob("*"), *home.glob(".cache/*")]}


def written(lines: list[str]) -> list[str]:
    """What was opened for writing or made, but for devices and the kernel's own files."""
    paths = []
    for line in lines:
        if ((found := OPENED.search(line)) and re.search(r"O_WRONLY|O_RDWR|O_CREAT|creat\(", found["rest"])) or (
            found := MADE.search(line)
        ):
            paths.append(found["path"])
    return [path for path in paths if not path.startswith(("/dev/", "/proc/", "/sys/"))]


def test_a_first_analysis_leaves_nothing_in_the_home_folder(home: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien", "analyze", str(ASTRONAUT), "--no-media", "--out", str(tmp_path / "out")]
    subprocess.run(command, env=home, cwd=ROOT, check=True, capture_output=True)
    assert in_home(tmp_path) == {".cache"}


def test_the_library_disables_telemetry_unless_the_user_set_it_himself(home: dict[str, str]) -> None:
    code = "import mien, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for given, kept in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=home | given, cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert (done.stdout.strip(), done.stderr) == (kept, "")


def test_who_imports_onnxruntime_first_is_warned(home: dict[str, str]) -> None:
    code = "import sys, types; sys.modules['onnxruntime'] = types.ModuleType('onnxruntime'); import mien"
    done = subprocess.run([sys.executable, "-c", code], env=home, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "onnxruntime was imported before mien, and its telemetry is on" in done.stderr
    assert done.stderr.count("ORT_DISABLE_TELEMETRY=1") == 1


def test_analyze_reaches_no_network_and_writes_only_its_outputs(home: dict[str, str], tmp_path: Path) -> None:
    command = traced(tmp_path / "trace", "analyze", ASTRONAUT, "--out", tmp_path / "out")
    subprocess.run(command, env=home, cwd=tmp_path / "out", check=True, capture_output=True)
    check_trace(tmp_path / "trace", tmp_path)
    assert (tmp_path / "out" / "astronaut.annotated.jpg").exists()


VERBS = {
    "video": [["analyze", "clip.mp4", "--out", "video"]],
    "train": [
        ["train", "tiny.toml", "--data", "faces.csv", "--out", "run"],
        ["export", "run", "--data", "faces.csv", "--split", "Training", "--out", "tiny.onnx"],
    ],
    "evaluate": [["evaluate", "base", "--data", "faces.csv", "--out", "scores"]],
    "report": [["report", "base", "--data", "faces.csv", "--out", "report"]],
    "explain": [["explain", "base", str(ASTRONAUT), "--out", "explained"]],
    "embed": [["embed", "base", "--data", "faces.csv", "--out", "embedded"]],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_reaches_no_network_and_writes_only_its_outputs(
    home: dict[str, str], tmp_path: Path, verb: str
) -> None:
    from mien.data.readers import save_faces

    out = tmp_path / "out"
    save_faces(patterns(140), out / "faces.csv")
    make_clip(out / "clip.mp4", seconds=0.5)
    (out / "tiny.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    for number, arguments in enumerate(VERBS[verb]):
        trace = tmp_path / f"{number}.trace"
        command = traced(trace, *arguments)
        done = subprocess.run(command, env=home, cwd=out, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        check_trace(trace, tmp_path)


@pytest.mark.slow
def test_the_service_and_its_workers_reach_no_network(home: dict[str, str], tmp_path: Path) -> None:
    make_clip(clip := tmp_path / "out" / "clip.mp4")
    command = traced(tmp_path / "trace", "serve", "--port", "0", "--state", tmp_path / "out" / "state")
    process = subprocess.Popen(command, env=home, cwd=tmp_path / "out", stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        assert len(_sent(f"{address}/v1/images", ASTRONAUT)["faces"]) == 1
        job = _sent(f"{address}/v1/videos", clip)["job"]
        with urllib.request.urlopen(f"{address}/v1/jobs/{job['id']}/events", timeout=300) as events:
            events.read()  # until the job has ended
        with urllib.request.urlopen(f"{address}/v1/jobs/{job['id']}", timeout=60) as answer:
            assert json.loads(answer.read())["state"] == "done"
    finally:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGINT)
        process.wait(60)
        process.stdout.close()
    check_trace(tmp_path / "trace", tmp_path)


def _sent(address: str, file: Path) -> dict:
    """What the service answers to a file."""
    limit = "limit-of-a-part"
    head = f'--{limit}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n\r\n'.encode()
    body = head + file.read_bytes() + f"\r\n--{limit}--\r\n".encode()
    request = urllib.request.Request(
        address, data=body, headers={"Content-Type": f"multipart/form-data; boundary={limit}"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())

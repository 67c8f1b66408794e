"""What this machine has and lacks for vidkit, tried out rather than looked up, with a remedy for each lack."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vidkit.errors import ClipError, VidkitError, clean_message
from vidkit.extras import EXTRAS, install

if TYPE_CHECKING:
    from rich.console import Console

Status = Literal["ok", "warn", "missing"]

#: Packages that vidkit cannot do without, and what for. Their versions are read, not imported.
_NEEDED = ("numpy", "pyarrow", "pillow", "webdataset", "typer", "rich", "jinja2", "cattrs", "pyyaml")

_REINSTALL = 'pip install --upgrade "vidkit"'

#: Seconds that starting Python with torch may take; a first import from a slow disk takes most of a minute.
_TORCH_S = 120.0
_PROGRAM_S = 30.0

#: Free bytes and open files below which something ordinary will fail.
_LITTLE_DISK = 10e9
_FEW_FILES = 1024

_FRAMES, _SIDE = 8, 64

#: Begins every program for another Python: nothing in the current folder may stand in for a library.
_SAFE = "import sys; sys.path[:] = filter(None, sys.path); "


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was examined.

    Status "missing": vidkit cannot do its work. "warn": it can, without some option or more slowly.
    """

    name: str
    status: Status
    detail: str
    remedy: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything. Takes some seconds: torch is started in a process of its own. Never raises."""
    found = [_python(), *_packages(), _pyav(), *_extras()]
    with tempfile.TemporaryDirectory(prefix="vidkit-doctor-") as folder:
        clip = Path(folder, "clip.mp4")
        encoder = _encoder(clip)
        found.append(encoder)
        if encoder.status == "ok":
            found += [_decoder_pyav(clip), _decoder_decord(clip)]
        found += _ffmpeg(clip if encoder.status == "ok" else None)
    if EXTRAS["train"].absent() != list(EXTRAS["train"].modules):  # else there is nothing to ask
        found += _torch()
    found += [_cpus(), _disk(Path.cwd()), _open_files()]
    return found


def render(findings: list[Finding], console: Console) -> None:
    """Print a line for each finding, and beneath it what to do."""
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "missing": ("missing", "red")}
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = marks[finding.status]
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"\n-> {finding.remedy}", style="bold")
        table.add_row(Text(mark, style=colour), finding.name, detail)
    console.print(table)
    counts = {status: sum(f.status == status for f in findings) for status in marks}
    console.print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['missing']} missing")


# --- versions --------------------------------------------------------------------------------------


def _python() -> Finding:
    import vidkit

    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name="vidkit", status="ok", detail=f"{vidkit.__version__}, Python {version} at {sys.executable}")


def _packages() -> list[Finding]:
    found = []
    for name in _NEEDED:
        try:
            found.append(Finding(name=name, status="ok", detail=importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name=name, status="missing", detail="not installed", remedy=_REINSTALL))
    return found


def _extras() -> list[Finding]:
    """What each extra brings; decoders and ffmpeg are tried out further on. Looked for, not imported."""
    found = []
    for name, extra in EXTRAS.items():
        if name in ("decord", "ffmpeg"):
            continue
        absent = extra.absent()
        if not absent:
            versions = ", ".join(f"{module} {_version(module)}" for module in extra.modules)
            found.append(Finding(name=f"extra {name}", status="ok", detail=versions))
            continue
        # a part of what trains was taken away: the rest cannot be relied on
        broken = name == "train" and len(absent) < len(extra.modules)
        detail = f"not installed: {', '.join(absent)}; needed by {extra.needed_by}"
        status: Status = "missing" if broken else "warn"
        found.append(Finding(name=f"extra {name}", status=status, detail=detail, remedy=install(name)))
    return found


def _version(module: str) -> str:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:  # lies in a folder without having been installed
        return "of unknown version"


def _pyav() -> Finding:
    try:
        import av
    except ImportError as error:
        return Finding(name="av", status="missing", detail=clean_message(str(error)), remedy=_REINSTALL)
    versions = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    libraries = ", ".join(
        f"{n} {versions[n]}" for n in ("libavcodec", "libavformat", "libswscale") if n in versions
    )
    return Finding(name="av", status="ok", detail=f"{av.__version__} with FFmpeg's {libraries}")


# --- encoding and decoding, done on a clip of a few frames -------------------------------------------


def _encoder(clip: Path) -> Finding:
    """Encode `_FRAMES` grey frames, each brighter than the one before."""
    name, remedy = "encoder libx264", 'install PyAV from its wheels, which carry x264: pip install --upgrade "av"'
    try:
        import av
        import numpy as np
    except ImportError as error:
        return Finding(name=name, status="missing", detail=clean_message(str(error)), remedy=_REINSTALL)
    try:
        with av.open(os.fspath(clip), "w") as output:
            stream: Any = output.add_stream("libx264", rate=25, options={"crf": "1", "x264-params": "threads=1"})
            stream.width = stream.height = _SIDE
            stream.pix_fmt = "yuv420p"
            for k in range(_FRAMES):
                grey = np.full((_SIDE, _SIDE, 3), _level(k), np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            output.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError, OSError) as error:
        return Finding(name=name, status="missing", detail=clean_message(str(error)), remedy=remedy)
    return Finding(name=name, status="ok", detail=f"encoded {_FRAMES} frames to {clip.stat().st_size} bytes")


def _level(k: int) -> int:
    return 40 + 20 * k


def _judge(name: str, levels: list[float], lack: Status, remedy: str) -> Finding:
    """Whether frames came out in order, by their brightness."""
    wanted = [_level(k) for k in range(_FRAMES)]
    if len(levels) == _FRAMES and all(abs(a - b) < 6 for a, b in zip(levels, wanted, strict=True)):
        return Finding(name=name, status="ok", detail=f"decoded {_FRAMES} frames, all of them right")
    detail = f"gave brightness {[round(v) for v in levels]} where {wanted} was encoded"
    return Finding(name=name, status=lack, detail=detail, remedy=remedy)


def _decoder_pyav(clip: Path) -> Finding:
    name, remedy = "decoder pyav", _REINSTALL
    try:
        from vidkit.data.media.frames import decode_frames

        frames = decode_frames(clip.read_bytes(), range(_FRAMES))
    except (ImportError, ClipError, OSError) as error:
        return Finding(name=name, status="missing", detail=clean_message(str(error)), remedy=remedy)
    return _judge(name, [float(frame.mean()) for frame in frames], "missing", remedy)


def _decoder_decord(clip: Path) -> Finding:
    name, remedy = (
        "decoder decord",
        'pip install "vidkit[decord]" (wheels: x86-64 Linux and Windows); pyav does as well',
    )
    program = _SAFE + (
        "import json, sys, decord; reader = decord.VideoReader(sys.argv[1], num_threads=1); "
        "print(json.dumps([float(reader[i].asnumpy().mean()) for i in range(len(reader))]))"
    )
    levels = _json_of([sys.executable, "-c", program, os.fspath(clip)], _PROGRAM_S)
    if isinstance(levels, str):
        absent = "No module named 'decord'" in levels
        detail = "not installed; only --decoder decord needs it" if absent else levels
        return Finding(name=name, status="warn", detail=detail, remedy=remedy)
    return _judge(name, levels, "warn", remedy)


def _ffmpeg(clip: Path | None) -> list[Finding]:
    """The program: needed for `--transcoder ffmpeg` alone."""
    name, remedy = (
        "ffmpeg",
        'put ffmpeg on PATH, or: pip install "vidkit[ffmpeg]" (only --transcoder ffmpeg needs it)',
    )
    try:
        from vidkit.data.media import transcode_ffmpeg

        program = transcode_ffmpeg.find_ffmpeg()
        if program is None:
            detail = "neither on PATH nor from imageio-ffmpeg"
            return [Finding(name=name, status="warn", detail=detail, remedy=remedy)]
        path, origin = program
        versions = transcode_ffmpeg.fingerprint()
    except (ImportError, VidkitError, OSError) as error:
        message = error.message if isinstance(error, VidkitError) else str(error)
        return [Finding(name=name, status="warn", detail=clean_message(message), remedy=remedy)]
    detail = f"{versions['ffmpeg']} with x264 {versions['x264']}, from {origin}: {path}"
    found = [Finding(name=name, status="ok", detail=detail)]
    if clip is not None:
        command = [
            path,
            "-nostdin",
            "-v",
            "error",
            "-i",
            os.fspath(clip),
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ]
        out = _output_of(command, _PROGRAM_S)
        if isinstance(out, str):
            found.append(Finding(name="decoder ffmpeg", status="warn", detail=out, remedy=remedy))
        else:
            size = _SIDE * _SIDE * 3
            levels = [sum(out[at : at + size]) / size for at in range(0, len(out), size)]
            found.append(_judge("decoder ffmpeg", levels, "warn", remedy))
    return found


# --- torch, in a process of its own ------------------------------------------------------------------

_ASK_TORCH = """
import importlib, json
found = {"errors": {}, "gpus": []}
for name in ("torch", "torchvision", "timm", "webdataset"):
    try:
        importlib.import_module(name)
    except Exception as error:
        found["errors"][name] = f"{type(error).__name__}: {error}"
if "torch" not in found["errors"]:
    import torch
    found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(i)
            found["gpus"].append([of.name, of.total_memory, f"{of.major}.{of.minor}"])
        torch.ones(8, device="cuda").sum().item()
    mps = getattr(torch.backends, "mps", None)
    if mps is not None and mps.is_available():
        found["gpus"].append(["Apple GPU (mps)", 0, ""])
print(json.dumps(found))
"""

_TOGETHER = "pip install --upgrade torch torchvision timm (in one go: they agree only as a set)"


def _torch() -> list[Finding]:
    """Whether torch and what builds on it can be imported, and the GPUs it sees."""
    found = _json_of([sys.executable, "-c", _SAFE + _ASK_TORCH], _TORCH_S)
    if isinstance(found, str):
        return [Finding(name="GPU", status="warn", detail=f"torch could not be asked: {found}", remedy=_TOGETHER)]
    findings = [
        Finding(name=f"import {name}", status="missing", detail=clean_message(error), remedy=_TOGETHER)
        for name, error in found["errors"].items()
    ]
    if "torch" in found["errors"]:
        return findings
    if found["gpus"]:
        cards = [
            f"{name} ({memory / 2**30:.0f} GiB, {arch})" if memory else name for name, memory, arch in found["gpus"]
        ]
        cuda = f", CUDA {found['cuda']}" if found["cuda"] else ""
        return [*findings, Finding(name="GPU", status="ok", detail=", ".join(cards) + cuda)]
    if found["cuda"]:
        detail, remedy = (
            f"torch is built for CUDA {found['cuda']} and finds no GPU",
            "see whether nvidia-smi lists one",
        )
    else:
        detail, remedy = (
            "this torch is built for the CPU",
            "for an NVIDIA GPU see https://pytorch.org/get-started/locally/",
        )
    detail += "; datasets are built without one, training is slow"
    return [*findings, Finding(name="GPU", status="warn", detail=detail, remedy=remedy)]


def _json_of(command: list[str], seconds: float) -> Any:
    """What a program prints as JSON on its last line, or its last words as text."""
    out = _output_of(command, seconds)
    if isinstance(out, str):
        return out
    try:
        return json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        return f"unexpected output: {clean_message(out.decode('utf-8', 'replace'), 80)}"


def _output_of(command: list[str], seconds: float) -> bytes | str:
    """What a program writes to stdout, or why there is nothing, in words."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return clean_message(lines[-1]) if lines else f"ended with status {done.returncode}"
    return done.stdout


# --- the machine -----------------------------------------------------------------------------------


def _cpus() -> Finding:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    of = f" of {total}" if usable != total else ""
    return Finding(name="CPUs", status="ok", detail=f"{usable}{of} may be used; builds take as many workers")


def _disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(
            name="free disk",
            status="warn",
            detail=f"{folder}: {error.strerror}",
            remedy="go to a folder that exists",
        )
    detail = f"{free / 1e9:,.1f} GB under {folder}"
    if free < _LITTLE_DISK:
        remedy = (
            "make room, or give --out on another disk; composite-518 takes about 1 GB, k400 at 256 pixels 100 GB"
        )
        return Finding(name="free disk", status="warn", detail=detail, remedy=remedy)
    return Finding(name="free disk", status="ok", detail=detail)


def _open_files() -> Finding:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding(name="open files", status="ok", detail="no limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = soft == resource.RLIM_INFINITY
    detail = "no limit" if endless else f"at most {soft:,}"
    if not endless and soft < _FEW_FILES:
        more = "4096" if hard == resource.RLIM_INFINITY or hard >= 4096 else str(hard)
        return Finding(name="open files", status="warn", detail=detail, remedy=f"run: ulimit -n {more}")
    return Finding(name="open files", status="ok", detail=detail)

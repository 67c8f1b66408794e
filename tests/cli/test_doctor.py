"""The doctor tries things out, names a remedy for each lack, and never fails itself."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vidkit import doctor
from vidkit.doctor import Finding
from vidkit.extras import EXTRAS


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert len({f.name for f in findings}) == len(findings)
    return {f.name: f for f in findings}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("doctor") / "clip.mp4"
    assert doctor._encoder(path).status == "ok"
    return path


def without_torch(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Starting torch takes seconds; once is enough."""
    real = doctor._json_of
    monkeypatch.setattr(
        doctor, "_json_of", lambda command, seconds: answer if "importlib" in command[2] else real(command, seconds)
    )


def test_this_machine_can_do_the_work() -> None:
    found = by_name(doctor.examine())
    assert not [f for f in found.values() if f.status == "missing"]
    for name in ("vidkit", "av", "numpy", "pyarrow", "webdataset", "typer", "rich"):
        assert found[name].status == "ok"
        assert found[name].detail[0].isdigit()
    assert found["extra train"].status == "ok"
    assert found["extra train"].detail.startswith("torch 2.")
    assert found["decoder pyav"].detail == "decoded 8 frames, all of them right"
    assert {"GPU", "CPUs", "free disk", "open files", "ffmpeg", "decoder decord", "encoder libx264"} <= set(found)
    for finding in found.values():
        assert (finding.status == "ok") == (finding.remedy is None), finding
    assert json.loads(json.dumps([f.to_dict() for f in found.values()]))[0]["name"] == "vidkit"


def test_it_imports_no_torch() -> None:
    program = (
        "import sys; from vidkit import doctor; doctor._packages(); doctor._extras(); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "rich":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = by_name(doctor._packages())["rich"]
    assert (found.status, found.detail) == ("missing", "not installed")
    assert found.remedy == 'pip install --upgrade "vidkit"'


@pytest.mark.parametrize(
    ("absent", "status", "detail"),
    [
        (EXTRAS["train"].modules, "warn", "not installed: torch, torchvision, timm, "),
        (("timm",), "missing", "not installed: timm; needed by pretrain, finetune, "),
    ],
)
def test_what_an_extra_would_bring(
    absent: tuple[str, ...], status: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any of it datasets are built all the same; a part alone is a broken installation."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else real(name))
    found = by_name(doctor._extras())["extra train"]
    assert (found.status, found.remedy) == (status, 'pip install "vidkit[train]"')
    assert found.detail.startswith(detail)


def test_a_decoder_that_gives_wrong_frames_is_found_out() -> None:
    right = [float(doctor._level(k)) for k in range(8)]
    assert doctor._judge("x", right, "warn", "do this").status == "ok"
    for wrong in (right[:-1], right[::-1], [right[0], *right[:-1]], [], [0.0] * 8):
        found = doctor._judge("x", wrong, "warn", "do this")
        assert (found.status, found.remedy) == ("warn", "do this")
        assert "where [40, 60, 80, 100, 120, 140, 160, 180] was encoded" in found.detail


def test_a_damaged_clip_is_a_finding_and_no_traceback(tmp_path: Path, clip: Path) -> None:
    damaged = tmp_path / "clip.mp4"
    damaged.write_bytes(clip.read_bytes()[:300])
    assert doctor._decoder_pyav(damaged).status == "missing"
    assert doctor._decoder_decord(damaged).status == "warn"


def test_decord_that_is_not_there_or_dies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path) -> None:
    module = tmp_path / "decord.py"
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    module.write_text("raise ModuleNotFoundError(\"No module named 'decord'\", name='decord')")
    found = doctor._decoder_decord(clip)
    assert (found.status, found.detail) == ("warn", "not installed; only --decoder decord needs it")
    assert found.remedy is not None
    assert "vidkit[decord]" in found.remedy
    module.write_text("import os; os.abort()")
    assert doctor._decoder_decord(clip).detail == "ended with status -6"
    module.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_PROGRAM_S", 0.5)
    assert doctor._decoder_decord(clip).detail == "no answer within 0 s"


def test_a_file_in_the_current_folder_does_not_stand_in_for_a_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path
) -> None:
    (tmp_path / "decord.py").write_text("open('trap', 'w').close()")
    monkeypatch.chdir(tmp_path)
    doctor._decoder_decord(clip)
    assert not (tmp_path / "trap").exists()


def test_ffmpeg_on_path_from_a_package_or_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path
) -> None:
    from vidkit.data.media import transcode_ffmpeg

    monkeypatch.setattr(transcode_ffmpeg, "find_ffmpeg", lambda: None)
    (found,) = doctor._ffmpeg(clip)
    assert (found.status, found.detail) == ("warn", "neither on PATH nor from imageio-ffmpeg")
    assert found.remedy is not None
    assert 'pip install "vidkit[ffmpeg]"' in found.remedy
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'ffmpeg version 4.2 without x264'\necho 'Unknown encoder' >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(transcode_ffmpeg, "find_ffmpeg", lambda: (os.fspath(program), "PATH"))
    (found,) = doctor._ffmpeg(clip)
    assert found.status == "warn"
    assert "cannot encode H.264: Unknown encoder" in found.detail


@pytest.mark.parametrize(
    ("answer", "status", "detail", "remedy"),
    [
        (
            {"errors": {}, "gpus": [["NVIDIA H200", 150_000_000_000, "9.0"]], "cuda": "13.0"},
            "ok",
            "NVIDIA H200 (140 GiB, 9.0), CUDA 13.0",
            None,
        ),
        (
            {"errors": {}, "gpus": [], "cuda": "13.0"},
            "warn",
            "is built for CUDA 13.0 and finds no GPU",
            "nvidia-smi",
        ),
        ({"errors": {}, "gpus": [], "cuda": None}, "warn", "this torch is built for the CPU", "pytorch.org"),
        ({"errors": {}, "gpus": [["Apple GPU (mps)", 0, ""]], "cuda": None}, "ok", "Apple GPU (mps)", None),
        ("no answer within 120 s", "warn", "torch could not be asked: no answer within 120 s", "in one go"),
    ],
)
def test_gpus(answer: Any, status: str, detail: str, remedy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch, answer)
    (found,) = doctor._torch()
    assert (found.name, found.status) == ("GPU", status)
    assert detail in found.detail
    assert (found.remedy is None) == (remedy is None)
    assert remedy is None or remedy in str(found.remedy)


def test_libraries_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    error = "RuntimeError: operator torchvision::nms does not exist"
    without_torch(monkeypatch, {"errors": {"torchvision": error}, "gpus": [], "cuda": None})
    found = by_name(doctor._torch())
    assert found["import torchvision"].status == "missing"
    assert found["import torchvision"].detail == error
    assert "in one go" in str(found["import torchvision"].remedy)
    without_torch(monkeypatch, {"errors": {"torch": "ImportError: libcudart.so.13"}, "gpus": []})
    (found_torch,) = doctor._torch()
    assert "libcudart" in found_torch.detail


def test_programs_that_print_something_else() -> None:
    assert doctor._json_of([sys.executable, "-c", "print('hello')"], 20) == "unexpected output: hello"
    assert doctor._json_of([sys.executable, "-c", ""], 20) == "unexpected output: "
    assert doctor._json_of([sys.executable, "-c", "print('noise'); print([1])"], 20) == [1]
    assert doctor._json_of(["/nowhere/at/all"], 20) == "No such file or directory"


def test_little_room_and_few_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(doctor, "_LITTLE_DISK", 1e18)
    assert "make room" in str(doctor._disk(tmp_path).remedy)
    assert doctor._disk(tmp_path / "gone").status == "warn"
    for limits, remedy in (((256, 1_000_000), "run: ulimit -n 4096"), ((256, 512), "run: ulimit -n 512")):
        monkeypatch.setattr(resource, "getrlimit", lambda which, limits=limits: limits)
        assert doctor._open_files().remedy == remedy
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert doctor._open_files().detail == "no limit"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no CPU affinity")
def test_cpus_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert doctor._cpus().detail.startswith("2 of 64 may be used")


def test_what_is_printed() -> None:
    console = Console(file=io.StringIO(), width=70, color_system=None)
    doctor.render(
        [
            Finding(name="a", status="ok", detail="1.0 [brackets] stay"),
            Finding(name="b", status="warn", detail="little", remedy="do this"),
            Finding(name="c", status="missing", detail="nothing", remedy="do that"),
        ],
        console,
    )
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines == [
        "ok       a  1.0 [brackets] stay",
        "warn     b  little",
        "            -> do this",
        "missing  c  nothing",
        "            -> do that",
        "1 ok, 1 to look at, 1 missing",
    ]

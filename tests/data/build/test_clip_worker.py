"""The process that decodes: what it may open, and what becomes of a clip when it hangs, dies or talks rubbish."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.badmedia import CASES, NAMES
from tests.data.builds import TINY, is_alive, write_clip
from vidkit.data.build import clip_worker
from vidkit.data.build.clip_worker import ClipJob, ClipOutcome, ClipWorker, Stopped, make_clip
from vidkit.data.media.transcode import StoredClip
from vidkit.data.paths import path_to_text
from vidkit.errors import BuildError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked for in /proc")


def job(root: Path, name: str, *, follow: bool = False) -> ClipJob:
    return ClipJob(root=os.fspath(root), path=path_to_text(name), settings=TINY, follow_symlinks=follow)


# --- what may be opened ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_file_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "plain.mp4")
    os.rename(tmp_path / "plain.mp4", os.path.join(tmp_path, name))
    outcome = make_clip(job(tmp_path, name))
    assert outcome.error is None
    assert outcome.clip.frames == 4


def _outside(root: Path) -> Path:
    other = root.parent / "outside"
    other.mkdir()
    write_clip(other / "secret.mp4")
    return other


@pytest.mark.parametrize("name", ["../outside/secret.mp4", "a/../../outside/secret.mp4", "/etc/passwd", ".."])
def test_paths_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    _outside(root)
    for follow in (False, True):
        outcome = make_clip(job(root, name, follow=follow))
        assert (outcome.error, outcome.source_sha256) == ("unsafe-path", None)


def test_links_out_are_refused_unless_allowed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    other = _outside(root)
    (root / "link.mp4").symlink_to(other / "secret.mp4")
    (root / "folder").symlink_to(other)
    (root / "twice.mp4").symlink_to("link.mp4")
    write_clip(root / "here.mp4")
    (root / "inside.mp4").symlink_to("here.mp4")
    for name in ("link.mp4", "folder/secret.mp4", "twice.mp4"):
        refused = make_clip(job(root, name))
        assert refused.error == "unsafe-path"
        assert "--follow-symlinks" in (refused.message or "")
        assert make_clip(job(root, name, follow=True)).error is None
    assert make_clip(job(root, "inside.mp4")).error is None


def test_a_root_that_is_a_link_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write_clip(tmp_path / "real" / "a.mp4")
    (tmp_path / "root").symlink_to("real")
    assert make_clip(job(tmp_path / "root", "a.mp4")).error is None
    (tmp_path / "rooted").mkdir()  # shares the beginning of its name, no more
    write_clip(tmp_path / "rooted" / "b.mp4")
    assert make_clip(job(tmp_path / "root", "../rooted/b.mp4")).error == "unsafe-path"


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (lambda p: None, "missing", "not found"),
        (lambda p: p.mkdir(), "unreadable", "not a regular file"),
        (lambda p: os.mkfifo(p), "unreadable", "not a regular file"),
        (lambda p: p.symlink_to("nowhere.mp4"), "missing", "not found"),
        (lambda p: p.symlink_to(p), "unreadable", "symbolic links"),
        (lambda p: p.write_bytes(b""), "empty", "0 bytes"),
    ],
    ids=["missing", "folder", "fifo", "dangling link", "link to itself", "empty"],
)
def test_files_that_are_none(prepare: object, error: str, message: str, tmp_path: Path) -> None:
    prepare(tmp_path / "x.mp4")  # type: ignore[operator]
    outcome = make_clip(job(tmp_path, "x.mp4"))
    assert outcome.error == error
    assert message in (outcome.message or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4")
    (tmp_path / "x.mp4").chmod(0)
    assert make_clip(job(tmp_path, "x.mp4")).error == "unreadable"


def test_checksum_and_size_are_of_the_source_also_where_it_fails(tmp_path: Path) -> None:
    import hashlib

    CASES["truncated-60"].write(tmp_path / "x.mp4")
    outcome = make_clip(job(tmp_path, "x.mp4"))
    data = (tmp_path / "x.mp4").read_bytes()
    assert outcome.error == "truncated"
    assert (outcome.source_sha256, outcome.source_bytes) == (hashlib.sha256(data).hexdigest(), len(data))


def test_a_large_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "x.mp4")
    whole = make_clip(job(tmp_path, "x.mp4"))
    monkeypatch.setattr(clip_worker, "_WHOLE_FILE_BYTES", 100)
    assert make_clip(job(tmp_path, "x.mp4")) == whole


# --- the child -----------------------------------------------------------------------------------------

#: Does what the clip's name says, where it says something.
CHILD = """
import os, pickle, signal, subprocess, sys, time
sys.path[:] = filter(None, sys.path)
from vidkit.data.build import clip_worker
real, served = clip_worker.make_clip, []
link = int(sys.argv[1])

def make_clip(job):
    served.append(job)
    name = job.path.partition(".")[0]
    if name == "hang":
        time.sleep(1000)
    if name == "hang-with-child":
        child = subprocess.Popen(["sleep", "1000"])
        with open(os.path.join(job.root, "child.pid"), "w") as file:
            file.write(str(child.pid))
        time.sleep(1000)
    if name == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        time.sleep(1000)
    if name == "abort":
        os.abort()
    if name == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "exit":
        os._exit(3)
    if name == "memory":
        bytearray(1 << 60)
    if name == "bug":
        raise RuntimeError("lost @ 0x7f0123456789, line\\n2")
    if name == "hangs-up":
        os.close(link)
        time.sleep(1000)
    if name == "rubbish":
        os.write(link, b"\\0\\0\\0\\5hello")
        time.sleep(1000)
    if name == "much":
        os.write(link, b"\\x7f\\xff\\xff\\xff" + b"x" * 100)
        time.sleep(1000)
    if name == "half":
        os.write(link, b"\\0\\0\\1\\0half")
        time.sleep(1000)
    if name == "other":
        data = pickle.dumps({"not": "an outcome"})
        os.write(link, len(data).to_bytes(4, "big") + data)
        time.sleep(1000)
    if name == "print":
        print("to stdout", flush=True)
        os.write(1, b"and to its file descriptor")
    if name == "second" and len(served) > 1:
        os.abort()
    return real(job)

clip_worker.make_clip = make_clip
clip_worker.main()
"""


@pytest.fixture
def odd_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_worker, "_CHILD", CHILD)
    monkeypatch.setattr(clip_worker, "_ANSWER_S", 1)


def pid(worker: ClipWorker) -> int:
    assert worker._process is not None
    return worker._process.pid


def test_one_process_serves_many_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    with ClipWorker(30.0) as worker:
        first = worker.run(job(tmp_path, "a.mp4"))
        process = pid(worker)
        missing = ClipOutcome(error="missing", message="the file was not found")
        assert worker.run(job(tmp_path, "gone.mp4")) == missing
        assert worker.run(job(tmp_path, "a.mp4")) == first == make_clip(job(tmp_path, "a.mp4"))
        assert isinstance(first.clip, StoredClip)
        assert pid(worker) == process
    assert not is_alive(process)


def test_a_process_is_replaced_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_worker, "_CLIPS_A_PROCESS", 2)
    with ClipWorker(30.0) as worker:
        seen = [(worker.run(job(tmp_path, "gone.mp4")).error, pid(worker)) for _ in range(5)]
    assert {error for error, _ in seen} == {"missing"}
    assert [seen[i][1] == seen[i + 1][1] for i in range(4)] == [True, False, True, False]


@linux
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("hang", "timeout", "stopped after 0.5 s"),
        ("hang-with-child", "timeout", "stopped after 0.5 s"),
        ("deaf", "timeout", "stopped after 0.5 s"),
        ("abort", "crashed", "the decoding process died: signal SIGABRT"),
        ("segfault", "crashed", "the decoding process died: signal SIGSEGV"),
        ("killed", "crashed", "the decoding process died: signal SIGKILL"),
        ("exit", "crashed", "the decoding process died: exit status 3"),
        ("memory", "crashed", "out of memory"),
        ("bug", "crashed", "RuntimeError: lost, line 2"),
        ("hangs-up", "crashed", "the decoding process died: signal SIGKILL"),
        ("rubbish", "crashed", "the decoding process gave no usable answer"),
        ("much", "crashed", "the decoding process died: signal SIGKILL"),
        ("half", "crashed", "the decoding process died: signal SIGKILL"),
        ("other", "crashed", "the decoding process gave no usable answer"),
    ],
)
def test_whatever_the_process_does_costs_one_clip(
    name: str, error: str, message: str, tmp_path: Path, odd_child: None
) -> None:
    write_clip(tmp_path / "good.mp4")
    with ClipWorker(0.5) as worker:
        assert worker.run(job(tmp_path, f"{name}.mp4")) == ClipOutcome(error=error, message=message)
        first = worker._process
        worker.timeout_s = 30.0
        assert worker.run(job(tmp_path, "good.mp4")).error is None
        assert (worker._process is first) == (name in ("memory", "bug"))
    if name == "hang-with-child":
        child = int((tmp_path / "child.pid").read_text())
        deadline = time.monotonic() + 5
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(child), "what the process started is killed with it"


def test_a_clip_is_blamed_only_for_a_process_of_its_own(tmp_path: Path, odd_child: None) -> None:
    write_clip(tmp_path / "second.mp4")
    with ClipWorker(30.0) as worker:
        assert worker.run(job(tmp_path, "gone.mp4")).error == "missing"
        assert worker.run(job(tmp_path, "second.mp4")).error is None


def test_nothing_a_library_prints_reaches_stdout(
    tmp_path: Path, odd_child: None, capfd: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "print.mp4")
    with ClipWorker(30.0) as worker:
        assert worker.run(job(tmp_path, "print.mp4")).error is None
    assert capfd.readouterr().out == ""


@linux
def test_a_request_to_stop_ends_a_hanging_clip(tmp_path: Path, odd_child: None) -> None:
    asked: list[int] = []
    worker = ClipWorker(1000.0, lambda: len(asked) > 1)

    def remember() -> bool:
        asked.append(pid(worker))
        return len(asked) > 1

    worker.run(job(tmp_path, "gone.mp4"))
    worker.should_stop = remember
    with worker, pytest.raises(Stopped):
        worker.run(job(tmp_path, "hang.mp4"))
    assert not is_alive(asked[0])
    assert worker._process is None


@pytest.mark.parametrize(
    ("program", "said"), [("raise SystemExit(7)", "exit status 7"), ("import os; os.abort()", "signal SIGABRT")]
)
def test_a_process_that_cannot_start_is_no_clips_fault(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_worker, "_CHILD", program)
    with ClipWorker(5.0) as worker, pytest.raises(BuildError, match=f"did not start: {said}") as caught:
        worker.run(job(tmp_path, "x.mp4"))
    assert "vidkit doctor" in str(caught.value)


def test_a_python_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.fspath(tmp_path / "python"))
    with ClipWorker(5.0) as worker, pytest.raises(BuildError, match="cannot start a worker process"):
        worker.run(job(tmp_path, "x.mp4"))


def test_the_current_folder_lends_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "av.py").write_text("raise SystemExit('the wrong av')")
    write_clip(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with ClipWorker(30.0) as worker:
        assert worker.run(job(tmp_path, "a.mp4")).error is None


@linux
def test_the_process_dies_with_the_build(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys, time; from vidkit.data.build.clip_worker import ClipWorker; w = ClipWorker(9); w._start();"
        "print(w._process.pid, flush=True); time.sleep(60)"
    )
    build = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert build.stdout is not None
    child = int(build.stdout.readline())
    assert is_alive(child)
    build.kill()
    build.wait()
    build.stdout.close()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)

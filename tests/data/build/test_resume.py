"""A build may be killed anywhere, any number of times: what it comes to is always the same bytes."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.data import builds
from tests.data.build.crashes import Crash, crash_after, crash_everywhere
from tests.data.builds import LISTED, check_whole, listed_spec, listed_tree, plan, run, snapshot, write_clip
from vidkit.cli.app import main
from vidkit.data import shards
from vidkit.data.build.build import Interrupted
from vidkit.data.plan.planning import Prepared
from vidkit.data.progress import Progress
from vidkit.errors import BuildError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed_tree(tmp_path_factory.mktemp("source") / "t", 13, missing=1, broken=1)


def arguments(source: Path, out: Path, *, per_shard: int, workers: int) -> list[str]:
    """The command line for a spec file beside the source."""
    spec = source.parent / f"listed{per_shard}.toml"
    if not spec.exists():
        assert listed_spec(source.parent, name="listed", title="Listed", per_shard=per_shard) == spec
    given = ["build-dataset", spec, "--out", out, "--source", f"lists={source}", "--workers", workers]
    return [*map(str, given), "--max-failures", "100"]


# --- killed by the kernel ----------------------------------------------------------------------------


def _main(words: list[str]) -> None:
    """The command in a process forked from one that has loaded everything."""
    sys.argv = ["vidkit", *words]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    main()


def _workers_of(pid: int) -> list[int]:
    """Worker processes that `pid` started, also after its death: it is an argument of theirs."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(b"clip_worker" in word for word in words) and words[-2] == str(pid).encode():
                found.append(int(folder.name))
    return found


def _journaled(out: Path) -> int:
    return sum(path.stat().st_size for path in (out / ".build").glob("*.jsonl*") if path.exists())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are looked for in /proc")
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 72, missing=2, broken=2)
    whole = {}

    def start(out: Path, workers: int) -> Any:
        words = arguments(source, out, per_shard=9, workers=workers)
        process = forked.CONTEXT.Process(target=_main, args=(words,))
        process.start()
        return process

    for workers in (1, 2, 4):
        process = start(tmp_path / f"whole{workers}", workers)
        process.join(60)
        assert process.exitcode == 0
        whole[workers] = snapshot(tmp_path / f"whole{workers}")
    assert whole[1] == whole[2] == whole[4]

    rng = random.Random(0)
    out = tmp_path / "killed"
    kills = 0
    killed: list[int] = []
    while kills < 20:
        process = start(out, rng.choice((1, 2, 4)))
        deadline = time.monotonic() + 60
        if rng.random() < 0.8:  # else in the beginning, before any clip is done
            before = _journaled(out)
            while process.is_alive() and _journaled(out) <= before and time.monotonic() < deadline:
                time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03 if kills % 4 else 0.3))
        process.kill()
        process.join(10)
        killed.append(process.pid)
        if process.exitcode == 0:  # it was faster; once more from the start
            assert snapshot(out) == whole[1]
            shutil.rmtree(out)
        else:
            assert process.exitcode == -signal.SIGKILL
            kills += 1
    process = start(out, 2)
    process.join(60)
    assert process.exitcode == 0
    assert snapshot(out) == whole[1]
    check_whole(out)
    deadline = time.monotonic() + 5
    while (left := [pid for parent in killed for pid in _workers_of(parent)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == [], "worker processes that outlived their build"


# --- stopped by the user -----------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are looked for in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_takes_seconds_says_how_to_go_on_and_resumes(how: signal.Signals, tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t s", 40)
    words = arguments(source, tmp_path / "out", per_shard=10, workers=2)
    process = subprocess.Popen(
        builds.command(*words), env=builds.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not (children := builds.descendants(process.pid)) or not _journaled(tmp_path / "out"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    for child in children:
        os.kill(child, signal.SIGSTOP)  # in the middle of a clip that takes for ever
    started = time.monotonic()
    process.send_signal(how)
    output, said = process.communicate(timeout=30)
    assert time.monotonic() - started < 20  # a hang, not a measurement: see the clip's time limit of 120 s
    assert process.returncode == 130, said
    assert output == ""
    assert "Stopped. What is done is kept; go on with the same command:" in said
    command = said.strip().splitlines()[-1].strip()
    assert command.startswith("vidkit build-dataset ")
    assert f"'lists={source}'" in command, "quoted, as it holds a space"
    assert "Traceback" not in said
    assert not any(builds.is_alive(child) for child in children)
    assert builds.facts(tmp_path / "out")["status"] == "building"
    assert builds.vidkit(*words).returncode == 0
    other = arguments(source, tmp_path / "whole", per_shard=10, workers=1)
    assert builds.vidkit(*other).returncode == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_an_interrupt_in_the_library_is_its_own_exception(tree: Path, tmp_path: Path) -> None:
    class Impatient(Progress):
        def advance(self, status: str = "ok", by: int = 1) -> None:
            super().advance(status, by)
            signal.raise_signal(signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    prepared = plan(LISTED, tree)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        run(prepared, tmp_path / "out", progress=Impatient("building", 13, quiet=True))
    run(prepared, tmp_path / "out")
    run(prepared, tmp_path / "whole")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


# --- killed between any two steps --------------------------------------------------------------------


def test_killed_before_any_step_of_a_build(
    tree: Path, tmp_path: Path, in_process: None, crash_at: Callable[[int | None], None]
) -> None:
    prepared = plan(LISTED, tree)
    run(prepared, tmp_path / "whole")
    want = snapshot(tmp_path / "whole")

    def attempt(out: Path) -> None:
        run(prepared, out)

    steps = crash_everywhere(crash_at, lambda out: None, attempt, want, tmp_path)
    assert steps > 40


def test_killed_before_any_step_of_a_retry(
    tmp_path: Path, in_process: None, crash_at: Callable[[int | None], None]
) -> None:
    source = listed_tree(tmp_path / "t", 9, missing=1, broken=1)
    before = plan(LISTED, source)
    run(before, tmp_path / "before")
    _mend(source)
    after = plan(LISTED, source)
    run(after, tmp_path / "whole")
    want = snapshot(tmp_path / "whole")

    def begin(out: Path) -> None:
        shutil.copytree(tmp_path / "before", out)

    def attempt(out: Path) -> None:
        run(after, out, retry_failed=True)

    assert crash_everywhere(crash_at, begin, attempt, want, tmp_path) > 30


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(
    seed: int, tree: Path, tmp_path: Path, in_process: None, crash_at: Callable[[int | None], None]
) -> None:
    prepared = plan(LISTED, tree)
    run(prepared, tmp_path / "whole")
    rng = random.Random(seed)
    for _ in range(200):
        crash_at(rng.randrange(25))
        try:
            run(prepared, tmp_path / "out", workers=rng.choice((1, 3)))
            break
        except Crash:
            continue
    crash_at(None)
    run(prepared, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


# --- trying failures again ---------------------------------------------------------------------------


def _mend(source: Path) -> None:
    """What `listed_tree` left out or cut."""
    for split in ("train", "val"):
        for i in range(2):
            path = source / split / f"{split}{i}.mp4"
            path.unlink(missing_ok=True)
            write_clip(path, first=i + 1000 * (split == "val"))


@pytest.mark.usefixtures("in_process")
def test_retry_after_mending_is_as_if_it_had_never_failed(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 17, missing=1, broken=1)
    first = run(plan(LISTED, source), tmp_path / "out")
    assert first.facts["errors"] == {"missing": 2, "truncated": 2}
    made = {row["shard"] for row in builds.ledger(tmp_path / "out") if row["status"] != "ok"}
    whole_before = {
        name: (tmp_path / "out" / name).stat().st_ino
        for name in {row["shard"] for row in builds.ledger(tmp_path / "out")} - made
    }
    assert made
    assert whole_before
    _mend(source)
    again = run(plan(LISTED, source), tmp_path / "out", retry_failed=True, workers=2)
    assert again.made == 4, "clips that are stored are not decoded again"
    run(plan(LISTED, source), tmp_path / "whole")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert builds.facts(tmp_path / "out")["counts"]["ok"] == 17
    for name, inode in whole_before.items():
        assert (tmp_path / "out" / name).stat().st_ino == inode, "a shard without failures is left alone"


@pytest.mark.usefixtures("in_process")
def test_retry_of_some_while_others_stay(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 17, missing=2, broken=1)
    run(plan(LISTED, source), tmp_path / "out")
    write_clip(source / "train" / "train0.mp4", first=0)
    run(plan(LISTED, source), tmp_path / "out", retry_failed=True)
    run(plan(LISTED, source), tmp_path / "whole")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert check_whole(tmp_path / "out")


@pytest.mark.usefixtures("in_process")
def test_retry_without_a_change_changes_nothing(tree: Path, tmp_path: Path) -> None:
    prepared = plan(LISTED, tree)
    run(prepared, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    assert run(prepared, tmp_path / "out", retry_failed=True).made == 4
    assert snapshot(tmp_path / "out") == before


@pytest.mark.usefixtures("in_process")
def test_a_finished_build_is_left_alone(tree: Path, tmp_path: Path) -> None:
    prepared = plan(LISTED, tree)
    first = run(prepared, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    second = run(prepared, tmp_path / "out")
    assert (first.made, second.made) == (13, 0)
    assert second.facts == first.facts
    assert second.shards == first.shards
    assert second.ledger.equals(first.ledger)
    assert {p: p.stat().st_mtime_ns for p in before if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }


@pytest.mark.usefixtures("in_process")
def test_retry_of_a_shard_whose_tar_was_damaged_makes_all_of_it(tree: Path, tmp_path: Path) -> None:
    prepared = plan(LISTED, tree)
    run(prepared, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    failed = {row["shard"] for row in builds.ledger(tmp_path / "out") if row["status"] != "ok"}
    for name in failed:
        path = tmp_path / "out" / name
        data = bytearray(path.read_bytes())
        data[700] ^= 1
        path.write_bytes(data)
    run(prepared, tmp_path / "out", retry_failed=True)
    assert snapshot(tmp_path / "out") == before


@pytest.mark.usefixtures("in_process")
def test_a_clip_that_loses_its_file_between_builds_is_no_silent_change(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 9, broken=1)
    run(plan(LISTED, source), tmp_path / "out")
    (source / "train" / "train3.mp4").unlink()  # stored already
    _mend(source)
    run(plan(LISTED, source), tmp_path / "out", retry_failed=True)
    assert builds.by_id(tmp_path / "out")["train/train3"]["status"] == "ok"
    check_whole(tmp_path / "out")


# --- a damaged state of an unfinished build --------------------------------------------------------------


@pytest.fixture
def half(tree: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch) -> tuple[Prepared, Path]:
    """A build that stopped after its sixth clip, in the second shard."""
    prepared = plan(LISTED, tree)
    with monkeypatch.context() as patched:
        crash_after(6, patched)
        with pytest.raises(Crash):
            run(prepared, tmp_path / "out")
    return prepared, tmp_path / "out"


def _whole(prepared: Prepared, tmp_path: Path) -> dict[str, str]:
    run(prepared, tmp_path / "whole")
    return snapshot(tmp_path / "whole")


def test_finished_shards_are_not_made_again(half: tuple[Prepared, Path], tmp_path: Path) -> None:
    prepared, out = half
    assert (out / "train/000000.tar").exists()
    assert (out / "train/000001.tar.part").exists()
    assert run(prepared, out).made == 13 - 6
    assert snapshot(out) == _whole(prepared, tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "train/000000.tar").unlink(),
        lambda out: (out / "train/000000.tar").write_bytes(b"short"),
        lambda out: (out / "train/000001.tar.part").unlink(),
        lambda out: (out / "train/000001.tar.part").write_bytes(bytes(3000)),
        lambda out: (out / ".build/train-000001.jsonl.part").unlink(),
        lambda out: (out / ".build/train-000001.jsonl.part").write_bytes(bytes(300)),
        lambda out: (out / ".build/train-000000.jsonl").unlink(),
        lambda out: (out / ".build/train-000000.jsonl").write_bytes(bytes(300)),
        lambda out: (out / ".build/plan.parquet").unlink(),
        lambda out: shutil.rmtree(out / ".build"),
        lambda out: shutil.rmtree(out / "train"),
    ],
    ids=[
        "no shard",
        "short shard",
        "no shard in work",
        "zeros in the shard in work",
        "no journal in work",
        "zeros in the journal in work",
        "no journal",
        "zeros in the journal",
        "no plan",
        "no work folder",
        "no split",
    ],
)
def test_state_that_was_lost_is_made_again(
    damage: Callable[[Path], None], half: tuple[Prepared, Path], tmp_path: Path
) -> None:
    prepared, out = half
    damage(out)
    run(prepared, out)
    assert snapshot(out) == _whole(prepared, tmp_path)


def test_a_journal_of_another_plan_is_an_error(half: tuple[Prepared, Path]) -> None:
    prepared, out = half
    journal = out / ".build/train-000001.jsonl.part"
    journal.write_text(journal.read_text().replace('"key":"0000000', '"key":"9000000'))
    with pytest.raises(BuildError, match=r"journal of train/000001\.tar does not fit the plan") as caught:
        run(prepared, out)
    assert "remove" in str(caught.value)


# --- no room -----------------------------------------------------------------------------------------


class FullDisk(io.BytesIO):
    """Accepts nothing."""

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("part", ["tar", "jsonl"])
def test_a_full_disk_is_an_error_that_can_be_resumed(
    part: str, tree: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = plan(LISTED, tree)
    real = shards._open_at

    def open_at(path: Path, size: int) -> Any:
        full = path.name.startswith(("000001.tar", "train-000001")) and part in path.name
        return FullDisk() if full else real(path, size)

    with monkeypatch.context() as patched:
        patched.setattr(shards, "_open_at", open_at)
        with pytest.raises(BuildError, match="No space left on device") as caught:
            run(prepared, tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert "make room" in str(caught.value)
    run(prepared, tmp_path / "out")
    assert snapshot(tmp_path / "out") == _whole(prepared, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is always full")
@pytest.mark.parametrize("name", ["clips.parquet", "shards.json", "README.md", "dataset.json"])
def test_a_full_disk_at_the_end(name: str, half: tuple[Prepared, Path], tmp_path: Path) -> None:
    prepared, out = half
    (out / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(BuildError, match="No space left on device"):
        run(prepared, out)
    (out / f"{name}.part").unlink(missing_ok=True)  # pyarrow removes what it could not write
    run(prepared, out)
    assert snapshot(out) == _whole(prepared, tmp_path)


def test_a_file_system_that_is_really_full(tree: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", os.fspath(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root and its permission")
    try:
        words = arguments(tree, small / "out", per_shard=4, workers=2)
        full = builds.vidkit(*words)
        assert full.returncode == 1, full.stderr
        assert "No space left on device" in full.stderr
        assert "make room" in full.stderr
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", os.fspath(small)], check=True)
        assert builds.vidkit(*words).returncode == 0
        assert builds.vidkit(*arguments(tree, tmp_path / "whole", per_shard=4, workers=1)).returncode == 0
        assert snapshot(small / "out") == snapshot(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "-l", os.fspath(small)], check=False)


# --- what must stay as it was ------------------------------------------------------------------------


def test_a_lock_keeps_a_second_build_out(tree: Path, tmp_path: Path) -> None:
    prepared = plan(LISTED, tree)
    tried: list[BuildError] = []

    class Second(Progress):
        def advance(self, status: str = "ok", by: int = 1) -> None:
            super().advance(status, by)
            if not tried:
                with pytest.raises(BuildError) as caught:
                    run(prepared, tmp_path / "out")
                tried.append(caught.value)

    run(prepared, tmp_path / "out", progress=Second("building", 13, quiet=True))
    assert f"another build is at work in {tmp_path / 'out'}" in str(tried[0])
    assert run(prepared, tmp_path / "out").made == 0, "the lock is free again"
    assert snapshot(tmp_path / "out") == _whole(prepared, tmp_path)


def test_the_lock_of_a_killed_build_is_free(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)"
    code += "; print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path / "out" / ".lock"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.read(1) == b"1"
    prepared = plan(LISTED, tree)
    with pytest.raises(BuildError, match="another build"):
        run(prepared, tmp_path / "out")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert run(prepared, tmp_path / "out").made == 13


def test_other_settings_are_an_error_that_names_each(half: tuple[Prepared, Path]) -> None:
    prepared, out = half
    source = Path(prepared.roots["lists"])
    other = plan(LISTED, source, size=48, frames=2, strict_decode=True)
    with pytest.raises(BuildError) as caught:
        run(other, out)
    said = str(caught.value)
    assert f"{out} holds a build with other settings, annotations or encoder" in said
    for line in (
        "settings.encode.size: 32 there, 48 here",
        "settings.encode.max_frames: 4 there, 2 here",
        "settings.strict_decode: False there, True here",
    ):
        assert line in said
    assert "give another --out" in said
    run(prepared, out)
    with pytest.raises(BuildError, match=r"encode\.size: 32 there, 48 here"):
        run(other, out)  # of a finished build, too


def test_another_encoder_is_an_error_that_names_both(half: tuple[Prepared, Path]) -> None:
    prepared, out = half
    found = builds.facts(out)["encoder"]
    with pytest.raises(BuildError) as caught:
        run(prepared, out, encoder={**found, "x264": "999", "new": "1"})
    assert f"encoder.x264: {found['x264']!r} there, '999' here" in str(caught.value)
    assert "encoder.new: None there, '1' here" in str(caught.value)
    assert "pyav" not in str(caught.value)


@pytest.mark.parametrize("finished", [False, True])
def test_other_annotations_are_an_error_that_names_a_clip(finished: bool, tmp_path: Path, in_process: None) -> None:
    source = listed_tree(tmp_path / "t", 8)
    prepared = plan(LISTED, source)
    run(prepared, tmp_path / "out")
    if not finished:
        about = builds.facts(tmp_path / "out")
        (tmp_path / "out/dataset.json").write_text(json.dumps({**about, "status": "building"}))
    lines = (source / "train.csv").read_text().splitlines()
    assert lines[0] == "train/train0.mp4 0"
    (source / "train.csv").write_text("\n".join(["train/train0.mp4 1", *lines[1:-1], "train/train77.mp4 0"]) + "\n")
    with pytest.raises(BuildError) as caught:
        run(plan(LISTED, source), tmp_path / "out")
    said = str(caught.value)
    assert "clips planned: 8 there, 8 here" in said
    assert "only there: 1, for example lists/train/train5" in said
    assert "only here: 1, for example lists/train/train77" in said
    assert "with another split, label or class id: 1, for example lists/train/train0" in said


def test_a_missing_file_that_came_is_no_other_plan(tmp_path: Path, in_process: None) -> None:
    source = listed_tree(tmp_path / "t", 8, missing=1)
    run(plan(LISTED, source), tmp_path / "out")
    _mend(source)
    again = run(plan(LISTED, source), tmp_path / "out")
    assert again.facts["counts"]["missing"] == 2, "a finished build stays as it is without --retry-failed"


def test_a_folder_with_other_files_is_left_alone(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(BuildError) as caught:
        run(plan(LISTED, tree), tmp_path / "out")
    assert f"{tmp_path / 'out'} is not empty and holds no dataset: thesis.tex" in str(caught.value)
    assert "new or empty" in str(caught.value)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "thesis.tex"]


@pytest.mark.parametrize("left", [["plan.parquet"], ["train-000000.jsonl", "plan.parquet.part"]])
def test_a_work_folder_without_a_dataset_is_cleared(
    left: list[str], tree: Path, tmp_path: Path, in_process: None
) -> None:
    prepared = plan(LISTED, tree)
    (tmp_path / "out" / ".build").mkdir(parents=True)
    for name in left:
        (tmp_path / "out" / ".build" / name).write_bytes(b"of another build")
    run(prepared, tmp_path / "out")
    assert snapshot(tmp_path / "out") == _whole(prepared, tmp_path)

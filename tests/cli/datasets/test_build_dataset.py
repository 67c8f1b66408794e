"""`vidkit build-dataset` as a user and a script see it: exit codes, stdout, stderr, what is found and suggested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.typed import Run
from tests.data import builds
from tests.data.builds import check_whole, cut, environment, facts, listed_spec, listed_tree, snapshot
from tests.data.synth.generated import small
from vidkit.data.synth.layouts import KINDS
from vidkit.errors import display_path


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., list[str]]:
    """Words for a build of a small tree with a spec file."""

    def words(
        *, clips: int = 8, missing: int = 0, broken: int = 0, expect: str = "", out: str = "out"
    ) -> list[str]:
        if not (tmp_path / "t").exists():
            listed_tree(tmp_path / "t", clips, missing=missing, broken=broken)
        listed_spec(tmp_path, title="Mine [a]").rename(tmp_path / "mine.toml")
        with (tmp_path / "mine.toml").open("a") as file:
            file.write(expect)
        source = f"lists={tmp_path / 't'}"
        return ["build-dataset", str(tmp_path / "mine.toml"), "--source", source, "--out", str(tmp_path / out)]

    return words


# --- exit codes -------------------------------------------------------------------------------------------


def test_a_good_build_exits_0_and_says_what_it_made(
    vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path
) -> None:
    said = vidkit(*mine(missing=1))
    assert said.code == 0, said.err
    assert f"mine in {tmp_path / 'out'}: 3 shards" in said.out
    assert f"next: vidkit verify {tmp_path / 'out'}" in said.out
    assert "annotated but missing" in said.err
    assert "building: 8/8 clips" in said.err
    assert "missing 2" in said.err
    check_whole(tmp_path / "out")
    again = vidkit(*mine())
    assert again.code == 0
    assert "nothing was left to do" in again.out


def test_too_many_failures_exit_1_and_the_dataset_is_whole(
    vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path
) -> None:
    said = vidkit(*mine(broken=1, missing=1))
    assert said.code == 1
    assert "exit 1: 2 of 6 clips that are present failed (33.3 %, above --max-failures 5)" in said.err
    assert "truncated 2: the file ends before" in said.out
    check_whole(tmp_path / "out")
    assert vidkit(*mine(), "--max-failures", "34").code == 0, "missing files are counted apart"
    assert vidkit(*mine(), "--max-failures", "33").code == 1


def test_strict_exits_1_where_counts_differ(vidkit: Run, mine: Callable[..., list[str]]) -> None:
    expect = '[[expect]]\nwhat = "clips/{split}"\nvalue = {value}\nwhere = "a [paper]"\n'
    differs = mine(expect=expect.format(split="train", value=6) + expect.format(split="val", value=7))
    said = vidkit(*differs, "--strict")
    assert said.code == 1
    assert "exit 1: clips/val: 2 found, 7 expected (a [paper])" in said.err
    assert "clips/train:" not in said.err.partition("exit 1")[2]
    assert vidkit(*differs).code == 0
    assert vidkit(*differs, "--strict", "--dry-run").code == 1
    assert vidkit(*mine(expect=expect.format(split="val", value=2), out="equal"), "--strict").code == 0


def test_a_build_without_a_usable_clip_exits_1(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    words = mine(clips=4)
    for video in (tmp_path / "t").rglob("*.mp4"):
        video.write_bytes(b"")
    said = vidkit(*words, "--max-failures", "100")
    assert said.code == 1
    assert "exit 1: no clip could be used" in said.err
    assert facts(tmp_path / "out")["counts"]["failed"] == 4


def test_leaks_are_told_and_can_be_forbidden(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    words = mine()
    (tmp_path / "t/val/val0.mp4").write_bytes((tmp_path / "t/train/train3.mp4").read_bytes())
    said = vidkit(*words)
    assert said.code == 0
    assert "same file in two splits: lists/train/train3, lists/val/val0" in said.out
    said = vidkit(*words, "--forbid-leaks")
    assert said.code == 1
    assert "exit 1: 1 videos or files are in more than one split" in said.err


def test_a_group_in_two_splits_is_known_before_anything_is_decoded(vidkit: Run, tmp_path: Path) -> None:
    root = tmp_path / "k"
    csv = "label,youtube_id,time_start,time_end,split,is_cc\n"
    for split, start in (("train", 0), ("validate", 20)):
        name = f"abcdefghijk_{start:06d}_{start + 10:06d}.mp4"
        builds.write_clip(root / name, first=start)
        (root / f"{split}.csv").write_text(f"{csv}yoga,abcdefghijk,{start},{start + 10},{split},0\n")
    words = ["build-dataset", "k400", "--kinetics", root, "--out", tmp_path / "out", "--size", "32"]
    said = vidkit(*words, "--forbid-leaks")
    assert said.code == 1
    assert "1 videos are in more than one split, for example abcdefghijk" in said.err
    assert not (tmp_path / "out").exists()
    said = vidkit(*words)
    assert said.code == 0
    assert "leak: abcdefghijk is in train and val (2 clips)" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build-dataset", "composit-518"], ["composit-518", "composite-518"]),
        (["build-dataset", "k400", "--ssv2", "."], ["k400 has no source 'ssv2'", "build-dataset ssv2 --ssv2 DIR"]),
        (["build-dataset", "k400"], ["no source of k400", "--kinetics DIR"]),
        (["build-dataset", "k400", "--kinetics", "nowhere"], ["--kinetics nowhere is no folder"]),
        (["build-dataset", "--source", "mine"], ["--source 'mine' is not NAME=DIR"]),
        (["build-dataset", "--source", "=x"], ["is not NAME=DIR"]),
        (["build-dataset", "k400", "--kinetics", ".", "--size", "63"], ["size is 63", "an even number"]),
        (["build-dataset", "k400", "--kinetics", ".", "--fps", "0"], ["fps is 0.0", "above 0"]),
        (["build-dataset", "k400", "--kinetics-classes", "some"], ["--kinetics-classes is 'some'"]),
        (["build-dataset", "k400", "--kinetics-fraction", "2"], ["--kinetics-fraction is 2.0"]),
        (["build-dataset", "--transcoder", "magic"], ["--transcoder is 'magic'; expected pyav or ffmpeg"]),
        (["build-dataset", "nowhere/spec.toml"], ["nowhere/spec.toml"]),
        (["build-dataset", "--frames", "many"], ["--frames", "integer"]),
        (["build-dataset", "--seed", "-1"], ["--seed", "greater than or equal to 0"]),
        (["build-dataset", "--limit", "0"], ["--limit"]),
        (["build-dataset", "--max-failures", "101"], ["--max-failures"]),
        (["build-dataset", "--kinetix", "x"], ["--kinetix"]),
        (["bild-dataset"], ["bild-dataset"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].endswith("dataset") else "",
)
def test_bad_usage_exits_2_and_names_the_value(words: list[str], said: list[str], vidkit: Run) -> None:
    got = vidkit(*words)
    assert got.code == 2, got
    assert got.out == ""
    for text in said:
        assert text in got.err
    assert "Traceback" not in got.err
    assert os.listdir() == [], "nothing is left behind"


def test_an_annotation_error_names_file_and_row(vidkit: Run, tmp_path: Path) -> None:
    builds.write_clip(tmp_path / "t/videos/train/v/1.mp4")
    (tmp_path / "t/tiny_train.json").write_text('{"tubes": [\n  {"id": 1,\n')
    got = vidkit("build-dataset", "tinyvirat", "--tinyvirat", tmp_path / "t")
    assert got.code == 2
    assert got.err.splitlines()[-2].startswith(f"vidkit: {tmp_path / 't/tiny_train.json'}, row 3")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    got = vidkit(*mine(out="closed/out"))
    assert got.code == 1
    assert "cannot write to" in got.err


def test_an_out_that_is_a_file(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    got = vidkit(*mine())
    assert got.code == 1
    assert f"cannot write to {tmp_path / 'out'}" in got.err
    assert (tmp_path / "out").read_text() == "precious"


def test_a_locked_folder_exits_1(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "out").mkdir()
    with (tmp_path / "out/.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        got = vidkit(*mine())
    assert got.code == 1
    assert f"another build is at work in {tmp_path / 'out'}" in got.err


def test_other_settings_exit_1_and_name_the_difference(vidkit: Run, mine: Callable[..., list[str]]) -> None:
    assert vidkit(*mine()).code == 0
    got = vidkit(*mine(), "--size", "48", "--seed", "3")
    assert got.code == 1
    assert "settings.encode.size: 32 there, 48 here" in got.err
    assert "settings.seed: 0 there, 3 here" in got.err


def test_a_dataset_of_a_newer_vidkit(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    assert vidkit(*mine()).code == 0
    path = tmp_path / "out/dataset.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    got = vidkit(*mine())
    assert got.code == 1
    assert "format 99 is newer than this vidkit reads (1)" in got.err
    assert "upgrade vidkit" in got.err


# --- options ----------------------------------------------------------------------------------------------


def test_json_stands_alone_on_stdout(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    got = vidkit(*mine(missing=1, broken=1), "--json")
    assert got.code == 1
    report = json.loads(got.out)
    assert (report["exit_code"], report["out"]) == (1, str(tmp_path / "out"))
    assert report["counts"]["planned"] == 8
    assert report["errors"] == {"missing": 2, "truncated": 2}
    assert report["reasons"] == [got.err.partition("exit 1: ")[2].strip()]
    assert report["classes"] == 2


def test_a_dry_run_plans_and_writes_nothing(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    got = vidkit(*mine(missing=1), "--dry-run")
    assert (got.code, got.out) == (0, "")
    assert "plan  8 clips, 2 classes" in got.err
    assert not (tmp_path / "out").exists()
    report = json.loads(vidkit(*mine(), "--dry-run", "--json").out)
    assert (report["dry_run"], report["planned"], report["name"]) == (True, 8, "mine")
    assert report["sources"]["lists"]["annotated but missing"] == 2
    assert vidkit(*mine()).code == 0
    built = facts(tmp_path / "out")
    assert built["settings"] == report["settings"]
    assert built["label_map"]["sha256"] == report["label_map_sha256"]


def test_a_dry_run_counts_what_cannot_be_used(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    given = mine(missing=1)
    with (tmp_path / "t" / "train.csv").open("a") as lines:
        lines.write("train/train1.mp4 7\n")
    got = vidkit(*given, "--dry-run")
    assert "missing 2 clips cannot be used: annotated, but no file of that name was found" in got.err
    assert "unknown-label 1 clips cannot be used: the label is in no class list of the spec" in got.err
    assert json.loads(vidkit(*given, "--dry-run", "--json").out)["errors"] == {"missing": 2, "unknown-label": 1}
    assert json.loads(vidkit(*given, "--dry-run", "--json", "--ids-from", "1").out)["settings"]["ids_from"] == 1


def test_size_frames_fps_limit_and_shards(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    base = mine(clips=12)
    changes = ["--size", "48", "--frames", "3", "--limit", "5", "--clips-per-shard", "2", "--workers", "1"]
    assert vidkit(*base, *changes).code == 0
    rows = check_whole(tmp_path / "out")
    assert len(rows) == 5
    assert {(row["width"], row["height"], row["frames"]) for row in rows} == {(48, 48, 3)}
    assert len({row["shard"] for row in rows if row["split"] == "train"}) >= 2
    other = mine(out="all")
    assert vidkit(*other, "--frames", "0").code == 0
    assert {row["frames"] for row in builds.ledger(tmp_path / "all")} == {5}
    other = mine(out="slow")
    assert vidkit(*other, "--fps", "10").code == 0
    assert {(row["frames"], row["fps"]) for row in builds.ledger(tmp_path / "slow")} == {(2, 10.0)}


def test_the_seed_orders_and_workers_do_not(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    for out, words in (("a", ["--workers", "1"]), ("b", ["--workers", "3"]), ("c", ["--seed", "1"])):
        assert vidkit(*mine(out=out), *words).code == 0
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    order = [[row["clip_id"] for row in builds.ledger(tmp_path / out)] for out in ("a", "c")]
    assert order[0] != order[1]
    assert sorted(order[0]) == sorted(order[1])


def test_present_only_plans_what_is_there(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    assert vidkit(*mine(missing=1), "--present-only").code == 0
    counts = facts(tmp_path / "out")["counts"]
    assert (counts["planned"], counts["missing"]) == (6, 0)


def test_retry_failed_after_mending(vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path) -> None:
    listed_tree(tmp_path / "t", 8)
    good = (tmp_path / "t/train/train0.mp4").read_bytes()
    cut(tmp_path / "t/train/train0.mp4")
    words = mine()
    assert vidkit(*words).code == 1
    (tmp_path / "t/train/train0.mp4").write_bytes(good)
    got = vidkit(*words, "--retry-failed")
    assert got.code == 0, got.err
    assert facts(tmp_path / "out")["counts"]["ok"] == 8


def test_strict_decode_is_passed_on(vidkit: Run, tmp_path: Path) -> None:
    from tests.badmedia import CASES

    (tmp_path / "t/train/a").mkdir(parents=True)
    CASES["zeroed-block"].write(tmp_path / "t/train/a/x.mp4")
    words = ["build-dataset", "demo", "--demo", tmp_path / "t", "--max-failures", "100", "--size", "32"]
    vidkit(*words, "--out", tmp_path / "out", "--strict-decode")
    assert facts(tmp_path / "out")["errors"] == {"decode-error": 1}


# --- what is found ------------------------------------------------------------------------------------------


def test_sources_are_found_under_data_and_in_the_variable(
    vidkit: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small("tinyvirat-v1", tmp_path / "store/TinyVIRAT", clips=4, classes=2, label_sets=2)
    got = vidkit("build-dataset", "tinyvirat", "--dry-run")
    assert got.code == 2, "nothing there yet"
    Path("data").symlink_to(tmp_path / "store")
    got = vidkit("build-dataset", "tinyvirat", "--dry-run")
    assert got.code == 0, got.err
    assert "reading tinyvirat from data/TinyVIRAT" in got.err
    Path("data").unlink()
    monkeypatch.setenv("VIDKIT_DATA", str(tmp_path / "store"))
    got = vidkit("build-dataset", "tinyvirat", "--dry-run")
    assert f"reading tinyvirat from {tmp_path / 'store/TinyVIRAT'}" in got.err
    got = vidkit("build-dataset", "--dry-run")
    assert got.code == 2
    assert "composite-518 needs source 'kinetics'" in got.err


def test_with_nothing_at_all_the_demo_is_built(vidkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "demo", replace(KINDS["demo"], clips=24))  # drawn in seconds
    got = vidkit("build-dataset", "--limit", "6", "--workers", "2", "--frames", "4", "--size", "32")
    assert got.code == 0, got.err
    assert "No datasets under data (or $VIDKIT_DATA): building the demo from generated clips." in got.err
    assert "vidkit build-dataset k400 --kinetics DIR" in got.err
    assert "synthetic: these clips are generated" in got.out
    assert sorted(os.listdir()) == ["vidkit-demo", "vidkit-demo-clips"]
    about = facts(Path("vidkit-demo"))
    assert about["synthetic"] is True
    assert about["counts"]["ok"] == 6
    assert "generated" in Path("vidkit-demo/README.md").read_text()
    # the drawn clips are kept, and can be built from by name
    got = vidkit("build-dataset", "demo", "--out", "vidkit-demo", "--limit", "6", "--frames", "4", "--size", "32")
    assert "nothing was left to do" in got.out
    assert "No datasets" not in got.err
    # where the dataset lies in a store, the clips alone stay here
    got = vidkit("build-dataset", "demo", "--out", "memory://lab/far", "--dry-run")
    assert got.code == 0, got.err
    assert sorted(os.listdir()) == ["far-clips", "vidkit-demo", "vidkit-demo-clips"]


def test_what_synth_prints_next_works(vidkit: Run, tmp_path: Path) -> None:
    for kind in ("kinetics-bare-ids", "tinyvirat-v2", "demo"):
        drawn = ["--clips", "4", "--classes", "2", "--frames", "4", "--size", "48x36", "--workers", "1"]
        made = vidkit("synth", kind, "--out", tmp_path / kind, *drawn)
        assert made.code == 0, made.err
        command = made.out.strip().splitlines()[-1].removeprefix("next: vidkit ").split()
        assert vidkit(*command, "--size", "32", "--out", tmp_path / f"{kind}-out").code == 0
        check_whole(tmp_path / f"{kind}-out")


@pytest.mark.parametrize("name", ["two words", "[bold]x[/red]", "it's", "-dash", "a:b", "größe", "\udcff"])
def test_any_name_of_the_out_folder(
    name: str, vidkit: Run, mine: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = vidkit(*mine(clips=4, broken=1, out=name))
    assert got.code == 1
    assert f"mine in {display_path(str(tmp_path / name))}: " in got.out
    check_whole(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    again = vidkit(*mine(out=name)[:-1], name if name != "-dash" else "./-dash", "--json")
    assert json.loads(again.out)["counts"]["planned"] == 4


# --- processes ------------------------------------------------------------------------------------------------


def test_building_imports_no_torch(mine: Callable[..., list[str]], tmp_path: Path) -> None:
    """pyarrow imports pandas by itself once it makes an array, so pandas is not in the list."""
    code = (
        "import sys; from vidkit.cli.app import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'torchvision', 'timm', 'webdataset') if m in sys.modules])"
    )
    got = builds.python(code, *mine(), cwd=tmp_path)
    assert got.returncode == 0, got.stderr
    assert got.stdout.strip().splitlines()[-1] == "[]"
    child = (
        "import sys; from vidkit.data.build import clip_worker; clip_worker._transcoder('pyav')\n"
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'rich', 'typer') if m in sys.modules])"
    )
    assert builds.python(child, cwd=tmp_path).stdout.strip() == "[]", "each worker process pays for what it imports"


def test_the_module_runs_as_the_command(tmp_path: Path) -> None:
    got = builds.vidkit("build-dataset", "k4", cwd=tmp_path)
    assert (got.returncode, got.stdout) == (2, "")
    assert got.stderr.startswith("vidkit: ")
    assert builds.vidkit("--version", cwd=tmp_path).stdout.strip().count(".") == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are looked for in /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_while_the_demo_is_drawn_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        builds.command("build-dataset", "--workers", "2"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any((tmp_path / "vidkit-demo-clips.part").glob("*/*/*.mp4")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    children = builds.descendants(process.pid)
    assert len(children) >= 2
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    assert ("vidkit: stopped" in said) == (how == signal.SIGTERM)
    assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while any(map(builds.is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [child for child in children if builds.is_alive(child)]
    assert not (tmp_path / "vidkit-demo-clips").exists(), "half a demo is none"


def test_output_into_a_pipe_that_closes(tmp_path: Path, mine: Callable[..., list[str]]) -> None:
    process = subprocess.Popen(
        builds.command(*mine()), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in said
    check_whole(tmp_path / "out")

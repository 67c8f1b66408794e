"""`vidkit episodes`: what it says, what it writes, how it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli import typed
from tests.fewshot.episodes.made import alone, clip, of_class, write
from vidkit.cli.fewshot import episodes as command
from vidkit.errors import ConfigError, DatasetError
from vidkit.fewshot.episodes.benchmarks import benchmark
from vidkit.fewshot.episodes.class_split import split_classes, write_class_split
from vidkit.fewshot.episodes.draw import open_labelled
from vidkit.fewshot.episodes.lists import read_episodes

DEFAULTS: dict[str, Any] = {
    "out": None,
    "way": 3,
    "shot": 1,
    "query": 4,
    "episodes": 20,
    "seed": 0,
    "meta_split": "test",
    "split_seed": 0,
    "shares": "0.4,0.1,0.5",
    "class_split": None,
    "splits": None,
    "benchmark": None,
    "clip_lists": None,
    "allow_shared_groups": False,
    "as_json": False,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [c for i in range(10) for c in alone(f"c{i}", 8 if i % 5 else 3)]
    return write(tmp_path / "data", [*rows, clip(None), clip("c1", status="failed"), clip("c1", split="val")])


def run(data: Path, **given: Any) -> int:
    return command.run(data, **{**DEFAULTS, **given})


def test_json_and_file_agree(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "list.jsonl"
    assert run(data, out=out, as_json=True, seed=3) == 0
    facts = json.loads(capsys.readouterr().out)
    found = read_episodes(out, data)
    assert len(found.episodes) == facts["episodes"] == 20
    assert (facts["file"], facts["sha256"]) == (str(out), found.sha256)
    assert facts["class_split"]["sha256"] == found.split.sha256
    assert facts["class_split"]["classes"] == {"train": 4, "val": 1, "test": 5}
    assert facts["clips"] == {"ok": 72, "unlabelled": 1, "failed_or_missing": 1}
    assert facts["usable"] + len(facts["unusable"]) == facts["classes"] == 5
    assert {bad["name"] for bad in facts["unusable"]} == {"c0", "c5"} & set(found.split.test)
    used = {int(i) for e in found.episodes for i in e.rows}
    assert facts["needed_clips"] == len(used)
    assert facts["episodes_per_class"]["fewest"] >= 1
    before = out.read_bytes()
    assert run(data, out=out, seed=3) == 0
    assert out.read_bytes() == before


def test_the_text_says_what_was_left_out(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, shares="0,0,1", out=tmp_path / "a [b].jsonl") == 0
    text = capsys.readouterr().out
    assert "classes: meta-train 0, meta-val 0, meta-test 10 (split seed 0, sha256 " in text
    assert "clips: 72 of splits train, val (1 unlabelled, 1 failed or missing)" in text
    assert "2 of 10 classes of meta-test have too few clips, and are in no episode" in text
    assert "3 of the 5 clips needed" in text
    assert "episodes: 20, 3-way 1-shot with 4 queries (seed 0), of 8 classes of meta-test" in text
    assert "a [b].jsonl (sha256 " in text
    assert run(data, shares="0,0,1", splits="train") == 0
    text = capsys.readouterr().out
    assert "clips: 71 of splits train (" in text
    assert "nothing was written: give --out FILE" in text


def test_shared_videos_and_redraws_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = of_class("a", [("v", 4), ("w", 1)]) + of_class("b", [("v", 1), ("w", 4)]) + alone("c", 9)
    data = write(tmp_path / "data", [*rows, *of_class("d", [("v", 1)])])
    assert run(data, way=2, shares="0,0,1", episodes=50) == 0
    assert "classes drawn anew because they show the same few videos: " in capsys.readouterr().out
    split = next(
        s for s in (split_classes(open_labelled(data), seed=i) for i in range(99)) if len({*"abd"} & {*s.test}) == 1
    )
    write_class_split(tmp_path / "split.json", split)
    assert run(data, way=2, class_split=tmp_path / "split.json", shares=None, meta_split="train", query=1) == 0
    assert "videos with clips in classes of both meta-train and meta-test: " in capsys.readouterr().out


def test_a_class_split_comes_from_a_file_or_a_list(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, out=tmp_path / "one.jsonl", split_seed=7) == 0
    assert run(data, out=tmp_path / "two.jsonl", shares=None, class_split=tmp_path / "one.jsonl") == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="--class-split and --shares exclude each other"):
        run(data, class_split=tmp_path / "one.jsonl")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"way": 40}, r"40-way episodes need 40 classes .*of 5 .*\n  -> lower way to \d"),
        (
            {"shot": 40},
            r"3-way episodes need 3 classes with 44 clips \(40 support, 4 query\) each.*lower shot to \d",
        ),
        ({"episodes": 0}, "episodes is 0; expected at least 1"),
        ({"meta_split": "tset"}, "meta-split is 'tset'; expected one of train, val, test"),
        ({"meta_split": "val", "shares": "0.5,0,0.5"}, "in meta-val of 'few' 0 of 0 qualify"),
        ({"shares": "a,b"}, r"--shares 'a,b' is not three numbers\n  -> for example --shares"),
        ({"shares": "0/0/0"}, r"--shares '0/0/0' is not three numbers"),
        ({"shares": "1,1,1"}, r"shares is \(1.0, 1.0, 1.0\); expected three numbers"),
        ({"splits": "train,dev"}, "splits are train, dev; expected some of train, val, test"),
        ({"way": 1, "seed": -1}, "way is 1; .* seed is -1"),
    ],
)
def test_bad_flags(data: Path, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        run(data, out=tmp_path / "list.jsonl", **given)
    assert re.search(message, str(error.value), re.DOTALL), str(error.value)
    assert error.value.exit_code == 2
    assert not (tmp_path / "list.jsonl").exists()


def test_an_empty_split_and_no_dataset(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no usable clip in split 'test' of 'few'; usable: train 71, val 1, test 0"
    ):
        run(data, splits="test")
    with pytest.raises(DatasetError, match="no dataset in"):
        run(tmp_path)


def test_the_command_line_passes_everything_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: object) -> typed.Said:
        return typed.said(monkeypatch, capsys, "episodes", data, *words)

    few = ("--way", "2", "--shot", "2", "--query", "3", "--episodes", "7", "--shares", "0.5,0,0.5")
    code, out, _ = said(
        *few, "--seed", "4", "--split-seed", "2", "--meta-split", "train", "--splits", "train", "--json"
    )
    facts = json.loads(out)
    assert code == 0
    names = ("way", "shot", "query", "episodes", "seed", "meta_split", "splits", "file")
    assert [facts[name] for name in names] == [2, 2, 3, 7, 4, "train", ["train"], None]
    assert facts["class_split"]["seed"] == 2
    assert said(*few, "--out", str(tmp_path / "list.jsonl"))[0] == 0
    assert len(read_episodes(tmp_path / "list.jsonl", data).episodes) == 7
    code, _, err = said("--way", "99")
    assert code == 2
    assert err.startswith(
        "vidkit: field 'way': 99-way episodes need 99 classes with 16 clips (1 support, 15 query)"
    )


def test_a_benchmark_brings_its_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = benchmark("hmdb51-arn")
    names = [name for part in ("train", "val", "test") for name in known.classes[part]]
    # two clips a class, both of one film: the field's rule lets them meet
    data = write(tmp_path / "data", [row for name in names for row in of_class(name, [(name, 2)])])
    given: dict[str, Any] = {"way": None, "query": None, "episodes": None, "shares": None, "benchmark": known.name}
    given |= {"allow_shared_groups": None}
    assert run(data, **given, as_json=True) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [facts[name] for name in ("way", "shot", "query", "episodes")] == [5, 1, 1, 10_000]
    assert (facts["benchmark"], facts["allow_shared_groups"], facts["usable"]) == (known.name, True, 10)
    assert "meta-test has 20 clips; 1,292 were listed" in facts["departures"]
    assert run(data, **given | {"episodes": 20}) == 0
    text = capsys.readouterr().out
    assert "not hmdb51-arn as published, so figures cannot stand beside the field's:\n- meta-train has 62" in text
    assert "- episodes is 20; the benchmark has 10,000" in text
    assert "classes: meta-train 31, meta-val 10, meta-test 10 (hmdb51-arn, sha256 " in text
    assert "one video may be in support and query, as in the field" in text
    with pytest.raises(ConfigError, match="in meta-test of 'few' 0 of 10 qualify"):
        run(data, **given | {"allow_shared_groups": False})
    with pytest.raises(ConfigError, match=r"--benchmark brings its own classes; --shares, --split-seed cannot"):
        run(data, **given | {"shares": "1,0,0", "split_seed": 3})


def test_only_listed_clips_are_drawn(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = open_labelled(data)
    some = [rows.clip_id[i].as_py() for i in range(len(rows)) if i % 2]
    (tmp_path / "clips.txt").write_text("\n".join([*some, "nowhere/x.mp4"]))
    assert run(data, query=1, clip_lists=[tmp_path / "clips.txt"], out=tmp_path / "list.jsonl") == 0
    assert "1 of the 37 clips listed are not in 'few': 'x'" in capsys.readouterr().out
    used = {int(i) for e in read_episodes(tmp_path / "list.jsonl", data).episodes for i in e.rows}
    assert used
    assert all(i % 2 for i in used)

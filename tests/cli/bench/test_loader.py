"""`vidkit bench loader`: which ways are measured, what is told, and what is refused. No times are judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.tinyset import Clip, build, many
from vidkit.bench.measure import loader as bench
from vidkit.bench.measure.loader import LoaderBench, Way, ways
from vidkit.cli.bench import loader as command
from vidkit.data import ClipDataset
from vidkit.data.load.cache import clip_bytes
from vidkit.errors import ConfigError, DatasetError

DEFAULTS: dict[str, Any] = {
    "split": "train",
    "frames": 4,
    "stride": 2,
    "size": 32,
    "batch_size": 4,
    "decoders": None,
    "workers": [0],
    "caches": None,
    "batches": 3,
    "step_ms": 1.0,
    "device": "cpu",
    "as_json": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [*many(9), Clip(status="missing"), *many(2, split="val")]
    return build(tmp_path_factory.mktemp("bench") / "data", clips, name="small")


def told(data: Path, capsys: pytest.CaptureFixture[str], **given: Any) -> dict[str, Any]:
    assert command.run(data, **{**DEFAULTS, **given, "as_json": True}) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_every_way_has_a_row(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(data, capsys, workers=[0, 1], caches=["none", "host", "device"])
    assert (found["dataset"], found["split"], found["clips"]) == ("small", "train", 9)
    assert found["settings"] == {"frames": 4, "stride": 2, "size": 32, "batch_size": 4}
    assert found["device"] == {"name": "cpu"}
    assert {"cpu", "cores", "load_average"} <= found["machine"].keys()
    assert found["versions"]["torch"]
    rows = found["rows"]
    assert [(row["decoder"], row["workers"], row["cache"]) for row in rows] == [
        ("pyav", 0, "none"),
        ("pyav", 1, "none"),
        ("pyav", 0, "host"),
        ("pyav", 1, "host"),
        ("pyav", 1, "device"),
    ]
    memory = int(clip_bytes(ClipDataset(data, "train")).sum())
    assert [row["cache_bytes"] for row in rows] == [0, 0, memory, memory, memory]
    for row in rows:
        assert row["clips_per_s"] > 0
        assert row["clips_per_s"] * row["batch_ms"] == pytest.approx(4000, rel=0.01)
        assert 0 <= row["wait_share"] <= 1
        assert row["start_s"] > 0
        assert (row["step_ms"], row["batches"], row["bad"]) == (1.0, 3, 0)


def test_the_table_says_the_same(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(data, **{**DEFAULTS, "caches": ["host"], "step_ms": 2.5}) == 0
    said = capsys.readouterr()
    for words in ("small, split train, 9 clips: 4 frames of 32 px", "a step of 2.5 ms waits", "cache, GB", "host"):
        assert words in said.out
    assert "pyav, 0 workers, cache host: 9 of 9 clips decoded" in said.err
    assert command.run(data, **{**DEFAULTS, "step_ms": 0.0}) == 0
    said = capsys.readouterr()
    assert "waits" not in said.out.split("A step that")[0]
    assert "cache, GB" not in said.out


def test_a_step_hides_reading_only_where_workers_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only reading and sleeping move, so that shares are exact."""
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(bench.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    real = ClipDataset.read

    def slow(self: ClipDataset, *args: Any) -> Any:
        now[0] += 0.01
        return real(self, *args)

    monkeypatch.setattr(ClipDataset, "read", slow)
    settings = LoaderBench(
        data=data, frames=2, stride=1, size=32, batch_size=4, workers=(0,), batches=5, step_ms=120
    )
    (row,) = bench.run(settings)["rows"]
    assert row["clips_per_s"] == pytest.approx(100)
    assert row["batch_ms"] == pytest.approx(40)
    assert row["wait_share"] == pytest.approx(0.25), "40 ms of reading, 120 ms of work"


def test_small_splits_and_decoders(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two clips fill a batch of four: the rest of it is clips again."""
    pytest.importorskip("decord")
    found = told(data, capsys, split="val", decoders=["pyav", "decord"], step_ms=0.0)
    assert [row["decoder"] for row in found["rows"]] == ["pyav", "decord"]
    assert [row["wait_share"] for row in found["rows"]] == [None, None]


def test_ways() -> None:
    settings = LoaderBench(
        data=Path("x"), decoders=("pyav", "decord", "pyav"), workers=(2, 0, 2), caches=("device", "none", "host")
    )
    names = [str(way) for way in ways(settings)]
    assert names == [
        "pyav, 2 workers, cache device",
        "pyav, 2 workers, cache none",
        "pyav, 0 workers, cache none",
        "decord, 2 workers, cache none",
        "decord, 0 workers, cache none",
        "pyav, 2 workers, cache host",
        "pyav, 0 workers, cache host",
    ]
    assert Way(decoder="pyav", workers=2, cache="none") in ways(settings)


def test_clips_that_cannot_be_decoded_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = build(tmp_path / "data", many(200, frames=8))
    row = ClipDataset(root, "train").clips.dataset.ledger().to_pylist()[3]
    with (root / row["shard"]).open("r+b") as shard:
        shard.seek(row["offset"] + 100)
        shard.write(b"\xa5" * (row["nbytes"] - 200))
    found = told(root, capsys, batches=49, step_ms=0.0)
    assert found["rows"][0]["bad"] == 1
    assert command.run(root, **{**DEFAULTS, "batches": 49, "step_ms": 0.0}) == 0
    assert "pyav: 1 clips could not be decoded; see `vidkit verify`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"decoders": ["opencv"], "batches": 0}, "decoder is 'opencv'; expected one of pyav, decord"),
        ({"decoders": ["opencv"], "batches": 0}, "batches is 0; expected at least 1"),
        ({"step_ms": -1.0}, "step_ms is -1.0; expected at least 0"),
        ({"caches": ["disk"]}, "cache is 'disk'; expected one of none, host, device"),
        ({"workers": [-1]}, "expected at least 0"),
    ],
)
def test_settings_that_cannot_be(data: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command.run(data, **{**DEFAULTS, **given})
    assert words in str(caught.value)


def test_a_split_without_clips(data: Path) -> None:
    with pytest.raises(DatasetError, match="test"):
        command.run(data, **{**DEFAULTS, "split": "test"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(data: Path) -> None:
    with pytest.raises(ConfigError, match="torch sees no CUDA device"):
        command.run(data, **{**DEFAULTS, "device": "cuda"})


def test_decord_that_is_not_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"decord is not installed\n.*vidkit\[decord\]"):
        command.run(data, **{**DEFAULTS, "decoders": ["decord"]})

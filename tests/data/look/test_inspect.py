"""What `inspect` counts is what a slow count of the ledger gives; what it prints and draws can be read."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont
from rich.console import Console

from tests.badmedia import read_index
from tests.data import tiny_dataset
from vidkit.data.look import sheet
from vidkit.data.look.inspect import Bin, histogram, render, summarise
from vidkit.data.look.sheet import choose, contact_sheet
from vidkit.errors import ConfigError, DatasetError, VidkitError


def printed(root: Path, width: int = 160, **how: Any) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    render(summarise(root), console, **how)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def change_facts(root: Path, **changes: Any) -> None:
    facts = json.loads((root / "dataset.json").read_text())
    facts.update(changes)
    (root / "dataset.json").write_text(json.dumps(facts))


# --- counts ----------------------------------------------------------------------------------------


def test_counts_are_those_of_the_ledger(whole: Path) -> None:
    rows = pq.read_table(whole / "clips.parquet").to_pylist()
    summary = summarise(whole)
    stored = [row for row in rows if row["status"] == "ok"]
    for column, tallies in (("split", summary.splits), ("source", summary.sources)):
        assert list(tallies) == list(dict.fromkeys(row[column] for row in rows))
        for name, tally in tallies.items():
            mine = [row for row in rows if row[column] == name]
            statuses = Counter(row["status"] for row in mine)
            assert tally["planned"] == len(mine)
            assert all(tally[status] == statuses[status] for status in ("ok", "failed", "missing"))
    assert summary.counts == {"planned": 11, "ok": 8, "failed": 1, "missing": 2, "with_warnings": 1}
    by_class = Counter(row["class_name"] for row in stored)
    assert summary.classes == {name: by_class[name] for name in tiny_dataset.CLASSES}
    assert summary.unlabelled == by_class[None] == 1
    assert summary.frames_total == sum(row["frames"] for row in stored)
    assert summary.seconds_total == pytest.approx(sum(row["duration_s"] for row in stored))
    for bins in (summary.frames, summary.seconds, summary.clip_bytes):
        assert sum(b.clips for b in bins) == len(stored)
    assert summary.sizes == {"64x64": 8}
    assert [(f.code, f.clips, f.example.clip_id) for f in summary.failures] == [
        ("missing", 2, "kinetics/gone_______000003"),
        ("truncated", 1, "tinyvirat/8"),
    ]
    assert summary.warning is not None
    assert summary.warning.clip_id == "tinyvirat/10"
    assert summary.sources["tinyvirat"]["version"] == "v1"


def test_json_round_trip(whole: Path) -> None:
    text = json.dumps(summarise(whole).to_dict(), ensure_ascii=False)
    assert json.loads(text)["classes"]["視頻"] == 1
    assert json.loads(text)["failures"][0]["example"]["message"] == "the file was not found"


def test_multi_hot_counts_every_label_of_a_clip(root: Path) -> None:
    facts = json.loads((root / "dataset.json").read_text())
    change_facts(root, label_map={**facts["label_map"], "rule": "multi-hot"})
    summary = summarise(root)
    assert summary.classes == {
        "air drumming": 1,
        "crawling baby": 2,
        "Pulling": 1,
        "Riding": 2,
        "walking": 2,
        "視頻": 1,
    }
    assert summary.unlabelled == 1


def test_an_empty_ledger(root: Path) -> None:
    table = pq.read_table(root / "clips.parquet")
    pq.write_table(table.slice(0, 0), root / "clips.parquet")
    summary = summarise(root)
    assert (summary.counts["planned"], summary.frames, summary.failures, summary.warning) == (0, [], [], None)
    assert "0 clips, 0 frames" in printed(root)


def test_an_unfinished_build_and_no_dataset_are_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no dataset in"):
        summarise(tmp_path)
    change_facts(root, status="building")
    with pytest.raises(DatasetError, match=r"has not finished\n  -> run the same"):
        summarise(root)


# --- histograms ------------------------------------------------------------------------------------


def test_few_values_have_a_bin_each() -> None:
    assert histogram(np.array([100, 100, 7])) == [Bin(low=7, high=7, clips=1), Bin(low=100, high=100, clips=2)]
    assert histogram(np.array([], np.int32)) == []


def test_bins_are_round() -> None:
    assert [(b.low, b.high) for b in histogram(np.arange(13, 96))] == [
        (10.0 * k, 10.0 * k + 10) for k in range(1, 10)
    ]


def test_a_wide_range_has_bins_of_growing_width() -> None:
    found = histogram(np.geomspace(120, 900_000, 500))
    assert [b.low for b in found][:4] == [100, 200, 500, 1000]
    assert found[-1].high == 1_000_000
    one_odd = histogram(np.append(np.arange(1000, 2000), 3))
    assert len({b.high - b.low for b in one_odd}) == 1


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(0.001, 1e9) | st.integers(0, 300), min_size=1, max_size=80))
def test_every_value_lies_in_one_bin(values: list[float]) -> None:
    found = histogram(np.array(values, np.float64))
    assert sum(b.clips for b in found) == len(values)
    for b in found:
        inside = [v for v in values if b.low <= v < b.high or v == b.low == b.high]
        assert len(inside) == b.clips
    assert len(found) <= 60


# --- on a terminal ---------------------------------------------------------------------------------


def test_what_is_printed(whole: Path) -> None:
    text = printed(whole)
    for words in (
        "synthetic: these clips are generated",
        "not to be flipped",
        "8 clips, 85 frames, 16 s, in 4 shards of 143 kB together",
        "tinyvirat v1",
        "2  annotated but missing  e.g. gone_______000003",
        "clips            12         9        8      -4   inferred: 6 | 6",
        "5 under the rule label-set",
        "clips without a label: 1",
        "truncated       1   the file ends before",
        "tinyvirat/8: 27 of 48 frames are in the file",
        "split leaks 1",
        "視頻",
    ):
        assert words in text
    assert max(map(len, printed(whole, width=60).splitlines())) <= 60


def test_top_and_bottom_classes_and_those_without_clips(root: Path) -> None:
    facts = json.loads((root / "dataset.json").read_text())
    names = [*facts["label_map"]["classes"], "[something] up", "b", "c"]
    change_facts(root, label_map={**facts["label_map"], "classes": names})
    text = printed(root, top=2)
    most, fewest = text.index("most clips"), text.index("fewest clips")
    assert most < text.index("crawling baby", most) < fewest < text.index("Pulling", fewest)
    assert "without a clip (3): [something] up, b and 1 more" in text


# --- contact sheet ---------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def table_of(classes: list[str | None]) -> pa.Table:
    return pa.table(
        {
            "class_name": pa.array(classes, pa.string()),
            "labels": pa.array([["x", "y"] if c is None else [c] for c in classes], pa.list_(pa.string())),
        }
    )


def test_clips_are_spread_over_classes() -> None:
    classes: list[str | None] = ["a"] * 90 + ["b"] * 5 + ["c"] + [None] * 4
    table = table_of(classes)
    for seed in range(5):
        for clips, most in ((3, 1), (4, 1), (7, 2), (10, 3), (200, 90)):
            picked = choose(table, clips, seed)
            counts = Counter(classes[i] for i in picked)
            assert len(set(picked.tolist())) == len(picked) == min(clips, 100)
            assert max(counts.values()) <= most
            assert len(counts) == min(4, clips)
    assert choose(table, 3, 1).tolist() == choose(table, 3, 1).tolist()
    assert len({tuple(choose(table, 3, seed).tolist()) for seed in range(9)}) > 3
    names = [classes[i] or "x+y" for i in choose(table, 10, 0)]
    assert names == sorted(names)


def test_the_sheet_shows_frames_evenly_in_time(whole: Path, tmp_path: Path) -> None:
    out = contact_sheet(whole, tmp_path / "new" / "sheet.png", clips=3, frames=4, split="val", seed=1)
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    image = pixels(out)
    (row,) = (r for r in pq.read_table(whole / "clips.parquet").to_pylist() if r["key"] == "00000007")
    assert row["frames"] == 12
    left, top = sheet._MARGIN, image.shape[0] - sheet._MARGIN - sheet._TILE
    shown = []
    for t in range(4):
        x = left + t * (sheet._TILE + sheet._GAP)
        shown.append(read_index(image[top : top + sheet._TILE, x : x + sheet._TILE]))
    from vidkit.data.media.frames import decode_frames
    from vidkit.data.shards import read_sample

    clip = read_sample(whole / row["shard"], row["offset"], row["nbytes"])
    expected = [read_index(frame) for frame in decode_frames(clip, [1, 4, 7, 10])]
    assert shown == expected


def test_the_same_seed_gives_the_same_picture(whole: Path, tmp_path: Path) -> None:
    first = contact_sheet(whole, tmp_path / "a.png", clips=4, seed=3).read_bytes()
    assert contact_sheet(whole, tmp_path / "b.png", clips=4, seed=3).read_bytes() == first
    assert contact_sheet(whole, tmp_path / "c.png", clips=4, seed=4).read_bytes() != first


def test_the_sheet_grows_in_columns(whole: Path, tmp_path: Path) -> None:
    assert sheet._columns(24, 600, 160) == 3
    assert sheet._columns(1, 600, 160) == 1
    with Image.open(contact_sheet(whole, tmp_path / "a.png")) as image:
        assert 1 < image.width / image.height < 2.2


def test_pictures_of_other_shapes_keep_their_shape() -> None:
    wide, high = Image.new("RGB", (340, 256), "red"), Image.new("RGB", (20, 200), "red")
    tile = sheet._tile([wide, high])
    assert tile == (128, 96)
    for picture, size in ((wide, (128, 96)), (high, (10, 96))):
        paper = Image.new("RGB", tile, "white")
        sheet._paste(paper, picture, (0, 0), tile)
        assert int((np.asarray(paper)[..., 1] == 0).sum()) == pytest.approx(size[0] * size[1], rel=0.02)


def test_damaged_clips_and_missing_shards_are_shown_as_such(root: Path, tmp_path: Path) -> None:
    clean = pixels(contact_sheet(root, tmp_path / "clean.png"))
    (root / "val/000000.tar").unlink()
    data = bytearray((root / "test/000000.tar").read_bytes())
    data[512:2000] = bytes(1488)
    (root / "test/000000.tar").write_bytes(data)
    image = pixels(contact_sheet(root, tmp_path / "x.png"))
    assert image.shape == clean.shape
    broken = (image == (0xF3, 0xD6, 0xD6)).all(axis=2).sum()
    strip = sheet._TILE * (6 * sheet._TILE + 5 * sheet._GAP)
    assert 1.8 * strip < broken < 2 * strip  # two strips, less their text
    assert not (clean == (0xF3, 0xD6, 0xD6)).all(axis=2).any()


def test_a_pillow_without_freetype_writes_what_it_can(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = getattr(ImageFont, "load_default_imagefont", lambda: None)()
    if plain is None:
        pytest.skip("this Pillow does not give its bitmap font by name")
    monkeypatch.setattr(ImageFont, "load_default", lambda size=None: plain)
    assert contact_sheet(whole, tmp_path / "a.png").stat().st_size > 1000


def test_what_cannot_be_drawn_is_one_clear_error(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.jpg has another suffix\n  -> end the name in \.png"):
        contact_sheet(whole, tmp_path / "x.jpg")
    with pytest.raises(ConfigError, match="split is 'dev'; expected one of train, val, test"):
        contact_sheet(whole, tmp_path / "x.png", split="dev")
    with pytest.raises(ConfigError, match="clips is 100000; expected 1 to 500"):
        contact_sheet(whole, tmp_path / "x.png", clips=100_000)
    (tmp_path / "file").write_text("")
    with pytest.raises(VidkitError, match=r"cannot write .*\n  -> give --sheet a place"):
        contact_sheet(whole, tmp_path / "file" / "x.png")


def test_a_split_without_a_stored_clip(root: Path, tmp_path: Path) -> None:
    table = pq.read_table(root / "clips.parquet")
    pq.write_table(table.slice(0, 7), root / "clips.parquet")
    with pytest.raises(DatasetError, match=r"no stored clip in split 'val'"):
        contact_sheet(root, tmp_path / "x.png", split="val")

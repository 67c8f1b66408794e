"""Records as they are on the disk, what belongs to a clip, and bytes that are never taken from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data import builds
from tests.view import made
from vidkit.data.media.frames import decode_frames
from vidkit.errors import DatasetError
from vidkit.view.clips import clip, stored, summary, thumbs
from vidkit.view.clips.opened import Watched, read


@pytest.fixture
def copy(seen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(seen, tmp_path / "copy"))


def first_ok(root: Path) -> dict[str, Any]:
    return next(row for row in made.rows_of(root) if row["status"] == "ok")


def test_a_dataset_that_changes_is_read_again(copy: Path) -> None:
    watched = Watched(copy)
    before = watched.now()
    assert watched.now() is before
    rows = made.rows_of(copy)
    made.rewritten(copy, rows[:-1])
    after = watched.now()
    assert after.ledger.num_rows == len(rows) - 1
    assert after.version != before.version


def test_a_changed_ledger_is_an_error(copy: Path) -> None:
    rows = made.rows_of(copy)
    facts = builds.facts(copy)
    made.rewritten(copy, rows[1:])
    (copy / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(DatasetError, match="the ledger was changed") as caught:
        read(copy)
    assert caught.value.file == str(copy / "clips.parquet")


@pytest.mark.parametrize(
    ("path", "value"),
    [("label_map", {}), ("leaks", {"one": 1}), ("counts", 5), ("counts", {"ok": 1}), ("name", None)],
)
def test_damaged_facts_are_an_error(copy: Path, path: str, value: Any) -> None:
    """At once, and of this dataset alone, instead of in the middle of a page of all."""
    (copy / "dataset.json").write_text(json.dumps({**builds.facts(copy), path: value}), encoding="utf-8")
    with pytest.raises(DatasetError, match="not as it was built") as caught:
        read(copy)
    assert str(caught.value.field).startswith(path)


def test_shards_without_names_are_an_error(copy: Path) -> None:
    (copy / "shards.json").write_text(json.dumps([{"bytes": 5}]), encoding="utf-8")
    with pytest.raises(DatasetError, match="a shard has no name"):
        read(copy)


def test_the_part_that_a_study_makes(seen: Path, tmp_path: Path) -> None:
    """Its ledger is its own, and its shards are links to those of the whole: they are where the whole is opened."""
    from vidkit.bench.studies.parts import Part, write_part

    opened = read(write_part(seen, Part(name="one", classes=("tree",)), tmp_path / "part"))
    assert {row["class_name"] for row in opened.ledger.to_pylist()} == {"tree"}
    good = [row for row in opened.ledger.to_pylist() if row["status"] == "ok"]
    assert summary.stored(opened) == {
        "clips": len(good),
        "frames": sum(row["frames"] for row in good),
        "bytes": sum(row["nbytes"] for row in good),
        "shards": len({row["shard"] for row in good}),
    }
    place = stored.place_of(opened.row(0))
    assert place is not None
    with pytest.raises(DatasetError, match="lies outside") as caught:
        stored.read(opened, place)
    assert caught.value.hint == "open the dataset that it belongs to"


def test_a_build_that_goes_on_is_an_error(copy: Path) -> None:
    watched = Watched(copy)
    watched.now()
    facts = builds.facts(copy)
    (copy / "dataset.json").write_text(json.dumps({**facts, "status": "building"}), encoding="utf-8")
    with pytest.raises(DatasetError, match="has not finished"):
        watched.now()
    (copy / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    watched.now()


def test_bytes_are_the_clip(seen: Path) -> None:
    opened = read(seen)
    for row in made.rows_of(seen):
        place = stored.place_of(row)
        assert (place is None) == (row["status"] != "ok")
        if place is not None:
            assert len(decode_frames(stored.read(opened, place), [0, row["frames"] - 1])) == 2
            assert stored.sample_json(opened, place)["clip_id"] == row["clip_id"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shard": "../secret.tar"}, "shards.json does not have"),
        ({"shard": "/etc/passwd"}, "shards.json does not have"),
        ({"offset": 1 << 40}, "the ledger has a clip at"),
        ({"offset": -1}, "the ledger has a clip at"),
        ({"nbytes": 1 << 40}, "the ledger has a clip at"),
    ],
)
def test_a_ledger_is_not_believed(copy: Path, change: dict[str, Any], words: str) -> None:
    """Nothing beyond the dataset's own shards is read, whatever its rows say."""
    row = {**first_ok(copy), **change}
    place = stored.place_of(row)
    assert place is not None
    with pytest.raises(DatasetError, match=words):
        stored.read(read(copy), place)


@pytest.mark.parametrize("name", ["../secret.tar", "link.tar"])
def test_shards_that_lead_out_of_the_folder(copy: Path, name: str) -> None:
    """Not even where shards.json has them, too."""
    (copy.parent / "secret.tar").write_bytes(b"secret" * 1000)
    (copy / "link.tar").symlink_to(copy.parent / "secret.tar")
    shards = json.loads((copy / "shards.json").read_text())
    (copy / "shards.json").write_text(json.dumps([*shards, {**shards[0], "shard": name}]))
    with pytest.raises(DatasetError, match="lies outside"):
        stored.read(read(copy), stored.Place(name, 0, 10))


def test_a_missing_shard_and_a_short_one(copy: Path) -> None:
    opened, place = read(copy), stored.place_of(first_ok(copy))
    assert place is not None
    shard = copy / place.shard
    data = shard.read_bytes()
    shard.write_bytes(data[: place.offset + 10])
    with pytest.raises(DatasetError, match="the shard has"):
        stored.read(opened, place)
    shard.unlink()
    with pytest.raises(DatasetError, match="the shard is not there"):
        stored.read(opened, place)


def test_thumbs_are_made_once(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDKIT_CACHE", str(tmp_path / "cache"))
    opened, row = read(copy), first_ok(copy)
    before = builds.snapshot(copy)
    picture = thumbs.thumb(opened, row)
    assert picture is not None
    assert picture[:4] == b"RIFF"
    assert picture[8:12] == b"WEBP"
    (kept,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert opened.shards[row["shard"]]["sha256"] in kept.parts, "a shard that changes has other pictures"
    (copy / row["shard"]).unlink()
    assert thumbs.thumb(opened, row) == picture, "from the cache"
    assert {**builds.snapshot(copy)} == {name: of for name, of in before.items() if name != row["shard"]}


def test_no_room_for_a_cache(seen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VIDKIT_CACHE", str(tmp_path / "file"))
    assert thumbs.thumb(read(seen), first_ok(seen)) is not None


def test_a_clip_and_its_neighbours(seen: Path, tmp_path: Path) -> None:
    opened = read(made.many(tmp_path / "many", seen, 200))
    number = next(i for i in range(30, 60) if opened.row(i)["status"] == "ok")
    row, found = opened.row(number), clip.clip(opened, number)
    assert [name for name, _, _ in found.fields] == opened.ledger.schema.names, "every field of the ledger"
    assert found.json is not None
    assert [other["start_s"] for other in found.neighbours] == sorted(o["start_s"] for o in found.neighbours)
    expected = {r["clip_id"] for r in opened.ledger.to_pylist() if r["group"] == row["group"]} - {row["clip_id"]}
    assert {other["clip_id"] for other in found.neighbours} == expected
    assert len(expected) == 6


def test_failures_and_leaks(seen: Path) -> None:
    opened = read(seen)
    failures = summary.failures(opened)
    assert {failure.code: failure.clips for failure in failures} == {"truncated": 1, "empty": 1, "not-a-video": 1}
    assert all(failure.meaning and failure.words[0].message for failure in failures)
    (leak,) = summary.leaks(opened, 0)
    assert leak.kind == "file"
    assert [(split, len(rows)) for split, rows in leak.sides] == [("train", 1), ("val", 1)]


def test_histograms_count_every_stored_clip(seen: Path) -> None:
    opened = read(seen)
    mask = opened.index.facets["status"].among(["ok"])
    found = summary.histograms(opened, mask)
    for title in ("seconds", "frames", "size of a clip", "class"):
        assert sum(bar.clips for bar in found[title]) == mask.sum(), title

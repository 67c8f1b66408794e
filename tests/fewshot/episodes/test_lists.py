"""Lists of episodes: same seed, same bytes; read back as drawn; held to the dataset in every field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fewshot.episodes.made import alone, clip, of_class, write
from vidkit.errors import AnnotationError, ConfigError, DatasetError
from vidkit.fewshot.episodes.class_split import read_class_split, split_classes
from vidkit.fewshot.episodes.draw import EpisodePool, EpisodeSettings, draw_episodes, episode_pool, open_labelled
from vidkit.fewshot.episodes.lists import EpisodeList, read_episodes, write_episodes

SETTINGS = EpisodeSettings(way=3, shot=2, query=3, seed=5)


def rows() -> list[dict[str, Any]]:
    """Ten classes, each of six videos with two clips, in two splits."""
    videos = {f"c{i}": [(f"v{i}-{k}", 2) for k in range(6)] for i in range(10)}
    return [
        c for name, its in videos.items() for c in of_class(name, its[:3]) + of_class(name, its[3:], split="test")
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data", rows())


def pool_of(data: Path, settings: EpisodeSettings = SETTINGS, **more: Any) -> EpisodePool[EpisodeSettings]:
    clips = open_labelled(data, **more)
    return episode_pool(clips, settings, split_classes(clips, shares=(0.5, 0, 0.5)), "test")


@pytest.fixture
def listed(data: Path, tmp_path: Path) -> Path:
    pool = pool_of(data)
    write_episodes(tmp_path / "list.jsonl", pool, draw_episodes(pool, 8))
    return tmp_path / "list.jsonl"


def same(a: EpisodeList, pool: EpisodePool[EpisodeSettings]) -> None:
    """By names, so that rows of another opening count too."""
    drawn = draw_episodes(pool, len(a.episodes))
    for one, other in zip(a.episodes, drawn, strict=True):
        assert one.number == other.number
        assert one.class_ids.tolist() == other.class_ids.tolist()
        for name in ("support", "query"):
            ids = [str(a.clips.clip_id[i]) for i in getattr(one, name)]
            assert ids == [str(pool.clips.clip_id[i]) for i in getattr(other, name)]
            np.testing.assert_array_equal(getattr(one, f"{name}_slots"), getattr(other, f"{name}_slots"))


def test_a_list_is_read_back_as_it_was_drawn(data: Path, listed: Path) -> None:
    found = read_episodes(listed, data)
    pool = pool_of(data)
    same(found, pool)
    assert (found.settings, found.split, found.meta_split) == (SETTINGS, pool.split, "test")
    assert repr(found).startswith("EpisodeList(8 episodes, 3-way 2-shot, 3 queries, meta-test of 'few', sha256 ")
    same(read_episodes(listed, pool.clips), pool)
    assert read_class_split(listed, pool.clips) == pool.split


def test_the_same_seed_gives_the_same_bytes(data: Path, listed: Path, tmp_path: Path) -> None:
    first = listed.read_bytes()
    pool = pool_of(data)
    sha256 = write_episodes(tmp_path / "deep" / "er" / "again.jsonl", pool, draw_episodes(pool, 8))
    assert (tmp_path / "deep" / "er" / "again.jsonl").read_bytes() == first
    assert sha256 == read_episodes(listed, data).sha256
    write_episodes(listed, pool, draw_episodes(pool, 9))  # a list may be replaced
    assert listed.read_bytes() != first
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_lines_are_plain_and_name_clips_by_key_and_id(data: Path, listed: Path) -> None:
    head, *lines = map(json.loads, listed.read_text().splitlines())
    assert head["format"] == 1
    assert head["settings"] == {"way": 3, "shot": 2, "query": 3, "seed": 5, "allow_shared_groups": False}
    assert (head["dataset"], head["meta_split"], head["episodes"]) == ("few", "test", 8)
    clips = open_labelled(data)
    key_of = dict(zip(clips.clip_id.to_pylist(), clips.key.to_pylist(), strict=True))
    class_of = dict(zip(clips.clip_id.to_pylist(), clips.class_id.tolist(), strict=True))
    for number, line in enumerate(lines):
        assert line["episode"] == number
        assert set(line["classes"]) <= set(head["class_split"]["classes"]["test"])
        for part in ("support", "query"):
            assert [key_of[clip_id] for clip_id in line[f"{part}_clips"]] == line[f"{part}_keys"]
            names = [clips.classes[class_of[clip_id]] for clip_id in line[f"{part}_clips"]]
            assert names == [line["classes"][slot] for slot in line[f"{part}_slots"]]


def test_a_build_from_another_plan_is_served_by_clip_ids(data: Path, listed: Path, tmp_path: Path) -> None:
    """Another seed: the same clips under other keys."""
    other = write(tmp_path / "other", rows(), first_key=100, plan="q" * 64)
    same(read_episodes(listed, other), pool_of(data))
    changed = write(tmp_path / "changed", rows(), first_key=100)
    with pytest.raises(
        AnnotationError, match=r"row 2, field 'support_keys': clip .* has key 0+1.. in this dataset"
    ):
        read_episodes(listed, changed)


def test_a_list_of_one_split_opens_that_split(data: Path, tmp_path: Path) -> None:
    pool = pool_of(data, splits=("test",))
    write_episodes(tmp_path / "list.jsonl", pool, draw_episodes(pool, 3))
    found = read_episodes(tmp_path / "list.jsonl", data)
    assert found.clips.splits == ("test",)
    same(read_episodes(tmp_path / "list.jsonl", open_labelled(data)), pool)
    message = r"row 2, field 'support_clips': clip .* is in split 'test', which was not opened \(train were\)"
    with pytest.raises(DatasetError, match=message):
        read_episodes(tmp_path / "list.jsonl", open_labelled(data, ("train",)))


def test_other_classes_and_lost_clips_are_refused(data: Path, listed: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", alone("x", 4) + alone("y", 4))
    with pytest.raises(
        DatasetError, match=r"list.jsonl, row 1, field 'label_map_sha256': .*these are other classes"
    ):
        read_episodes(listed, other)
    lost = [{**row, "status": "missing"} if i == int(used(listed)) else row for i, row in enumerate(rows())]
    with pytest.raises(
        DatasetError, match=r"row \d, field .*_clips': clip 'made/\d+' has no sample .*missing \(missing\)"
    ):
        read_episodes(listed, write(tmp_path / "lost", lost))
    fewer = write(tmp_path / "fewer", rows()[5:7], classes=[f"c{i}" for i in range(10)])
    with pytest.raises(DatasetError, match=r"clip 'made/\d+' is not in dataset 'few'\n.*do not compare"):
        read_episodes(listed, fewer)
    assert open_labelled(fewer).classes == open_labelled(data).classes
    moved = rows()
    moved[int(used(listed))]["class_name"] = "c0" if moved[int(used(listed))]["class_name"] != "c0" else "c1"
    with pytest.raises(AnnotationError, match=r"clip 'made/\d+' is 'c.' in this dataset, 'c.' in the list"):
        read_episodes(listed, write(tmp_path / "moved", moved))
    unlabelled = rows()
    unlabelled[int(used(listed))] = clip(None, "v", split=unlabelled[int(used(listed))]["split"])
    with pytest.raises(AnnotationError, match=r"clip 'made/\d+' is without a label in this dataset"):
        read_episodes(listed, write(tmp_path / "unlabelled", unlabelled))


def used(listed: Path) -> str:
    """Number of a clip that the first episode shows."""
    line = json.loads(listed.read_text().splitlines()[1])
    return str(line["support_clips"][0]).removeprefix("made/")


def test_what_cannot_be_written(data: Path, tmp_path: Path) -> None:
    pool = pool_of(data)
    drawn = draw_episodes(pool, 2)
    with pytest.raises(ConfigError, match="a list of no episode cannot be published"):
        write_episodes(tmp_path / "list.jsonl", pool, [])
    everything = episode_pool(open_labelled(data), SETTINGS)
    with pytest.raises(ConfigError, match="a list of episodes without a class split cannot be published"):
        write_episodes(tmp_path / "list.jsonl", everything, drawn)
    with pytest.raises(ConfigError, match=r"data is a folder\n  -> give the name of a file"):
        write_episodes(data, pool, drawn)
    before = (data / "clips.parquet").read_bytes()
    with pytest.raises(
        ConfigError, match=r"clips.parquet exists and is no list of episodes, so it is not replaced"
    ):
        write_episodes(data / "clips.parquet", pool, drawn)
    assert (data / "clips.parquet").read_bytes() == before
    assert not (tmp_path / "list.jsonl").exists()


Change = Callable[[list[dict[str, Any]]], object]


def _set(row: int, field: str, value: Any) -> Change:
    def change(lines: list[dict[str, Any]]) -> None:
        *path, last = field.split(".")
        place = lines[row]
        for name in path:
            place = place[name]
        place[last] = value

    return change


def _twice(lines: list[dict[str, Any]]) -> None:
    slots = lines[3]["query_slots"]
    first = slots.index(0)
    second = slots.index(0, first + 1)
    for name in ("query_clips", "query_keys"):
        lines[3][name][second] = lines[3][name][first]


def _both(lines: list[dict[str, Any]]) -> None:
    at, to = lines[3]["support_slots"].index(0), lines[3]["query_slots"].index(0)
    for name in ("clips", "keys"):
        lines[3][f"query_{name}"][to] = lines[3][f"support_{name}"][at]


def _video(lines: list[dict[str, Any]]) -> None:
    """The other clip of a support clip's video: numbers 2k and 2k + 1."""
    at = lines[3]["support_slots"].index(0)
    number = int(lines[3]["support_clips"][at].removeprefix("made/")) ^ 1
    if f"made/{number}" in lines[3]["support_clips"]:
        at = lines[3]["support_slots"].index(0, at + 1)
        number = int(lines[3]["support_clips"][at].removeprefix("made/")) ^ 1
    to = lines[3]["query_slots"].index(0)
    lines[3]["query_clips"][to] = f"made/{number}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(0, "kind", "other"), "row 1, field 'kind': not a list of episodes: expected 'vidkit-episodes'"),
        (_set(0, "format", 2), r"row 1, field 'format': format 2 is newer than this vidkit reads \(1\)\n.*upgrade"),
        (_set(0, "format", "1"), "row 1, field 'format': expected a whole number from 1, found \"1\""),
        (_set(0, "splits", ["dev"]), "row 1, field 'splits': expected some of train, val, test"),
        (_set(0, "splits", "test"), "row 1, field 'splits': expected a list, found \"test\""),
        (_set(0, "meta_split", "dev"), "row 1, field 'meta_split': 'dev' is none of train, val, test"),
        (_set(0, "settings.way", 1), "row 1, field 'settings': bad episode settings: way is 1"),
        (
            _set(0, "settings.shot", True),
            "row 1, field 'settings.shot': expected a whole number from 0, found true",
        ),
        (
            _set(0, "settings.allow_shared_groups", 0),
            "'settings.allow_shared_groups': expected true or false, found 0",
        ),
        (_set(0, "settings", None), "row 1, field 'settings': expected an object, found null"),
        (_set(0, "label_map_sha256", "0"), "field 'class_split': the class split is of another label map"),
        (_set(0, "class_split.seed", 9), "row 1, field 'class_split.sha256': .* it was changed"),
        (lambda lines: lines[0].pop("class_split"), "row 1, field 'class_split': the field is missing"),
        (_set(0, "episodes", 9), "row 1, field 'episodes': the header says 9 episodes; the list has 8"),
        (lambda lines: lines.pop(), "the header says 8 episodes; the list has 7"),
        (_set(4, "episode", 2), "row 5, field 'episode': episode 2 comes after episode 2"),
        (_set(4, "episode", None), "row 5, field 'episode': expected a whole number from 0, found null"),
        (lambda lines: lines[3].pop("query_slots"), "row 4, field 'query_slots': the field is missing"),
        (lambda lines: lines[3]["classes"].pop(), "row 4, field 'classes': expected 3 entries, found 2"),
        (lambda lines: lines[3]["classes"].__setitem__(0, "no"), "'classes': 'no' is no class of meta-test"),
        (lambda lines: lines[3]["classes"].__setitem__(0, 3), "row 4, field 'classes': expected texts, found 3"),
        (
            lambda lines: lines[3]["classes"].__setitem__(0, lines[3]["classes"][1]),
            "row 4, field 'classes': a class comes twice",
        ),
        (lambda lines: lines[3]["support_clips"].pop(), "'support_clips': expected 6 entries, found 5"),
        (lambda lines: lines[3]["query_keys"].append("1"), "'query_keys': expected 9 entries, found 10"),
        (
            lambda lines: lines[3]["query_slots"].__setitem__(0, 3),
            "row 4, field 'query_slots': expected whole numbers from 0 to 2, found 3",
        ),
        (_set(3, "support_slots", [0, 0, 0, 1, 1, 2]), "row 4, field 'support_slots': expected each slot 2 times"),
        (_twice, "row 4, field 'query_clips': a clip comes twice"),
        (_both, r"row 4, field 'query_clips': clip 'made/\d+' is in both support and query"),
        (_video, r"row 4, field 'query_(clips|keys)'"),
        (
            lambda lines: lines[3]["support_keys"].__setitem__(0, "x"),
            r"'support_keys': clip 'made/\d+' has key \d+",
        ),
        (
            lambda lines: lines[3]["classes"].reverse(),
            r"row 4, field 'support_slots': clip 'made/\d+' is 'c.' in this dataset, 'c.' in the list",
        ),
    ],
)
def test_each_field_is_checked(data: Path, listed: Path, change: Change, message: str) -> None:
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    change(lines)
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(AnnotationError, match=message) as error:
        read_episodes(listed, data)
    assert str(error.value).startswith(f"{listed}, row ")


def test_a_video_in_support_and_query_is_found_unless_allowed(listed: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", rows(), plan="q" * 64)  # so that keys do not give it away
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    _video(lines)
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        AnnotationError, match=r"the video of clip 'made/\d+' is in the support too, which the list's"
    ):
        read_episodes(listed, other)
    lines[0]["settings"]["allow_shared_groups"] = True
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_episodes(listed, other).settings.allow_shared_groups


def test_damaged_files_are_found(data: Path, listed: Path, tmp_path: Path) -> None:
    whole = listed.read_bytes()
    for damaged, message in (
        (b"", "list.jsonl, row 1: the list is empty"),
        (whole[:-100], r"row 9: the list ends in the middle of a line\n  -> make the list again"),
        (whole.replace(b"\n", b"\n\n", 1), "the header says 8 episodes; the list has 9"),
        (whole.replace(b'{"episode":3', b'"episode":3'), "row 5: not JSON: "),
        (whole.replace(b'{"episode":3', b'{"episode":\xff'), "row 5: not UTF-8: "),
        (b"\x89PNG\r\n", "row 1: not UTF-8"),
        (b"[1]\n", "row 1: expected a JSON object"),
        (b"{}\n", "row 1, field 'kind'"),
    ):
        listed.write_bytes(damaged)
        with pytest.raises(AnnotationError, match=message):
            read_episodes(listed, data)
    with pytest.raises(AnnotationError, match="none: the list cannot be read: No such file"):
        read_episodes(tmp_path / "none", data)
    with pytest.raises(AnnotationError, match="the list cannot be read: Is a directory"):
        read_episodes(tmp_path, data)

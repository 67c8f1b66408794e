"""Episodes: what each one promises, that nothing but seed and number matters, and what is said where they fail."""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.data import tinyset
from tests.data.builds import environment
from tests.fewshot.episodes.made import SPLITS, alone, clip, of_class, write
from tests.reference import ref_episodes as ref
from vidkit.data.load.split import open_split
from vidkit.errors import AnnotationError, ConfigError, DatasetError
from vidkit.fewshot.episodes.class_split import shared_groups
from vidkit.fewshot.episodes.draw import (
    ClassSplit,
    EpisodeSettings,
    LabelledClips,
    SequenceSettings,
    class_counts,
    draw_episode,
    draw_episodes,
    draw_sequence,
    draw_sequences,
    episode_pool,
    needed_clips,
    open_labelled,
    read_class_split,
    split_classes,
    write_class_split,
)


def ledger_of(clips: LabelledClips) -> list[dict[str, Any]]:
    """The rows that `clips` numbers, read without its help."""
    rows = pq.read_table(clips.dataset.root / "clips.parquet").to_pylist()
    return [row for split in clips.splits for row in rows if row["split"] == split and row["status"] == "ok"]


def messy(seed: int) -> list[dict[str, Any]]:
    """Classes of all sizes that share videos, over three splits, with failures and clips without a label."""
    rng = random.Random(seed)
    clips = []
    for c in range(12):
        for _ in range(rng.randint(1, 40)):
            group = None if rng.random() < 0.1 else f"v{rng.randint(0, 25)}"
            status = rng.choices(("ok", "failed", "missing"), (20, 1, 1))[0]
            source = rng.choice(("one", "two"))
            clips.append(clip(f"class {c}", group, split=rng.choice(SPLITS), source=source, status=status))
    clips += [clip(None, "v0"), clip(None, None)]
    rng.shuffle(clips)
    return clips


def signature(episode: Any) -> tuple[bytes, ...]:
    names = ("class_ids", "support", "support_slots", "query", "query_slots", "rows", "slots", "instance")
    return tuple(getattr(episode, name).tobytes() for name in names if hasattr(episode, name))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shared", [False, True])
def test_every_episode_keeps_every_promise(tmp_path: Path, seed: int, shared: bool) -> None:
    clips = open_labelled(write(tmp_path, messy(seed)))
    ledger = ledger_of(clips)
    assert len(ledger) == len(clips)
    for way, shot, query in ((2, 1, 3), (3, 2, 2), (4, 1, 1)):
        settings = EpisodeSettings(way=way, shot=shot, query=query, seed=seed, allow_shared_groups=shared)
        pool = episode_pool(clips, settings)
        for episode in draw_episodes(pool, 40):
            ref.check_episode(ledger, episode, settings, pool.classes)
    sequences = SequenceSettings(way=3, instances=4, seed=seed, allow_shared_groups=shared)
    pool_of_sequences = episode_pool(clips, sequences)
    for sequence in draw_sequences(pool_of_sequences, 40):
        ref.check_sequence(ledger, sequence, sequences)


def test_sharing_is_used_where_it_is_allowed(tmp_path: Path) -> None:
    """The rule is what keeps videos apart, not luck."""
    clips = open_labelled(
        write(tmp_path, [c for n in "ab" for c in of_class(n, [(f"{n}{i}", 5) for i in range(4)])])
    )
    for shared in (False, True):
        settings = EpisodeSettings(way=2, shot=2, query=5, allow_shared_groups=shared)
        both = 0
        for episode in draw_episodes(episode_pool(clips, settings), 50):
            both += bool(set(clips.group[episode.support]) & set(clips.group[episode.query]))
        assert (both > 40) if shared else (both == 0)


def test_a_video_of_two_classes_is_not_in_support_and_query(tmp_path: Path) -> None:
    """Class b's clip of a video is kept out of the query when class a's clip of it is in the support."""
    shown = [("both", 1), *((f"a{i}", 1) for i in range(3))]
    other = [("both", 1), *((f"b{i}", 1) for i in range(3))]
    clips = open_labelled(write(tmp_path, of_class("a", shown) + of_class("b", other)))
    settings = EpisodeSettings(way=2, shot=1, query=3)
    ledger = ledger_of(clips)
    seen: Counter[str] = Counter()
    for episode in draw_episodes(episode_pool(clips, settings), 200):
        ref.check_episode(ledger, episode, settings, "ab")
        seen["support" if {ledger[i]["group"] for i in episode.support} == {"both"} else "query"] += 1
    # the query takes all clips that are left: both classes show the video in the support, or both in the query
    assert seen["support"] > 20
    assert seen["query"] > 100


@pytest.mark.parametrize("shot", [1, 2, 5])
@pytest.mark.parametrize("query", [1, 4])
def test_usable_is_what_trying_everything_finds(shot: int, query: int) -> None:
    settings = EpisodeSettings(shot=shot, query=query)
    for count in range(1, 6):
        for sizes in itertools.combinations_with_replacement((1, 2, 3, 5), count):
            assert settings.fits(sizes) == ref.divisible(sizes, shot, query), sizes
    assert not settings.fits([])


def test_a_class_that_only_just_fits_is_drawn(tmp_path: Path) -> None:
    """One way to divide the videos, and chance alone would seldom find it."""
    tight = of_class("tight", [("t0", 60), ("t1", 3), ("t2", 3), ("t3", 2)])
    clips = open_labelled(write(tmp_path, tight + alone("b", 70) + alone("c", 70)))
    settings = EpisodeSettings(way=3, shot=5, query=60)
    pool = episode_pool(clips, settings)
    assert pool.unusable == ()
    for episode in draw_episodes(pool, 20):
        ref.check_episode(ledger_of(clips), episode, settings, pool.classes)
        assert episode.redraws == 0


def test_an_episode_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    root = write(tmp_path, messy(1))
    settings = EpisodeSettings(way=3, shot=1, query=3, seed=4)
    pool = episode_pool(open_labelled(root), settings)
    forward = [signature(e) for e in draw_episodes(pool, 12)]
    assert len(set(forward)) == 12
    backward = [signature(draw_episode(pool, i)) for i in reversed(range(12))]
    assert backward[::-1] == forward
    assert [signature(e) for e in draw_episodes(pool, 5, first=7)] == forward[7:]
    again = pickle.loads(pickle.dumps(episode_pool(open_labelled(root), settings)))
    assert [signature(e) for e in draw_episodes(again, 12)] == forward
    other = episode_pool(open_labelled(root), EpisodeSettings(way=3, shot=1, query=3, seed=5))
    assert not set(forward) & {signature(e) for e in draw_episodes(other, 12)}

    sequences = episode_pool(open_labelled(root), SequenceSettings(way=3, instances=3))
    order = [signature(s) for s in draw_sequences(sequences, 6)]
    assert [signature(draw_sequence(sequences, i)) for i in (5, 0, 3)] == [order[5], order[0], order[3]]


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    root = write(tmp_path, messy(2))
    code = (
        "import sys, hashlib\n"
        "from vidkit.fewshot.episodes.draw import *\n"
        f"pool = episode_pool(open_labelled({str(root)!r}), EpisodeSettings(way=3, query=3))\n"
        "print(hashlib.sha256(b''.join(e.rows.tobytes() for e in draw_episodes(pool, 30))).hexdigest())\n"
        "print('torch' in sys.modules)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment(), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(said) == 1
    assert said.pop().endswith("False\n")


def test_classes_slots_clips_and_places_are_uniform(tmp_path: Path) -> None:
    """Within 5 standard deviations of what uniform draws would give."""
    sizes = (8, 9, 12, 16, 20, 30)
    clips = open_labelled(write(tmp_path, [c for i, n in enumerate(sizes) for c in alone(f"c{i}", n)]))
    settings = EpisodeSettings(way=3, shot=1, query=4)
    pool = episode_pool(clips, settings)
    count = 3000
    episodes = draw_episodes(pool, count)
    ids = np.stack([e.class_ids for e in episodes])

    def near(found: Any, chance: float) -> None:
        expected, deviation = count * chance, (count * chance * (1 - chance)) ** 0.5
        assert (np.abs(np.asarray(found) - expected) < 5 * deviation).all(), (found, expected, deviation)

    for slot in range(3):
        near(np.bincount(ids[:, slot], minlength=6), 1 / 6)
    near(list(class_counts(pool, episodes).values()), 1 / 2)
    near([(ids[:, :2] == pair).all(1).sum() for pair in itertools.permutations(range(6), 2)], 1 / 30)
    support = np.bincount(np.concatenate([e.support for e in episodes]), minlength=len(clips))
    query = np.bincount(np.concatenate([e.query for e in episodes]), minlength=len(clips))
    for i, size in enumerate(sizes):
        near(support[clips.class_id == i], 1 / 2 / size)
        near(query[clips.class_id == i], 4 / 2 / size)
    near(np.bincount([e.support_slots[0] for e in episodes]), 1 / 3)
    near(np.bincount([e.query_slots[-1] for e in episodes]), 1 / 3)


def test_sequences_are_shuffled(tmp_path: Path) -> None:
    clips = open_labelled(write(tmp_path, [c for i in range(4) for c in alone(f"c{i}", 12)]))
    pool = episode_pool(clips, SequenceSettings(way=3, instances=10))
    sequences = draw_sequences(pool, 1500)
    slots = np.stack([s.slots for s in sequences])
    assert slots.shape == (1500, 30)
    deviation = (1500 / 3 * 2 / 3) ** 0.5
    for slot in range(3):
        assert (np.abs((slots == slot).sum(0) - 500) < 5 * deviation).all()
    assert all(s.instance[0] == 1 and s.instance.max() == 10 for s in sequences)


def test_needed_clips_are_those_of_all_episodes_once(tmp_path: Path) -> None:
    clips = open_labelled(write(tmp_path, messy(3)))
    episodes = draw_episodes(episode_pool(clips, EpisodeSettings(way=2, query=2)), 9)
    expected = sorted({int(i) for e in episodes for i in (*e.support, *e.query)})
    assert needed_clips(episodes).tolist() == expected
    assert needed_clips([]).tolist() == []
    sequences = draw_sequences(episode_pool(clips, SequenceSettings(way=2, instances=2)), 3)
    assert needed_clips(sequences).tolist() == sorted({int(i) for s in sequences for i in s.rows})


def test_rows_are_the_clips_that_open_split_numbers(tmp_path: Path) -> None:
    made = [*tinyset.many(9), tinyset.Clip(status="failed"), tinyset.Clip(labels=())]
    made += [*tinyset.many(5, split="val"), *tinyset.many(4, split="test")]
    root = tinyset.build(tmp_path / "data", made)
    clips = open_labelled(root)
    assert clips.splits == ("train", "val", "test")
    assert (clips.unusable, clips.unlabelled) == (1, 1)
    parts = {split: open_split(root, split) for split in clips.splits}
    for row in range(len(clips)):
        split, i = clips.place(row)
        part = parts[split]
        assert (clips.clip_id[row], clips.key[row]) == (part.clip_id[i], part.key[i])
        assert clips.class_id[row] == part.class_id[i]
    assert sum(map(len, parts.values())) == len(clips)
    for row in (-1, len(clips)):
        with pytest.raises(IndexError):
            clips.place(row)
    only = open_labelled(root, ("val",))
    assert only.key.to_pylist() == parts["val"].key.to_pylist()
    assert len(set(clips.group.tolist())) == len(clips)  # no video is known, so none is shared


def test_groups_mean_nothing_outside_their_source(tmp_path: Path) -> None:
    rows = [clip("a", "1", source=s) for s in ("x", "y", "x")] + [clip("b", None), clip("b", None)]
    group = open_labelled(write(tmp_path, rows)).group.tolist()
    assert group[0] == group[2] != group[1]
    assert len(set(group)) == 4


# class splits


def test_class_splits_follow_from_label_map_seed_and_shares(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(50)]
    some = open_labelled(write(tmp_path / "a", alone("class 3", 2), classes=names))
    more = open_labelled(write(tmp_path / "b", alone("class 4", 9) + alone("class 7", 9), classes=names))
    split = split_classes(some, seed=3)
    assert split == split_classes(more, seed=3)  # what is on disk does not matter
    order = ref.class_order(names, some.label_map_sha256, 3)
    assert set(split.train) == set(order[:32])
    assert set(split.val) == set(order[32:40])
    assert set(split.test) == set(order[40:])
    assert all(list(part) == sorted(part, key=names.index) for part in (split.train, split.val, split.test))
    assert split_classes(some, seed=4).test != split.test
    assert len({split_classes(some, seed=s).sha256 for s in range(20)}) == 20
    assert split_classes(some, seed=3, shares=(0, 0, 1)).test == tuple(names)


@pytest.mark.parametrize(
    ("classes", "sizes"), [(100, (64, 16, 20)), (518, (331, 83, 104)), (1, (1, 0, 0)), (5, (3, 1, 1))]
)
def test_shares_are_kept_as_near_as_whole_numbers_get(
    tmp_path: Path, classes: int, sizes: tuple[int, int, int]
) -> None:
    names = [f"class {i}" for i in range(classes)]
    split = split_classes(open_labelled(write(tmp_path, alone("class 0", 2), classes=names)))
    assert (len(split.train), len(split.val), len(split.test)) == sizes
    assert sorted(split.train + split.val + split.test) == sorted(names)


def test_a_class_split_survives_its_file_and_is_held_to_its_hash(tmp_path: Path) -> None:
    clips = open_labelled(write(tmp_path / "data", messy(0)))
    file = tmp_path / "split.json"
    for split in (
        split_classes(clips, seed=1),
        ClassSplit(label_map_sha256=clips.label_map_sha256, train=("class 1",), test=("class 0",)),
    ):
        write_class_split(file, split)
        assert read_class_split(file, clips) == split
    text = file.read_text()
    for changed, message in (
        (
            text.replace("class 1", "class 2"),
            r"split.json, field 'sha256': the content has sha256 .* it was changed",
        ),
        (text.replace('"format": 1', '"format": 2'), "field 'format': format 2 is newer than this vidkit reads"),
        (text.replace('"class 0"', '"class 1"'), "field 'classes': class 'class 1' is in the class split twice"),
        (text.replace('"seed": null', '"seed": -1'), "field 'seed': expected a whole number from 0, found -1"),
        (text.replace('"shares": null', '"shares": [1]'), "field 'shares': expected null or three numbers"),
        (text.replace('"train"', '"trian"'), "field 'classes.train': the field is missing"),
        (text[:-20], "split.json: not JSON"),
        ("[]", "expected a JSON object, found"),
    ):
        file.write_text(changed)
        with pytest.raises(AnnotationError, match=message):
            read_class_split(file, clips)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_class_split(file, clips)
    with pytest.raises(AnnotationError, match="the class split cannot be read: No such file"):
        read_class_split(tmp_path / "none.json", clips)


def test_a_class_split_of_other_classes_is_refused(tmp_path: Path) -> None:
    clips = open_labelled(write(tmp_path / "a", messy(0)))
    other = open_labelled(write(tmp_path / "b", alone("x", 3) + alone("y", 3)))
    split = split_classes(other)
    write_class_split(tmp_path / "split.json", split)
    with pytest.raises(DatasetError, match=r"split.json, field 'label_map_sha256': .* these are other classes"):
        read_class_split(tmp_path / "split.json", clips)
    with pytest.raises(DatasetError, match="these are other classes"):
        episode_pool(clips, EpisodeSettings(), split, "test")
    unknown = ClassSplit(label_map_sha256=clips.label_map_sha256, test=("none such",))
    with pytest.raises(DatasetError, match="class 'none such' of the class split is not in the label map"):
        episode_pool(clips, EpisodeSettings(), unknown, "test")
    with pytest.raises(ConfigError, match="class 'a' is in the class split twice"):
        ClassSplit(label_map_sha256="0", train=("a",), test=("b", "a"))


def test_episodes_stay_within_their_meta_split(tmp_path: Path) -> None:
    clips = open_labelled(write(tmp_path, [c for i in range(20) for c in alone(f"c{i:02}", 5)]))
    split = split_classes(clips, shares=(0.5, 0.25, 0.25))
    settings = EpisodeSettings(way=3, shot=1, query=2)
    seen: dict[str, set[str]] = {}
    for part in ("train", "val", "test"):
        pool = episode_pool(clips, settings, split, part)
        drawn = draw_episodes(pool, 100)
        seen[part] = {clips.classes[clips.class_id[i]] for i in needed_clips(drawn)}
        assert seen[part] == set(split.names(part))
    assert not seen["train"] & seen["val"] | seen["train"] & seen["test"] | seen["val"] & seen["test"]


def test_videos_of_two_meta_splits_are_counted(tmp_path: Path) -> None:
    rows = [clip("a", "v"), clip("b", "v"), clip("a", "w"), clip("c", "w"), clip("c", "v", source="other")]
    clips = open_labelled(write(tmp_path, [*rows, clip(None, "w")]))
    split = ClassSplit(label_map_sha256=clips.label_map_sha256, train=("a",), val=("b",), test=("c",))
    assert shared_groups(clips, split) == {"train-val": 1, "train-test": 1, "val-test": 0}


# what cannot be


def test_classes_with_too_few_clips_are_named_with_counts(tmp_path: Path) -> None:
    rows = alone("enough", 16) + alone("also", 20) + alone("few", 3)
    rows += of_class("one video", [("v", 40)]) + of_class("two", [("t0", 14), ("t1", 14)])
    clips = open_labelled(write(tmp_path, rows, classes=["also", "enough", "few", "none", "one video", "two"]))
    pool = episode_pool(clips, EpisodeSettings(way=2))
    assert [clips.classes[i] for i in pool.usable] == ["also", "enough"]
    assert [(bad.name, bad.class_id, bad.clips, bad.groups) for bad in pool.unusable] == [
        ("few", 2, 3, 3),
        ("none", 3, 0, 0),
        ("one video", 4, 40, 1),
        ("two", 5, 28, 2),
    ]
    assert [bad.reason for bad in pool.unusable] == [
        "3 of the 16 clips needed",
        "0 of the 16 clips needed",
        "its 40 clips are of 1 video, which cannot be divided into some with 1 and others with 15",
        "its 28 clips are of 2 videos, which cannot be divided into some with 1 and others with 15",
    ]
    assert repr(pool) == "EpisodePool(all classes of 'few', 2-way, 2 of 6 classes usable)"
    sequences = episode_pool(clips, SequenceSettings(way=2))
    assert [(bad.name, bad.reason) for bad in sequences.unusable] == [
        ("few", "3 of the 10 clips needed"),
        ("none", "0 of the 10 clips needed"),
        ("one video", "1 of the 10 videos needed, one a clip"),
        ("two", "2 of the 10 videos needed, one a clip"),
    ]
    shared = episode_pool(clips, EpisodeSettings(way=4, allow_shared_groups=True))
    assert [bad.name for bad in shared.unusable] == ["few", "none"]


def test_too_few_classes_is_one_error_that_says_what_to_lower(tmp_path: Path) -> None:
    rows = alone("a", 16) + alone("b", 12) + alone("c", 6) + of_class("d", [("v", 40)]) + alone("e", 2)
    clips = open_labelled(write(tmp_path, rows))

    def said(settings: Any, *more: Any) -> str:
        with pytest.raises(ConfigError) as error:
            episode_pool(clips, settings, *more)
        return str(error.value)

    text = said(EpisodeSettings(way=3))
    assert "3-way episodes need 3 classes with 16 clips (1 support, 15 query) each" in text
    assert "in all classes of 'few' 1 of 5 qualify" in text
    assert "'b': 12 of the 16 clips needed; 'c': 6 of the 16 clips needed; 'd': its 40 clips are of 1 video" in text
    assert text.endswith("-> lower query to 5")
    episode_pool(clips, EpisodeSettings(way=3, query=5))
    assert said(EpisodeSettings(way=2)).endswith("-> lower query to 11 or allow shared groups")
    assert said(EpisodeSettings(way=2, shot=10, query=6)).endswith(
        "-> lower query to 2 or lower shot to 6 or allow shared groups"
    )
    assert said(EpisodeSettings(way=3, shot=50, query=1)).endswith("-> lower shot to 5")
    assert said(EpisodeSettings(way=6, shot=1, query=1)).endswith(
        "-> lower way to 4"  # class d shows one video
    )
    assert said(EpisodeSettings(way=50)).endswith("build the dataset with more classes or more clips of each")
    assert said(SequenceSettings(way=4, instances=10)).endswith("-> lower way to 2 or lower instances to 2")
    split = ClassSplit(label_map_sha256=clips.label_map_sha256, train=("a", "b", "c"), test=())
    text = said(EpisodeSettings(way=2), split, "test")
    assert "in meta-test of 'few' 0 of 0 qualify" in text
    assert text.endswith("-> give meta-test a larger share of the classes")


def test_classes_that_share_all_their_videos_end_in_one_error(tmp_path: Path) -> None:
    """Each class could be divided, but never both: a's support is b's query."""
    rows = of_class("a", [("v", 15), ("w", 1)]) + of_class("b", [("v", 1), ("w", 15)])
    clips = open_labelled(write(tmp_path, rows))
    pool = episode_pool(clips, EpisodeSettings(way=2))
    assert len(pool.usable) == 2
    with pytest.raises(ConfigError, match=r"episode 0: no 2 classes .*the last one: '[ab]', '[ab]'") as error:
        draw_episode(pool, 0)
    assert "or allow shared groups" in str(error.value)
    third = open_labelled(write(tmp_path / "more", rows + alone("c", 16)))
    settings = EpisodeSettings(way=2)
    episodes = draw_episodes(episode_pool(third, settings), 60)
    assert sum(e.redraws for e in episodes) > 0
    for episode in episodes:
        ref.check_episode(ledger_of(third), episode, settings, "abc")
        assert 2 in episode.class_ids


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"way": 1}, "way is 1; expected at least 2 classes"),
        ({"shot": 0, "query": 0}, "shot is 0; expected at least 1 clip; query is 0; expected at least 1 clip"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EpisodeSettings(**given)


def test_bad_sequence_settings_and_numbers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"way is 0; .* instances is 0; .* seed is -2"):
        SequenceSettings(way=0, instances=0, seed=-2)
    clips = open_labelled(write(tmp_path, alone("a", 5) + alone("b", 5)))
    with pytest.raises(ConfigError, match="episode number is -1; expected at least 0"):
        draw_episode(episode_pool(clips, EpisodeSettings(way=2, query=2)), -1)
    with pytest.raises(ConfigError, match="a class split and a meta-split go together"):
        episode_pool(clips, EpisodeSettings(way=2, query=2), split_classes(clips))
    with pytest.raises(ConfigError, match="meta-split is 'tset'; expected one of train, val, test"):
        episode_pool(clips, EpisodeSettings(), split_classes(clips), "tset")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"split seed is -1; .*shares is \(0.5, 0.5, 0.5\); expected three numbers"
    ):
        split_classes(clips, seed=-1, shares=(0.5, 0.5, 0.5))
    for shares in ((1.0,), (1.5, -0.5, 0), (float("nan"), 0, 1)):
        with pytest.raises(ConfigError, match="expected three numbers from 0 of sum 1"):
            split_classes(clips, shares=shares)


def test_datasets_without_a_class_for_each_clip_are_refused(tmp_path: Path) -> None:
    rows = [*alone("a", 3), clip("b", None, split="val", status="missing")]
    with pytest.raises(DatasetError, match=r"field 'label_map.rule': .*can have several labels.*\n.*'label-set'"):
        open_labelled(write(tmp_path / "hot", rows, rule="multi-hot"))
    with pytest.raises(
        DatasetError, match=r"no usable clip in split 'val' of 'few'; usable: train 3, val 0, test 0"
    ):
        open_labelled(write(tmp_path / "empty", rows), ("train", "val"))
    assert open_labelled(tmp_path / "empty").splits == ("train",)
    with pytest.raises(DatasetError, match="no usable clip in any split"):
        open_labelled(write(tmp_path / "none", [clip("a", status="failed")]))
    with pytest.raises(DatasetError, match="none of the 2 usable clips of 'few' has a label"):
        open_labelled(write(tmp_path / "unlabelled", [clip(None), clip(None)], classes=["a"]))
    for splits in (("train", "train"), ("dev",), ()):
        with pytest.raises(ConfigError, match="expected some of train, val, test, each once"):
            open_labelled(tmp_path / "empty", splits)
    with pytest.raises(DatasetError, match="no dataset in"):
        open_labelled(tmp_path / "nowhere")
    root = write(tmp_path / "ids", rows)
    table = pq.read_table(root / "clips.parquet")
    wrong = table.set_column(table.schema.get_field_index("class_id"), "class_id", [[7] * table.num_rows])
    pq.write_table(wrong, root / "clips.parquet")
    with pytest.raises(DatasetError, match="class ids run from 7 to 7; the label map has 2 classes"):
        open_labelled(root)

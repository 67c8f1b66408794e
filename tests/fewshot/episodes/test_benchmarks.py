"""Published divisions of classes: what they hold and share, and what a dataset makes of them."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import pytest

from tests.fewshot.episodes.made import alone, write
from vidkit.data.manifests import class_list, manifests_folder
from vidkit.errors import ConfigError, DatasetError
from vidkit.fewshot.episodes import benchmarks
from vidkit.fewshot.episodes.benchmarks import (
    Benchmark,
    benchmark,
    benchmark_names,
    departures,
    divide,
    labels_seen,
    shared_classes,
)
from vidkit.fewshot.episodes.class_split import META_SPLITS
from vidkit.fewshot.episodes.draw import EpisodeSettings, LabelledClips, episode_pool, open_labelled

SIZES = {
    "hmdb51-arn": (31, 10, 10),
    "kinetics100-cmn": (64, 12, 24),
    "ssv2-full-otam": (64, 12, 24),
    "ssv2-small-cmn": (64, 12, 24),
    "ucf101-arn": (70, 10, 21),
}
LISTS = {"kinetics100-cmn": "kinetics400", "ssv2-full-otam": "ssv2", "ssv2-small-cmn": "ssv2"}


@pytest.mark.parametrize(("name", "sizes"), SIZES.items())
def test_parts_are_disjoint_and_of_published_sizes(name: str, sizes: tuple[int, int, int]) -> None:
    assert benchmark_names() == tuple(SIZES)
    known = benchmark(name)
    assert tuple(len(known.classes[part]) for part in META_SPLITS) == sizes
    assert sum(sizes) == len({*known.classes["train"], *known.classes["val"], *known.classes["test"]})
    if name in LISTS:
        assert all(set(known.classes[part]) < set(class_list(LISTS[name]).names) for part in META_SPLITS)
    assert known.flip == (not name.startswith("ssv2"))
    if name.endswith("-cmn"):
        assert {part: known.clips[part] for part in META_SPLITS} == {
            part: 100 * len(known.classes[part]) for part in META_SPLITS
        }


def test_what_they_share_is_what_the_files_say() -> None:
    for one, other in combinations(map(benchmark, SIZES), 2):
        both = {pair: len(names) for pair, names in shared_classes(one, other).items()}
        back = {pair: len(names) for pair, names in shared_classes(other, one).items()}
        assert one.shares.get(other.name, {}) == both
        assert other.shares.get(one.name, {}) == back
        assert back == {"-".join(reversed(pair.split("-"))): count for pair, count in both.items()}
    full = benchmark("ssv2-full-otam").shares["ssv2-small-cmn"]
    assert (full["train-test"], full["test-train"]) == (7, 9)
    # spelled in two ways, one class
    assert shared_classes(benchmark("hmdb51-arn"), benchmark("ucf101-arn")) == {
        "train-test": ("punch",),
        "test-train": ("fencing",),
    }


def test_a_changed_file_and_an_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no benchmark 'ucf'.*\n  -> choose one of hmdb51-arn, kinetics100-cmn"):
        benchmark("ucf")
    shutil.copytree(manifests_folder() / "fewshot", tmp_path / "fewshot")
    file = tmp_path / "fewshot" / "hmdb51-arn.toml"
    file.write_text(file.read_text().replace('"fencing"', '"fence"'))
    monkeypatch.setattr(benchmarks, "manifests_folder", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"hmdb51-arn\.toml.*the names have sha256 .* the file was changed"):
        benchmark.__wrapped__("hmdb51-arn")


def made(folder: Path, known: Benchmark, count: int = 6, without: int = 0) -> LabelledClips:
    """Clips of all classes but the last `without` of each part, and of one that the benchmark does not know."""
    names = [name for part in META_SPLITS for name in known.classes[part][: len(known.classes[part]) - without]]
    return open_labelled(write(folder, [row for name in [*names, "zz"] for row in alone(name, count)]))


def test_a_dataset_that_has_all(tmp_path: Path) -> None:
    known = benchmark("ssv2-full-otam")
    clips = made(tmp_path, known)
    found = divide(known, clips)
    assert {part: set(found.split.names(part)) for part in META_SPLITS} == {
        part: set(known.classes[part]) for part in META_SPLITS
    }
    assert not any(found.missing.values())
    assert found.clips == {"train": 64 * 6, "val": 12 * 6, "test": 24 * 6}
    asked = {"way": 5, "query": 1, "episodes": 10_000}
    said = departures(known, found, asked, shared_groups=True)
    assert said == [
        "meta-train has 384 clips; 67,013 were listed",
        "meta-val has 72 clips; 1,926 were listed",
        "meta-test has 144 clips; 2,857 were listed",
    ]
    said = departures(known, found, asked | {"query": 15, "episodes": 600}, shared_groups=False)[3:]
    assert said[:2] == ["query is 15; the benchmark has 1", "episodes is 600; the benchmark has 10,000"]
    assert "stricter than the field" in said[2]


def test_other_spellings_and_missing_classes(tmp_path: Path) -> None:
    known = benchmark("ucf101-arn")
    names = [name for part in META_SPLITS for name in known.classes[part]][:-3]
    spelled = [f"{name[0]}_{name[1:]}".lower() for name in names]
    clips = open_labelled(write(tmp_path / "a", [row for name in spelled for row in alone(name, 2)]))
    found = divide(known, clips)
    assert len(found.split.test) == 18
    assert set(found.split.test) <= set(spelled)
    assert found.missing["test"] == known.classes["test"][-3:]
    said = departures(known, found, {}, shared_groups=True)
    assert "the dataset has 18 of the 21 meta-test classes; it lacks 'Surfing', 'TennisSwing', 'Volley" in said[-1]
    few = open_labelled(write(tmp_path / "b", alone("golf", 9)))
    with pytest.raises(
        DatasetError,
        match=r"'few' has clips of 0 of the 21 meta-test classes of ucf101-arn; it lacks 'Blo.* and 18 more",
    ):
        divide(known, few)


def test_a_class_of_17_clips_has_5_shots_and_a_query(tmp_path: Path) -> None:
    """With the usual 15 queries two classes of SSv2-Full would drop out, and the test would be another one."""
    known = benchmark("ssv2-full-otam")
    rows = [row for name in known.classes["test"][1:] for row in alone(name, 20)]
    clips = open_labelled(write(tmp_path, [*rows, *alone(known.classes["test"][0], 17)]))
    split = divide(known, clips).split
    assert not episode_pool(clips, EpisodeSettings(shot=5, query=1), split, "test").unusable
    (left_out,) = episode_pool(clips, EpisodeSettings(shot=5, query=15), split, "test").unusable
    assert (left_out.name, left_out.reason) == (known.classes["test"][0], "17 of the 20 clips needed")


def test_labels_seen_by_another_spelling() -> None:
    assert labels_seen(["archery", "bench pressing"], ["Archery", "BenchPress"]) == ("Archery",)
    assert labels_seen([], ["Archery"]) == ()

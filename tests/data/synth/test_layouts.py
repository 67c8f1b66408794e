"""Generated datasets as a whole: they repeat, are balanced, link, and are damaged as asked."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import av
import pytest

from tests.data.synth.generated import files, frames_and_size, rows, small, videos
from vidkit.data.synth import layouts as synthetic_layouts
from vidkit.data.synth.layouts import KINDS, write_layout
from vidkit.data.synth.plan import Request, apportion, share_videos, split_counts
from vidkit.errors import ConfigError

UNANNOTATED = ("demo", "kinetics-bare-ids", "motions")

# --- every kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_whole_and_repeats(kind: str, tmp_path: Path) -> None:
    first = small(kind, tmp_path / "a", clips=12)
    second = small(kind, tmp_path / "b", clips=12)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert first.clips == sum(first.splits.values()) == 12
    assert first.splits == second.splits
    assert len(videos(tmp_path / "a")) == 12
    for name in videos(tmp_path / "a"):
        assert frames_and_size(tmp_path / "a" / name) == (4, 48, 36)
    assert files(tmp_path / "a") != (small(kind, tmp_path / "c", clips=12, seed=1), files(tmp_path / "c"))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_one_clip_writes_no_empty_annotation_file(kind: str, tmp_path: Path) -> None:
    least = KINDS[kind].fewest_classes
    report = small(kind, tmp_path, clips=least, classes=least)
    assert report.clips == len(videos(tmp_path)) == least
    assert all(
        path.stat().st_size > 20 for path in tmp_path.rglob("*") if path.is_file() and "ytid" not in path.name
    )
    for path in tmp_path.rglob("*.csv"):
        assert len(path.read_text().splitlines()) > (path.name != "test-answers.csv")


def test_real_sizes_and_lengths_where_nothing_else_is_asked(tmp_path: Path) -> None:
    write_layout("kinetics-flat", tmp_path / "k", clips=1, classes=1)
    name = next(iter(videos(tmp_path / "k")))
    assert frames_and_size(tmp_path / "k" / name) == (300, 340, 256)
    write_layout("ssv2", tmp_path / "s", clips=2, classes=1)
    for name in videos(tmp_path / "s"):
        frames, width, height = frames_and_size(tmp_path / "s" / name)
        assert (width, height) == (427, 240)
        assert 24 <= frames <= 72


def test_audio_on_request(tmp_path: Path) -> None:
    for kind in ("kinetics-flat", "tinyvirat-v2", "demo"):
        small(kind, tmp_path / kind, clips=3, audio=True)
        with av.open(os.fspath(tmp_path / kind / min(videos(tmp_path / kind)))) as container:
            assert len(container.streams.audio) == 1


def test_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    damage = {"missing": 0.1, "broken": 0.2, "extra": 2, "distinct": 15}
    small("kinetics", tmp_path / "one", **damage)
    counts: list[tuple[int, int]] = []
    small("kinetics", tmp_path / "two", workers=2, progress=lambda done, of: counts.append((done, of)), **damage)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert [done for done, _ in counts] == list(range(1, counts[0][1] + 1))


# --- labels and pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_always_shows_the_same_motion_and_shape(kind: str) -> None:
    what = KINDS[kind]
    labels = 20 if "label_sets" in what.options else None
    plan = what.plan(Request(kind=kind, clips=120, classes=10, seed=2, label_sets=labels))
    assert len({clip.look.class_index for clip in plan.clips}) == len(plan.classes)
    if "class-folders" in kind or kind in ("kinetics-bare-ids", "minikinetics", "demo", "motions"):
        shown: dict[str, set[int]] = {}
        for clip in plan.clips:
            if "test/" not in clip.path or kind in ("demo", "motions"):
                shown.setdefault(clip.path.split("/")[-2], set()).add(clip.look.class_index)
        assert all(len(looks) == 1 for looks in shown.values())
        assert len(shown) == 10


def test_kinetics_and_minikinetics_show_a_class_alike() -> None:
    plans = [
        KINDS[kind].plan(Request(kind=kind, clips=400, classes=200, seed=0))
        for kind in ("kinetics", "minikinetics")
    ]
    looks = [{clip.path.split("/")[0]: clip.look.class_index for clip in plan.clips} for plan in plans]
    common = set(looks[0]) & set(looks[1]) - {"test"}
    assert len(common) > 50
    assert all(looks[0][name] == looks[1][name] for name in common)


def test_demo_is_balanced(tmp_path: Path) -> None:
    report = write_layout("demo", tmp_path, size=(16, 16), frames=2)
    assert report.splits == {"train": 168, "val": 36, "test": 36}
    counts = Counter(name.rsplit("/", 1)[0] for name in videos(tmp_path))
    assert counts == {f"{s}/{c}": n for s, n in (("train", 14), ("val", 3), ("test", 3)) for c in report.classes}
    assert "disc moving left" in report.classes
    assert len(report.classes) == 12


# --- few videos for many clips -------------------------------------------------------------------------


def test_distinct_videos_are_linked_and_keep_to_their_class_and_split(tmp_path: Path) -> None:
    report = small("kinetics", tmp_path, clips=60, distinct=18)
    assert report.videos == 18
    places: dict[int, set[str]] = {}
    contents: dict[str, set[str]] = {}
    splits = {row["youtube_id"]: s for s in ("train", "val", "test") for row in rows(tmp_path / f"{s}.csv")}
    for name, sha256 in files(tmp_path).items():
        if name.endswith(".mp4"):
            where = f"{splits[name.split('/')[1][:11]]}/{name.split('/')[0]}"
            places.setdefault((tmp_path / name).stat().st_ino, set()).add(where)
            contents.setdefault(sha256, set()).add(where)
    assert len(places) == len(contents) == 18
    assert all(len(where) == 1 for where in places.values())
    # all test clips lie in one folder; their classes are apart all the same
    assert sum("test" in where for group in contents.values() for where in group) >= 3


def test_copies_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small("kinetics", tmp_path / "links", distinct=12)

    def refuse(*_: object) -> None:
        raise OSError("too many links")

    monkeypatch.setattr(synthetic_layouts.os, "link", refuse)
    small("kinetics", tmp_path / "copies", distinct=12)
    assert files(tmp_path / "links") == files(tmp_path / "copies")
    assert {path.stat().st_nlink for path in (tmp_path / "copies").rglob("*.mp4")} == {1}


def test_too_few_distinct_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"8 distinct videos cannot show 9 classes .*\n.*at least 9"):
        small("kinetics", tmp_path, distinct=8)
    assert not list(tmp_path.iterdir())


# --- damage ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [None, 15])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNANNOTATED])
def test_damage_is_what_the_report_says(kind: str, distinct: int | None, tmp_path: Path) -> None:
    damage: dict[str, Any] = {"missing": 0.2, "broken": 0.3, "extra": 4, "distinct": distinct}
    if "label_sets" in KINDS[kind].options:
        damage["label_sets"] = 5
    report = small(kind, tmp_path, **damage)
    assert (len(report.missing), len(report.broken), len(report.extra)) == (6, 9, 4)
    present = videos(tmp_path)
    assert len(present) == 30 - 6 + 4
    assert not present & set(report.missing)
    assert set(report.broken) | set(report.extra) <= present
    empty = [name for name in report.broken if (tmp_path / name).stat().st_size == 0]
    assert len(empty) == 5
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".csv", ".json", ".txt"))
    for name in report.missing:
        assert re.split(r"_\d{6}_\d{6}\.", Path(name).name)[0].removesuffix(".mp4").removesuffix(".webm") in text
    for name in present - set(report.broken):
        assert frames_and_size(tmp_path / name) == (4, 48, 36)
    for name in set(report.broken) - set(empty):
        try:
            assert frames_and_size(tmp_path / name)[0] < 4
        except av.error.InvalidDataError:
            continue  # an mp4 without its index
    assert not list(tmp_path.rglob(".*")), "nothing is left over"


def test_everything_missing_or_everything_broken(tmp_path: Path) -> None:
    gone = small("kinetics-flat", tmp_path / "gone", missing=1.0)
    assert gone.videos == 0
    assert not videos(tmp_path / "gone")
    hurt = small("kinetics-flat", tmp_path / "hurt", broken=1.0)
    assert len(hurt.broken) == len(videos(tmp_path / "hurt")) == 30
    assert not list((tmp_path / "hurt").glob(".*"))


# --- arguments ---------------------------------------------------------------------------------------------


def test_next_command_can_be_pasted(tmp_path: Path) -> None:
    report = small("kinetics", tmp_path / "my data")
    assert report.next_command == f"vidkit build-dataset k400 --kinetics '{tmp_path}/my data'"
    assert {kind: what.command.split()[2:] for kind, what in KINDS.items() if "kinetics-" not in kind} == {
        "kinetics": ["k400", "--kinetics"],
        "minikinetics": ["minikinetics-200", "--minikinetics"],
        "ssv2": ["ssv2", "--ssv2"],
        "tinyvirat-v1": ["tinyvirat", "--tinyvirat"],
        "tinyvirat-v2": ["tinyvirat", "--tinyvirat"],
        "ucf101": ["ucf101", "--ucf101"],
        "hmdb51": ["hmdb51", "--hmdb51"],
        "demo": ["demo", "--demo"],
        "motions": ["motions", "--motions"],
    }


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"exists and is not empty\n.*name a new folder"):
        small("kinetics", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="exists and is not empty"):
        small("kinetics", tmp_path / "thesis.txt")


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("kinetix", {}, "unknown kind 'kinetix'; expected one of kinetics, "),
        ("kinetics", {"clips": 0}, "clips is 0; expected at least 1"),
        ("kinetics", {"classes": 401}, "classes is 401; expected 1 to 400 for kinetics"),
        ("minikinetics", {"classes": 201}, "classes is 201; expected 1 to 200 for minikinetics"),
        ("kinetics", {"clips": 5, "classes": 6}, "clips is 5; expected at least one for each of 6 classes"),
        ("tinyvirat-v1", {"classes": 118}, "1 to 26 for tinyvirat-v1 .its labels; label_sets counts their sets."),
        ("tinyvirat-v1", {"label_sets": 3000, "classes": 26}, "label_sets is 3000; 26 labels make 1 to 2951 sets"),
        ("kinetics", {"label_sets": 3}, "label_sets is 3; expected nothing; it has no meaning for kinetics"),
        ("ssv2", {"underscores": True}, "underscores is True; expected nothing; it has no meaning for ssv2"),
        ("ssv2", {"audio": True}, "audio is True; expected nothing; it has no meaning for ssv2"),
        ("demo", {"missing": 0.1}, "missing is 0.1; expected 0; demo has no annotations"),
        ("kinetics-bare-ids", {"extra": 1}, "extra is 1; expected 0; kinetics-bare-ids has no annotations"),
        ("kinetics", {"missing": 0.7, "broken": 0.7}, r"missing \+ broken is 1.4; expected at most 1"),
        ("kinetics", {"broken": -0.1}, "broken is -0.1; expected a part between 0 and 1"),
        ("kinetics", {"seed": -1}, "seed is -1; expected 0 or more"),
        ("kinetics", {"workers": 0}, "workers is 0; expected at least 1"),
        ("kinetics", {"annotations": "../x"}, "annotations is '../x'; expected a folder below the output folder"),
        ("kinetics", {"size": (4, 4)}, "cannot draw 4 frames of 4x4"),
    ],
)
def test_bad_arguments_are_named(kind: str, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        small(kind, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_all_faults_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clips is 0.*; seed is -2.*; workers is 0"):
        small("kinetics", tmp_path / "out", clips=0, seed=-2, workers=0)


# --- sharing out -------------------------------------------------------------------------------------------


def test_apportion_sums_and_stays_within_one_of_the_share() -> None:
    for total in (0, 1, 7, 100, 12098):
        for weights in ([1.0], [1, 1, 1], [0.8, 0.1, 0.1], [1 / (k + 1) for k in range(118)], [0, 3, 0]):
            counts = apportion(total, weights)
            assert sum(counts) == total
            assert all(abs(n - total * w / sum(weights)) < 1 for n, w in zip(counts, weights, strict=True))


def test_small_classes_reach_every_split_they_can() -> None:
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    assert split_counts(1, shares) == ["train"]
    assert split_counts(2, shares) == ["train", "val"]
    assert split_counts(3, shares) == ["train", "val", "test"]
    assert Counter(split_counts(20, shares)) == {"train": 16, "val": 2, "test": 2}


def test_shared_videos_never_cross_their_key_and_all_are_used() -> None:
    keys = [("train" if i % 3 else "val", i % 7) for i in range(200)]
    for distinct in (14, 15, 99, 199, 200, 1000, None):
        shown = share_videos(keys, distinct)
        assert set(shown) == set(range(min(distinct or 200, 200)))
        key_of = dict(zip(shown, keys, strict=True))
        assert all(key_of[video] == key for video, key in zip(shown, keys, strict=True))

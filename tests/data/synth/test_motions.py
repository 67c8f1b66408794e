"""Generated motion clips: the class is in the motion and nowhere else, and the set can be made and built."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from tests.cli.typed import Run, vidkit  # noqa: F401
from tests.data.synth.generated import files, frames_and_size, videos
from tests.reference.ref_motion import motion_features, nearest_mean_accuracy, still_features
from vidkit.data.dataset import read_facts
from vidkit.data.synth.clips import ClipLook
from vidkit.data.synth.layouts import write_layout
from vidkit.data.synth.motions import FPS, FRAMES, MOTIONS, NAMES, SIZE, class_name, course, draw, places
from vidkit.errors import ConfigError


def look(class_index: int, size: int = SIZE, frames: int = FRAMES) -> ClipLook:
    return ClipLook(class_index=class_index, width=size, height=size, frames=frames, fps=FPS)


# --- classes -----------------------------------------------------------------------------------------


def test_there_are_48_motions_with_names_that_can_be_folders() -> None:
    assert len(NAMES) == len(MOTIONS) == 48
    assert all(name == name.strip().lower() and "/" not in name for name in NAMES)
    assert [class_name(i) for i in range(48)] == list(NAMES)
    for bad in (-1, 48):
        with pytest.raises(ConfigError, match=f"there is no motion {bad}; expected 0 to 47"):
            class_name(bad)


@pytest.mark.parametrize("index", range(48), ids=NAMES)
def test_every_course_begins_at_nothing_and_stays_within_bounds(index: int) -> None:
    for seed in range(20):
        found = course(index, FRAMES, np.random.default_rng(seed))
        every = (found.x, found.y, found.angle, found.growth)
        assert all(values.shape == (FRAMES,) and abs(values[0]) < 1e-12 for values in every)
        step = np.hypot(np.diff(found.x), np.diff(found.y)) * SIZE
        assert step.max() < 8, "a shape that jumps further than its own radius is no motion"
        moved = max(np.ptp(found.x), np.ptp(found.y))
        assert moved > 0.2 or np.ptp(found.angle) > 1 or np.ptp(found.growth) > 0.3
        assert np.exp(np.ptp(found.growth)) < 2.1


def test_directions_and_turns_are_what_the_names_say() -> None:
    for seed in range(10):
        courses = {name: course(i, FRAMES, np.random.default_rng(seed)) for i, name in enumerate(NAMES)}
        for name, (x, y) in {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}.items():
            for kind in ("moving", "accelerating", "braking", "stop and go", "zigzagging"):
                end = courses[f"{kind} {name}"]
                assert x * end.x[-1] + y * end.y[-1] > 0.38, f"{kind} {name}"
            half = FRAMES // 2
            way = {
                kind: np.hypot(courses[f"{kind} {name}"].x, courses[f"{kind} {name}"].y)
                for kind in ("moving", "accelerating", "braking")
            }
            parts = {kind: values[half] / values[-1] for kind, values in way.items()}
            assert parts["accelerating"] < 0.35 < parts["moving"] < 0.65 < parts["braking"]
        for name, sign in {"clockwise": 1, "anticlockwise": -1}.items():
            circle, spin = courses[f"circling {name}"], courses[f"spinning {name}"]
            # with y downwards, the turn to the right has a positive cross product
            cross = np.diff(circle.x)[:-1] * np.diff(circle.y)[1:] - np.diff(circle.y)[:-1] * np.diff(circle.x)[1:]
            assert (np.sign(cross) == sign).all()
            assert sign * spin.angle[-1] > 4
        first, last = courses["right then up"], courses["right then up"]
        assert first.y[FRAMES // 3] == 0
        assert last.x[-1] == pytest.approx(last.x[-FRAMES // 3])
        stood = np.hypot(np.diff(courses["stop and go up"].x), np.diff(courses["stop and go up"].y)) < 1e-9
        assert 0.3 < stood.mean() < 0.6


# --- what tells a class ------------------------------------------------------------------------------


def test_the_first_frame_is_the_same_whatever_the_class() -> None:
    for index in range(3):
        firsts = [draw(look(c, frames=2), seed=5, index=index)[0] for c in (0, 8, 12, 17, 24, 39, 47)]
        assert all((one == firsts[0]).all() for one in firsts)
    assert (draw(look(0), seed=5, index=0)[0] != draw(look(0), seed=5, index=1)[0]).any()
    assert (draw(look(0), seed=5, index=0)[0] != draw(look(0), seed=6, index=0)[0]).any()


def test_places_are_where_the_shape_is() -> None:
    """Against the scene without its mover: what differs lies within the radius, and there is much of it."""
    from vidkit.data.synth.motions_scene import draw_scene

    for index in range(4):
        which = look(7 * index)
        clip = draw(which, seed=2, index=index).astype(int)
        scene = draw_scene(np.random.default_rng([2, index, 101]), SIZE, SIZE, FRAMES)
        for t, (x, y, radius) in enumerate(places(which, seed=2, index=index)):
            empty = np.roll(scene.still.astype(int), -scene.shake[t], axis=(0, 1))
            there = np.argwhere(np.abs(clip[t] - empty).max(axis=2) > 12)
            away = np.abs(there + 0.5 - (y, x))
            away = np.minimum(away, SIZE - away)
            distance = np.hypot(away[:, 0], away[:, 1])
            assert len(there) > 8
            assert distance.max() < 1.45 * radius + 1


def test_most_of_a_clip_stands_still() -> None:
    """What differs from the clip's own median, after the camera's shaking, is where the shape goes."""
    shares = []
    for index in range(12):
        clip = draw(look(index * 4), seed=1, index=index)
        sizes = motion_features(clip)[-FRAMES:]
        shares.append(sizes.mean())
    assert 0.005 < np.mean(shares) < 0.12


def test_motion_tells_the_class_and_the_pictures_do_not() -> None:
    # those whose mean course is one of the class: the mean of circles and swings of any phase is no motion
    classes, each = (
        tuple(range(8)) + tuple(NAMES.index(name) for name in ("growing", "shrinking", "up then left")),
        14,
    )
    clips = {(c, k): draw(look(c), seed=3, index=1000 * c + k) for c in classes for k in range(each)}
    labels = {half: [c for c, k in clips if k % 2 == half] for half in (0, 1)}

    def accuracy(features: Any) -> float:
        train, test = (
            np.stack([features(clip) for (_, k), clip in clips.items() if k % 2 == half]) for half in (0, 1)
        )
        return nearest_mean_accuracy(train, labels[0], test, labels[1])

    chance = 1 / len(classes)
    assert accuracy(still_features) < 2.2 * chance  # 77 clips: that is three standard errors above chance
    assert accuracy(lambda clip: np.concatenate([clip[0].ravel(), clip[-1].ravel()]) / 255) < 2.2 * chance
    assert accuracy(motion_features) > 7 * chance


# --- files -------------------------------------------------------------------------------------------


def test_clips_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for workers in (1, 2):
        report = write_layout(
            "motions",
            tmp_path / str(workers),
            clips=20,
            classes=4,
            seed=7,
            workers=workers,
            progress=lambda done, of: seen.append((done, of)),
        )
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert seen == [(done, 20) for done in range(1, 21)] * 2
    assert report.classes == NAMES[:4]
    write_layout("motions", tmp_path / "other", clips=20, classes=4, seed=8)
    assert not set(files(tmp_path / "1").values()) & set(files(tmp_path / "other").values())
    assert frames_and_size(tmp_path / "1" / min(videos(tmp_path / "1"))) == (FRAMES, SIZE, SIZE)


def test_classes_are_balanced_in_each_split() -> None:
    from vidkit.data.synth.layouts import KINDS
    from vidkit.data.synth.plan import Request

    plan = KINDS["motions"].plan(Request(kind="motions", clips=10_000, classes=40, seed=0))
    counts = Counter(tuple(clip.path.split("/")[:2]) for clip in plan.clips)
    assert {split: {n for (s, _), n in counts.items() if s == split} for split in ("train", "val", "test")} == {
        "train": {175},
        "val": {38},
        "test": {37},
    }
    assert len({clip.video for clip in plan.clips}) == 10_000


def test_the_spec_builds(vidkit: Run, tmp_path: Path) -> None:  # noqa: F811
    got = vidkit("synth", "motions", "--out", tmp_path / "m", "--clips", "40", "--classes", "4", "--size", "64")
    assert got.code == 0
    assert f"next: vidkit build-dataset motions --motions {tmp_path / 'm'}" in got.out
    out = tmp_path / "built"
    got = vidkit("build-dataset", "motions", "--motions", tmp_path / "m", "--out", out, "--workers", "1")
    assert got.code == 0, got.err
    built = read_facts(out)
    assert built["label_map"]["classes"] == sorted(NAMES[:4])
    assert built["counts"]["ok"] == 40
    rows = pyarrow.parquet.read_table(out / "clips.parquet").to_pylist()
    assert Counter(row["split"] for row in rows) == {"train": 28, "val": 8, "test": 4}
    assert {row["frames"] for row in rows} == {FRAMES}
    assert {(row["width"], row["height"]) for row in rows} == {(64, 64)}
    groups = [row["group"] for row in rows]
    assert all(group is None for group in groups) or len(set(groups)) == 40
    assert built["leaks"] == []


def test_without_its_folder_the_spec_says_how_to_give_it(vidkit: Run) -> None:  # noqa: F811
    got = vidkit("build-dataset", "motions")
    assert got.code == 2
    assert "-> give folders: vidkit build-dataset motions --motions DIR" in got.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "classes is 1; expected 2 to 48 for motions"),
        ({"classes": 49}, "classes is 49; expected 2 to 48 for motions"),
        ({"clips": 3, "classes": 4}, "clips is 3; expected at least one for each of 4 classes"),
        ({"size": (31, 64)}, r"size is 31x64; expected sides of at least 32 pixels for motions"),
        ({"missing": 0.1}, "missing is 0.1; expected 0; motions has no annotations"),
        ({"audio": True}, "audio is True; expected nothing; it has no meaning for motions"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        write_layout("motions", tmp_path / "out", **{"clips": 8, "classes": 4, **arguments})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("frames", "size"), [(1, 64), (2, 32), (16, 96)])
def test_other_lengths_and_sizes(frames: int, size: int) -> None:
    for c in itertools.islice(range(48), 0, None, 7):
        clip = draw(look(c, size=size, frames=frames))
        assert clip.shape == (frames, size, size, 3)

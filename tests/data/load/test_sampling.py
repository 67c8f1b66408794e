"""Frame choice against slow references, and draws that depend on nothing but their key."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.reference import ref_loader as ref
from vidkit.data.load.augment import Augment, Box
from vidkit.data.load.sampling import (
    Sampling,
    draw,
    is_training,
    random_start,
    sample_rng,
    segments,
    strided,
    uniform_starts,
)
from vidkit.errors import ConfigError

COUNTS = [1, 2, 3, 7, 15, 16, 17, 31, 60, 61, 62, 100, 300]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("frames", "stride"), [(16, 4), (8, 1), (1, 5), (5, 7)])
def test_strided(count: int, frames: int, stride: int) -> None:
    for start in {0, count // 2, count - 1}:
        assert strided(count, start, frames, stride).tolist() == ref.strided(count, start, frames, stride)


@pytest.mark.parametrize("count", [1, 5, 10, 11, 12, 30])
def test_random_starts_reach_every_start_and_no_other(count: int) -> None:
    frames, stride = 4, 3  # 10 frames in all
    expected = ref.possible_starts(count, frames, stride)
    seen = Counter(
        tuple(random_start(count, frames, stride, sample_rng(0, 0, i, 0, 0)).tolist())
        for i in range(60 * len(expected))
    )
    assert set(seen) == {tuple(ref.strided(count, start, frames, stride)) for start in expected}
    assert min(seen.values()) > 25, "each of them about 60 times"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("frames", [1, 4, 8, 16])
def test_segments(count: int, frames: int) -> None:
    assert segments(count, frames, 0.5).tolist() == ref.segment_middles(count, frames)
    choices = ref.segment_choices(count, frames)
    seen: list[set[int]] = [set() for _ in range(frames)]
    for i in range(300 if count <= 31 else 20):
        found = segments(count, frames, np.random.default_rng(i).random(frames)).tolist()
        assert all(a in allowed for a, allowed in zip(found, choices, strict=True))
        assert found == sorted(found)
        for each, a in zip(seen, found, strict=True):
            each.add(a)
    if count <= 31:
        assert seen == choices, "every frame of a segment can come"


def test_uniform_views_cover_the_clip_evenly() -> None:
    views = uniform_starts(100, 16, 4, 4)
    assert views[:, 0].tolist() == [0, 13, 26, 39]
    assert views[-1, -1] == 99
    assert uniform_starts(100, 16, 4, 1)[0, 0] == 19, "one view lies in the middle"
    for count in COUNTS:
        for k in (1, 2, 3, 10):
            found = uniform_starts(count, 16, 4, k)
            room = max(ref.possible_starts(count, 16, 4))
            assert found.shape == (k, 16)
            assert (np.diff(found[:, 0]) >= 0).all()
            for row in found:
                assert row.tolist() == ref.strided(count, int(row[0]), 16, 4)
            if k > 1:
                assert (found[0, 0], found[-1, 0]) == (0, room)


def test_short_clips_end_with_their_last_frame_again() -> None:
    drawn = draw(Sampling(frames=8, stride=4, size=32), 10, 64, 64, (0, 0, 0, 0))
    assert drawn.indices.tolist() == [[0, 4, 8, 9, 9, 9, 9, 9]]
    test = Sampling(frames=8, stride=4, size=32, mode="views", training=False, views=(3, 1))
    assert draw(test, 10, 64, 64, (0, 0, 0, 0)).indices.tolist() == [[0, 4, 8, 9, 9, 9, 9, 9]] * 3
    assert draw(test, 1, 64, 64, (0, 0, 0, 0)).indices.tolist() == [[0] * 8] * 3


def test_a_draw_depends_on_its_key_alone() -> None:
    sampling = Sampling(frames=8, stride=2, size=32, repeats=2, flip=True)

    def told(*key: int) -> tuple[object, ...]:
        drawn = draw(sampling, 90, 64, 80, (key[0], key[1], key[2], key[3]))
        return drawn.indices.tolist(), drawn.boxes, [rng.random() for rng in drawn.rngs]

    base = told(1, 2, 3, 0)
    assert told(1, 2, 3, 0) == base
    np.random.seed(5)  # global generators must have no part in it
    assert told(1, 2, 3, 0) == base
    for other in ((2, 2, 3, 0), (1, 3, 3, 0), (1, 2, 4, 0), (1, 2, 3, 1)):
        assert told(*other) != base
    boxes = base[1]
    assert isinstance(boxes, tuple)
    assert boxes[0] != boxes[1], "each row has its own crop"


def test_more_repeats_do_not_change_the_first_row() -> None:
    one = draw(Sampling(size=32, repeats=1), 90, 64, 80, (0, 1, 2, 0))
    three = draw(Sampling(size=32, repeats=3), 90, 64, 80, (0, 1, 2, 0))
    assert three.indices.tolist() == one.indices.tolist()
    assert three.boxes[0] == one.boxes[0]
    assert three.which == (0, 0, 0)


def test_views_are_temporal_times_spatial() -> None:
    sampling = Sampling(frames=4, stride=2, mode="views", training=False, views=(2, 3), size=64)
    drawn = draw(sampling, 30, 64, 100, (0, 0, 0, 0))
    assert sampling.rows == 6
    assert drawn.which == (0, 0, 0, 1, 1, 1)
    assert drawn.boxes == (Box(0, 0, 64, 64), Box(0, 18, 64, 64), Box(0, 36, 64, 64)) * 2
    assert drawn.indices[:, 0].tolist() == [0, 23]
    again = draw(sampling, 30, 64, 100, (9, 9, 9, 0))
    assert (again.indices == drawn.indices).all(), "nothing in a test is random"
    assert (again.boxes, again.rngs) == (drawn.boxes, ())


def test_segments_of_a_test_with_several_views() -> None:
    sampling = Sampling(frames=4, mode="segments", training=False, views=(2, 1), size=64)
    assert draw(sampling, 16, 64, 64, (0, 0, 0, 0)).indices.tolist() == [[1, 5, 9, 13], [3, 7, 11, 15]]


def test_the_dataset_has_the_last_word_on_flips() -> None:
    often = Augment(flip=1.0)
    for allowed in (True, False):
        sampling = Sampling(size=32, augment=often, flip=allowed, repeats=4)
        boxes = [box for i in range(50) for box in draw(sampling, 30, 64, 64, (0, 0, i, 0)).boxes]
        assert {box.flip for box in boxes} == {allowed}
    half = Sampling(size=32, flip=True, repeats=400)
    flips = [box.flip for box in draw(half, 30, 64, 64, (0, 0, 0, 0)).boxes]
    assert 150 < sum(flips) < 250


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(frames=0, stride=-1, views=(2, 0), crop_share=1.5, mode="train", training=False, repeats=2)
    for words in (
        "frames is 0",
        "stride is -1",
        "views is (2, 0)",
        "crop_share is 1.5",
        "training is False",
        "repeats is 2",
    ):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match=r"views is \(2, 1\); expected \(1, 1\) in training"):
        Sampling(views=(2, 1))
    with pytest.raises(ConfigError, match="training=True or training=False"):
        is_training("segments", None)
    assert is_training("train", None)
    assert not is_training("views", None)
    assert is_training("segments", True)

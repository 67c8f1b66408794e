"""Crops, flips, RandAugment, erasing, normalisation: against slow references, and as properties."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from tests.indexclips import indexed_frame
from tests.reference import ref_loader as ref
from vidkit.data.load.augment import (
    AUGMENTS,
    Augment,
    Box,
    augment_row,
    crop_resize,
    crop_resize_batch,
    draw_box,
    erase,
    named_augment,
    normalise,
    view_box,
)
from vidkit.data.load.randaugment import OPERATIONS, rand_augment
from vidkit.errors import ConfigError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def frames(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(T, H, W, 3): smooth enough to be scaled, and different everywhere."""
    coarse = rng(seed).integers(0, 256, (count, height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return torch.from_numpy(np.repeat(np.repeat(coarse, 4, 1), 4, 2)[:, :height, :width].copy())


# --- boxes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (256, 340), (340, 256), (20, 200), (3, 2), (1, 1)])
@pytest.mark.parametrize("crop", ["random-resized", "multi-scale", "none"])
def test_boxes_lie_in_the_picture(crop: str, height: int, width: int) -> None:
    augment = Augment(crop=crop)  # type: ignore[arg-type]
    for i in range(200):
        box = draw_box(augment, height, width, rng(i), flip=True)
        assert box.height >= 1
        assert box.width >= 1
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width


def test_random_resized_crops_have_the_areas_and_aspects_asked_for() -> None:
    augment = Augment(scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3))
    boxes = [draw_box(augment, 240, 320, rng(i), flip=False) for i in range(2000)]
    areas = np.array([box.height * box.width / (240 * 320) for box in boxes])
    aspects = np.array([box.width / box.height for box in boxes])
    assert 0.49 < areas.min() < 0.52
    assert 0.95 < areas.max() <= 1
    assert aspects.min() > 0.74
    assert aspects.max() < 1.35
    # a tall box that is as large as the picture does not fit and is drawn anew, so aspects lean to the wide side
    assert abs(np.log(aspects).mean()) < 0.15


def test_random_resized_crops_are_distributed_as_torchvisions() -> None:
    from torchvision.transforms.v2 import RandomResizedCrop

    theirs = RandomResizedCrop(64, scale=(0.3, 1.0), ratio=(0.5, 2.0))
    picture = torch.zeros((3, 60, 90), dtype=torch.uint8)
    torch.manual_seed(0)
    expected = [theirs.make_params([picture]) for _ in range(3000)]
    augment = Augment(scale=(0.3, 1.0), ratio=(0.5, 2.0))
    found = [draw_box(augment, 60, 90, rng(i), flip=False) for i in range(3000)]
    for ours, name in zip(("top", "left", "height", "width"), ("top", "left", "height", "width"), strict=True):
        a = np.sort([getattr(box, ours) for box in found])
        b = np.sort([params[name] for params in expected])
        assert np.abs(np.quantile(a, [0.1, 0.5, 0.9]) - np.quantile(b, [0.1, 0.5, 0.9])).max() <= 4, name
        assert abs(a.mean() - b.mean()) < 1.5, name


def test_crops_that_never_fit_fall_back_to_the_middle() -> None:
    augment = Augment(scale=(0.9, 1.0), ratio=(0.9, 1.1))
    assert draw_box(augment, 20, 200, rng(), flip=False) == Box(0, 89, 20, 22)
    assert draw_box(augment, 200, 20, rng(), flip=False) == Box(89, 0, 22, 20)


def test_multi_scale_crops() -> None:
    boxes = [draw_box(Augment(crop="multi-scale"), 256, 340, rng(i), flip=False) for i in range(4000)]
    sides = [256, 224, 192, 168]
    pairs = Counter((box.height, box.width) for box in boxes)
    assert set(pairs) == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert min(pairs.values()) > 300, "each of 10 pairs about 400 times"
    places = Counter((box.top, box.left) for box in boxes if (box.height, box.width) == (224, 224))
    assert set(places) == {(8 * y, 29 * x) for y in range(5) for x in range(5) if (x + y) % 2 == 0}


def test_view_boxes() -> None:
    assert [view_box(256, 340, s, 3) for s in range(3)] == [
        Box(0, 0, 256, 256),
        Box(0, 42, 256, 256),
        Box(0, 84, 256, 256),
    ]
    assert [view_box(100, 64, s, 3).top for s in range(3)] == [0, 18, 36]
    assert view_box(256, 340, 0, 1) == Box(0, 42, 256, 256)
    assert view_box(256, 256, 0, 1, 0.875) == Box(16, 16, 224, 224)
    assert [view_box(64, 64, s, 3, 0.75) for s in range(3)] == [Box(8, x, 48, 48) for x in (0, 8, 16)]


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [Box(0, 0, 40, 50), Box(3, 5, 30, 30), Box(7, 2, 13, 45), Box(10, 10, 9, 11, True)])
def test_scaling_against_a_plain_double_loop(box: Box) -> None:
    video = frames(2, 40, 50)
    found = crop_resize(video, box, 24).permute(0, 2, 3, 1).numpy()
    batched = crop_resize_batch(video[None], [box], 24)[0].permute(1, 2, 3, 0).numpy()
    for t in range(2):
        cut = video[t, box.top : box.top + box.height, box.left : box.left + box.width].numpy()
        expected = ref.resize_bilinear(cut.astype(np.float64), 24)
        if box.flip:
            expected = expected[:, ::-1]
        assert np.abs(batched[t] - expected).max() <= 0.501, "rounded once"
        assert np.abs(found[t] - expected).max() <= 1.01, "torch rounds after rows and after columns"


def test_scaling_is_torchvisions() -> None:
    from torchvision.transforms.v2 import functional

    video = frames(3, 50, 70)
    for box in (Box(0, 0, 50, 70), Box(5, 9, 31, 33), Box(1, 1, 16, 20)):
        cut = video.permute(0, 3, 1, 2)[..., box.top : box.top + box.height, box.left : box.left + box.width]
        assert torch.equal(crop_resize(video, box, 32), functional.resize(cut, [32, 32], antialias=True))


def test_a_crop_of_the_right_size_keeps_its_pixels() -> None:
    video = frames(3, 40, 50)
    for flip in (False, True):
        box = Box(4, 9, 32, 32, flip)
        expected = video[:, 4:36, 9:41]
        expected = expected.flip(2) if flip else expected
        assert torch.equal(crop_resize(video, box, 32).permute(0, 2, 3, 1), expected)
        assert torch.equal(crop_resize_batch(video[None], [box], 32)[0].permute(1, 2, 3, 0), expected)


def test_batched_crops_are_those_of_each_clip_alone() -> None:
    videos = torch.stack([frames(4, 48, 64, seed) for seed in range(6)])
    boxes = [draw_box(Augment(), 48, 64, rng(i), flip=True) for i in range(6)]
    together = crop_resize_batch(videos, boxes, 32)
    assert together.shape == (6, 3, 4, 32, 32)
    assert together.is_contiguous()
    for i, box in enumerate(boxes):
        alone = crop_resize(videos[i], box, 32).permute(1, 0, 2, 3)
        assert (together[i].int() - alone.int()).abs().max() <= 1


def test_large_batches_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = torch.stack([frames(4, 48, 64, seed) for seed in range(7)])
    boxes = [Box(i, i, 30, 40) for i in range(7)]
    whole = crop_resize_batch(videos, boxes, 8)
    monkeypatch.setattr("vidkit.data.load.augment.PIECE_BYTES", 3 * 4 * videos[0].numel() + 1)
    assert torch.equal(crop_resize_batch(videos, boxes, 8), whole)
    monkeypatch.setattr("vidkit.data.load.augment.PIECE_BYTES", 1)
    assert torch.equal(crop_resize_batch(videos, boxes, 8), whole)


# --- RandAugment and erasing ---------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("layout", ["channels last", "contiguous"])
def test_operations_treat_all_frames_alike(name: str, layout: str) -> None:
    picture = frames(1, 40, 48).permute(0, 3, 1, 2)
    video = picture.expand(5, -1, -1, -1)
    video = video.contiguous(memory_format=torch.channels_last) if layout == "channels last" else video.contiguous()
    before = video.clone()
    for v in (0.0, 0.5, 1.0):
        for sign in (1, -1):
            found = OPERATIONS[name](video, v, sign)
            assert found.dtype == torch.uint8
            assert found.shape == video.shape
            assert (found == found[:1]).all(), "equal frames stay equal"
            assert torch.equal(video, before), "the input is left alone"


def test_strengths_are_those_of_the_papers() -> None:
    """timm's operations on PIL pictures, at the same strength, give the same pictures."""
    from PIL import Image
    from timm.data import auto_augment as timm_ops

    picture = frames(1, 200, 200)  # a translation is then a whole number of pixels
    image = Image.fromarray(picture[0].numpy())
    video = picture.permute(0, 3, 1, 2)
    v = 0.9
    how = {"fillcolor": (124, 116, 104), "resample": Image.Resampling.BILINEAR}
    expected = {
        "AutoContrast": timm_ops.auto_contrast(image),
        "Equalize": timm_ops.equalize(image),
        "Invert": timm_ops.invert(image),
        "Posterize": timm_ops.posterize(image, timm_ops._posterize_increasing_level_to_arg(10 * v, {})[0]),
        "Solarize": timm_ops.solarize(image, timm_ops._solarize_increasing_level_to_arg(10 * v, {})[0]),
        "SolarizeAdd": timm_ops.solarize_add(image, timm_ops._solarize_add_level_to_arg(10 * v, {})[0]),
        "Color": timm_ops.color(image, 1 + 0.9 * v),
        "Contrast": timm_ops.contrast(image, 1 + 0.9 * v),
        "Brightness": timm_ops.brightness(image, 1 + 0.9 * v),
        "Sharpness": timm_ops.sharpness(image, 1 + 0.9 * v),
        "Rotate": timm_ops.rotate(image, 30 * v, **how),
        "ShearX": timm_ops.shear_x(image, 0.3 * v, **how),
        "ShearY": timm_ops.shear_y(image, 0.3 * v, **how),
        "TranslateX": timm_ops.translate_x_rel(image, -0.45 * v, **how),
        "TranslateY": timm_ops.translate_y_rel(image, -0.45 * v, **how),
    }
    assert set(expected) == set(OPERATIONS)
    for name, theirs in expected.items():
        found = OPERATIONS[name](video, v, 1)[0].permute(1, 2, 0).numpy().astype(int)
        off = np.abs(found - np.asarray(theirs).astype(int))
        geometric = name in ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
        # where nothing is there the edge is mixed with the fill, or not; colours may be rounded the other way
        assert (off > 2).mean() < (0.1 if geometric else 0.02), name


def test_rand_augment_repeats_itself_and_varies() -> None:
    video = frames(3, 32, 32).permute(0, 3, 1, 2)
    found = [rand_augment(video, rng(i)) for i in range(40)]
    for i in range(40):
        assert torch.equal(found[i], rand_augment(video, rng(i)))
    same = sum(torch.equal(each, video) for each in found)
    assert 2 <= same <= 22, "two operations, each left out half of the time: a quarter is unchanged"


def test_erasing_replaces_one_rectangle_in_all_frames() -> None:
    video = torch.full((4, 3, 50, 60), 7, dtype=torch.uint8)
    shares = []
    for i in range(60):
        found = erase(video, rng(i))
        changed = (found != 7).any(1)  # (T, H, W)
        where = changed.any(0).nonzero()
        (top, left), (bottom, right) = where.min(0).values.tolist(), where.max(0).values.tolist()
        inside = changed[:, top : bottom + 1, left : right + 1].float().mean()
        assert inside > 0.95, "noise everywhere in it"
        assert not torch.equal(found[0], found[1]), "of its own in each frame"
        shares.append((bottom + 1 - top) * (right + 1 - left) / 3000)
        assert torch.equal(found, erase(video, rng(i)))
    assert 0.015 < min(shares) < 0.1
    assert 0.25 < max(shares) < 0.36
    noise = erase(torch.zeros((16, 3, 64, 64), dtype=torch.uint8), rng(3)).float()
    means = [noise[:, c][noise.sum(1) > 0].mean().item() for c in range(3)]
    assert means == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255], abs=4)


def test_probability_of_erasing() -> None:
    video = torch.full((1, 3, 32, 32), 7, dtype=torch.uint8)
    changed = sum(not torch.equal(augment_row(video, Augment(erase=0.25), rng(i)), video) for i in range(400))
    assert 70 < changed < 130
    assert all(torch.equal(augment_row(video, Augment(), rng(i)), video) for i in range(20))


# --- the rest ------------------------------------------------------------------------------------


def test_normalise() -> None:
    video = frames(4, 16, 16).permute(3, 0, 1, 2)[None]  # channels last in memory
    found = normalise(video)
    assert found.is_contiguous()
    for c, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        expected = (video[0, c].double() / 255 - mean) / std
        assert (found[0, c] - expected).abs().max() < 1e-6
    half = normalise(video, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, found.to(torch.bfloat16)), "rounded once, at the end"
    ones = normalise(torch.full((1, 3, 2, 4, 4), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)
    assert (ones - 1).abs().max() < 1e-6


def test_a_frames_number_survives_a_crop() -> None:
    """The pictures that other tests read numbers from."""
    from tests.indexclips import read_index

    video = torch.from_numpy(np.stack([indexed_frame(i, 80, 64) for i in (5, 300)]))
    found = crop_resize(video, view_box(64, 80, 0, 1), 48).permute(0, 2, 3, 1).numpy()
    assert [read_index(frame) for frame in found] == [5, 300]


def test_named_settings() -> None:
    assert set(AUGMENTS) == {"none", "pretrain", "pretrain-multi-scale", "finetune"}
    for name in AUGMENTS:
        assert isinstance(named_augment(name), Augment)
    own = Augment(flip=0.25)
    assert named_augment(own) is own
    with pytest.raises(ConfigError, match="augment is 'cutout'; expected one of none, pretrain"):
        named_augment("cutout")


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Augment(crop="five", scale=(0.9, 0.5), ratio=(0, 1), scales=(), flip=2, rand_ops=-1, rand_magnitude=30)  # type: ignore[arg-type]
    for words in (
        "crop is 'five'",
        "scale is (0.9, 0.5)",
        "ratio is (0, 1)",
        "scales is ()",
        "flip is 2",
        "rand_magnitude is 30",
    ):
        assert words in str(caught.value)
    assert math.isclose(Augment().ratio[1], 4 / 3)

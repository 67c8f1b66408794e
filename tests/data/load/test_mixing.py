"""Mixup and CutMix: what comes out is what the targets say, in every frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidkit.data.load.mixing import BatchMix
from vidkit.errors import ConfigError


def clips(count: int) -> torch.Tensor:
    """(B, C, T, H, W): clip b is b everywhere, so a mixed pixel tells its parts."""
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1, 1).expand(count, 3, 4, 10, 12).contiguous()


LABELS = torch.tensor([2, 0, 1, 1, 3, 0])
HOT = torch.nn.functional.one_hot(LABELS, 4).float()


def test_mixup_is_a_weighted_mean_of_pixels_and_labels() -> None:
    mix = BatchMix(classes=4, cutmix=0, smoothing=0)
    weights = []
    for step in range(50):
        video, targets = mix(clips(6), LABELS, (0, step, 0))
        first = (video[0, 0, 0, 0, 0] / 5).item()  # clip 0 is mixed with clip 5: 0 * w + 5 * (1 - w)
        w = 1 - first
        weights.append(w)
        for b in range(6):
            assert (video[b] - (w * b + (1 - w) * (5 - b))).abs().max() < 1e-5
            assert (targets[b] - (w * HOT[b] + (1 - w) * HOT[5 - b])).abs().max() < 1e-5
    assert min(weights) < 0.1
    assert max(weights) > 0.9


def test_cutmix_is_one_rectangle_in_all_frames_and_the_targets_say_how_large() -> None:
    mix = BatchMix(classes=4, mixup=0, smoothing=0)
    partial = 0
    for step in range(50):
        video, targets = mix(clips(6), LABELS, (0, step, 0))
        for b in range(6):
            other = video[b] == 5 - b
            assert (other | (video[b] == b)).all(), "a pixel is of one clip or of the other"
            assert (other == other[:1, :1]).all(), "the same place in all channels and frames"
            share = other[0, 0].float().mean()
            assert (targets[b] - ((1 - share) * HOT[b] + share * HOT[5 - b])).abs().max() < 1e-5
            rows, columns = other[0, 0].any(1).sum(), other[0, 0].any(0).sum()
            assert other[0, 0].sum() == rows * columns
            partial += 0 < share < 1
    assert partial > 200


def test_a_choice_depends_on_its_key_alone() -> None:
    mix = BatchMix(classes=4)
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    base = mix(clips(6), LABELS, (1, 2, 0))
    assert np.random.get_state()[1].tolist() == before, "numpy's own generator is put back"
    np.random.seed(4)
    again = mix(clips(6), LABELS, (1, 2, 0))
    assert torch.equal(base[0], again[0])
    assert torch.equal(base[1], again[1])
    for key in ((2, 2, 0), (1, 3, 0), (1, 2, 1)):
        assert not torch.equal(mix(clips(6), LABELS, key)[0], base[0])
    video = clips(6)
    assert mix(video, LABELS, (0, 0))[0] is video, "in place"


def test_both_are_used() -> None:
    mix = BatchMix(classes=4)
    kinds = [bool((mix(clips(2), LABELS[:2], (step,))[0] % 1 != 0).any()) for step in range(200)]
    assert 70 < sum(kinds) < 130
    never = BatchMix(classes=4, prob=0)
    assert torch.equal(never(clips(6), LABELS, (0,))[0], clips(6))


def test_smoothing() -> None:
    mix = BatchMix(classes=4, mixup=0, cutmix=0, smoothing=0.2)
    targets = mix(clips(6), LABELS, (0,))[1]
    assert targets[0].tolist() == pytest.approx([0.05, 0.05, 0.85, 0.05])
    several = mix.smooth(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    assert several[0].tolist() == pytest.approx([0.9, 0.1, 0.9, 0.1])
    assert BatchMix(classes=4)(clips(6), LABELS, (0,))[1].sum(1).tolist() == pytest.approx([1] * 6)


def test_several_labels() -> None:
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1]])
    mix = BatchMix(classes=4, cutmix=0, smoothing=0)
    video, targets = mix(clips(2), labels, (5,))
    w = 1 - video[0, 0, 0, 0, 0]
    assert (
        targets - torch.stack([w * labels[0] + (1 - w) * labels[1], w * labels[1] + (1 - w) * labels[0]])
    ).abs().max() < 1e-6


def test_odd_batches_leave_the_last_clip_alone() -> None:
    mix = BatchMix(classes=4, cutmix=0, smoothing=0)
    video, targets = mix(clips(5), LABELS[:5], (1,))
    even, even_targets = mix(clips(4), LABELS[:4], (1,))
    assert torch.equal(video[:4], even)
    assert torch.equal(targets[:4], even_targets)
    assert torch.equal(video[4], clips(5)[4])
    assert torch.equal(targets[4], HOT[4])
    alone = mix(clips(1), LABELS[:1], (1,))
    assert torch.equal(alone[0], clips(1))
    assert torch.equal(alone[1], HOT[:1])


def test_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        BatchMix(classes=0, mixup=-1, prob=2, smoothing=1)
    for words in ("classes is 0", "mixup is -1", "prob is 2", "smoothing is 1"):
        assert words in str(caught.value)
    with pytest.raises(ValueError, match="contiguous"):
        BatchMix(classes=4)(clips(4).permute(0, 2, 1, 3, 4), LABELS[:4], (0,))

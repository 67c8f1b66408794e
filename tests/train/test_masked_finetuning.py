"""Fine-tuning with tokens dropped: what the encoder sees, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train import small
from tests.train.test_pretrain import Crash, crash_at
from vidkit.errors import ConfigError
from vidkit.models import checkpoints, classifier
from vidkit.models.classifier import MaskedClassifier, VideoClassifier
from vidkit.models.masking import random_subset
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import ClassifierConfig, ViTConfig
from vidkit.settings.train import LogConfig
from vidkit.train import finetune
from vidkit.train.runs import RunFolder

SETTINGS = ClassifierConfig(encoder=small.VIT, classes=3, drop_path=0.0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d")


def clips(count: int = 2, vit: ViTConfig = small.VIT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (count, 3, vit.frames, vit.size, vit.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def model() -> VideoClassifier:
    return VideoClassifier(SETTINGS, torch.Generator().manual_seed(0)).eval()


def test_dropped_tokens_have_no_part_in_the_scores() -> None:
    net, video = model(), clips()
    keep = random_subset(video, 32, 8, torch.Generator().manual_seed(2))
    scores = net(video, keep)
    changed = video.clone()
    for clip in range(2):
        hidden = [token for token in range(32) if token not in keep[clip].tolist()]
        time, place = hidden[0] // 16, hidden[0] % 16
        row, column = place // 4 * 8, place % 4 * 8
        changed[clip, :, 2 * time : 2 * time + 2, row : row + 8, column : column + 8] = 0
    assert not torch.equal(patchify(video, small.VIT), patchify(changed, small.VIT))
    assert torch.equal(net(changed, keep), scores)
    assert not torch.equal(net(changed), net(video))


def test_all_tokens_kept_is_no_masking_and_order_does_not_matter() -> None:
    net, video = model(), clips()
    everything = torch.arange(32).expand(2, -1)
    assert torch.allclose(net(video, everything), net(video), atol=1e-6)
    keep = torch.tensor([[3, 9, 20, 31], [0, 1, 2, 30]])
    assert torch.allclose(net(video, keep), net(video, keep.flip(1)), atol=1e-6), "positions go with their tokens"


def test_shifted_patches_are_dropped_too() -> None:
    vit = ViTConfig(frames=4, size=32, patch=8, width=32, depth=2, heads=2, tokenizer="spt")
    net = VideoClassifier(ClassifierConfig(encoder=vit, classes=3), torch.Generator().manual_seed(0)).eval()
    everything = torch.arange(32).expand(2, -1)
    assert torch.allclose(net(clips(), everything), net(clips()), atol=1e-6)


def test_a_test_under_fixed_masks() -> None:
    net, video = model(), clips(6)
    masked = [MaskedClassifier(SETTINGS, 8, seed=5).eval() for _ in range(2)]
    for one in masked:
        one.load_state_dict(net.state_dict())
    first = torch.cat([masked[0](part) for part in video.split(3)])
    assert torch.equal(first, torch.cat([masked[1](part) for part in video.split(3)]))
    keep = random_subset(video[:3], 32, 8, torch.Generator().manual_seed(5))
    assert torch.equal(first[:3], net(video[:3], keep))
    assert not torch.allclose(masked[0](video[:3]), first[:3]), "the next batch has other masks"


def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """(tokens in the encoder, training) of each forward pass from now on."""
    real = classifier.run_blocks
    found: list[tuple[int, bool]] = []

    def spy(blocks: Any, x_BND: torch.Tensor, *more: Any) -> torch.Tensor:
        found.append((x_BND.shape[1], torch.is_grad_enabled()))
        return real(blocks, x_BND, *more)

    monkeypatch.setattr(classifier, "run_blocks", spy)
    return found


def run(built: Path, out: Path, **changes: Any) -> dict[str, Any]:
    resume = changes.pop("resume", False)
    return finetune.run(small.finetune(**changes), built, out, resume=resume, quiet=True)


def test_training_sees_some_tokens_and_tests_see_all(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen(monkeypatch)
    run(built, tmp_path, mask_ratio=0.75)
    assert {tokens for tokens, training in found if training} == {8}
    assert {tokens for tokens, training in found if not training} == {32}


def test_masks_change_with_every_step(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., torch.Tensor] = finetune.random_subset
    drawn: list[torch.Tensor] = []

    def spy(*args: Any) -> torch.Tensor:
        drawn.append(real(*args))
        return drawn[-1]

    monkeypatch.setattr(finetune, "random_subset", spy)
    run(built, tmp_path, mask_ratio=0.5)
    rows = torch.cat(drawn)
    assert rows.shape == (9 * 4, 16), "9 steps of 4 clips"
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)


@pytest.mark.parametrize("at", [2, 5])
def test_resumed_runs_draw_the_same_masks(
    at: int, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"mask_ratio": 0.75, "dropout": 0.1, "log": LogConfig(every=2)}
    run(built, tmp_path / "whole", **how)
    with monkeypatch.context() as patched:
        crash_at(patched, at)
        with pytest.raises(Crash):
            run(built, tmp_path / "run", **how)
    run(built, tmp_path / "run", resume=True, **how)
    one, other = (RunFolder(tmp_path / name) for name in ("whole", "run"))
    assert small.learnt(one.rows()) == small.learnt(other.rows())
    a, b = (checkpoints.load(folder.last) for folder in (one, other))
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5])
def test_ratios_that_cannot_be(ratio: float) -> None:
    with pytest.raises(ConfigError, match=f"mask_ratio is {ratio}; expected above 0 and below 1"):
        small.finetune(mask_ratio=ratio)


def test_a_ratio_that_leaves_nothing(built: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mask ratio 0\.99 leaves no token visible of 32"):
        run(built, tmp_path / "run", mask_ratio=0.99)
    assert not (tmp_path / "run").exists(), "nothing was begun"

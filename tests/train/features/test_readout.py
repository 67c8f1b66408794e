"""Read-outs against loops over tokens, one from another, and gradients through them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.train import saved, small
from vidkit.errors import ConfigError
from vidkit.models.classifier import VideoClassifier
from vidkit.models.layers import run_blocks
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import MaskConfig
from vidkit.train.features.readout import (
    MAKES,
    READOUTS,
    Reading,
    Readout,
    default_layers,
    derived,
    read_out,
    readings_of,
    tokens_at,
    width_of,
)


def tokens(batch: int = 2, steps: int = 3, places: int = 5, width: int = 4) -> torch.Tensor:
    return torch.randn(batch, steps, places, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def slow(tokens_BTSD: torch.Tensor, readout: Readout) -> list[list[list[float]]]:
    """Number by number."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def deviation(values: list[float]) -> float:
        return math.sqrt(mean([(value - mean(values)) ** 2 for value in values]))

    clips = []
    for clip in tokens_BTSD.tolist():
        width = range(len(clip[0][0]))
        groups = clip if readout.startswith("slots") else [[place for step in clip for place in step]]
        if readout == "tokens":
            clips.append([[value for place in step for value in place] for step in clip])
            continue
        means = [[mean([place[d] for place in group]) for d in width] for group in groups]
        spreads = [[deviation([place[d] for place in group]) for d in width] for group in groups]
        both = [a + b for a, b in zip(means, spreads, strict=True)]
        clips.append(both if readout.endswith("-std") else means)
    return clips


@pytest.mark.parametrize("readout", READOUTS)
def test_against_loops(readout: Readout) -> None:
    found = read_out(tokens(), readout)
    torch.testing.assert_close(found, torch.tensor(slow(tokens(), readout), dtype=torch.float64))
    assert found.shape[1:] == width_of(readout, 3, 5, 4)


@pytest.mark.parametrize(("stored", "wanted"), [(a, b) for a in MAKES for b in MAKES[a]])
def test_one_from_another(stored: Readout, wanted: Readout) -> None:
    torch.testing.assert_close(derived(read_out(tokens(), stored), stored, wanted), read_out(tokens(), wanted))


def test_what_cannot_be_made_is_said() -> None:
    for stored, wanted in (("mean", "slots"), ("slots", "mean-std"), ("tokens", "mean"), ("slots-std", "tokens")):
        with pytest.raises(ConfigError, match=f"read-out '{wanted}' cannot be made of '{stored}'"):
            derived(read_out(tokens(), stored), stored, wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("readout", READOUTS)
def test_gradients(readout: Readout) -> None:
    assert torch.autograd.gradcheck(lambda x: read_out(x, readout), tokens(1, 2, 3, 2).requires_grad_())


def test_a_deviation_of_nothing_has_a_finite_gradient() -> None:
    same = torch.ones(1, 2, 3, 2, requires_grad=True)
    found = read_out(same, "slots-std")
    assert found[0, 0, 2:].tolist() == pytest.approx([0, 0], abs=1e-5)
    found.sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
    one_place = torch.randn(1, 2, 1, 2)
    assert read_out(one_place, "slots-std")[..., 2:].max() < 1e-5


def test_layers_by_default_and_by_number() -> None:
    assert [default_layers(depth) for depth in (1, 2, 4, 12, 24)] == [
        (1,),
        (1, 2),
        (2, 3, 4),
        (6, 9, 12),
        (12, 18, 24),
    ]
    assert readings_of([4, 1], (True, False), 4) == (
        Reading(1, False),
        Reading(1, True),
        Reading(4, False),
        Reading(4, True),
    )
    assert [reading.column for reading in readings_of([12], (True, False), 12)] == ["layer12", "layer12-norm"]
    for wrong in ([0], [5], [2, 2], []):
        with pytest.raises(ConfigError, match="the encoder has layers 1 to 4, each at most once"):
            readings_of(wrong, (True,), 4)


def test_nothing_is_masked(tmp_path: Path) -> None:
    """The blocks over all tokens, as the classifier that takes them over runs them; then the model's own norm."""
    model = saved.adamae(tmp_path / "a.pt")
    taken = saved.classifier(tmp_path / "c.pt")
    video = torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    taken.load_encoder(model.state_dict())
    assert isinstance(taken, VideoClassifier)
    both = (Reading(1, norm=False), Reading(2), Reading(2, norm=False))
    with torch.no_grad():
        inputs = taken.tokenizer(taken.tokenizer.inputs(video, patchify(video, small.VIT))) + taken.positions
        first = run_blocks(taken.encoder[:1], inputs)
        last = run_blocks(taken.encoder, inputs)
        for one, norm in ((model, model.encoder_norm), (taken, taken.fc_norm)):
            found = tokens_at(one, video, both)
            for tokens_BTSD, wanted in zip(found, (first, norm(last), last), strict=True):
                assert tokens_BTSD.shape == (3, 2, 16, 32)
                torch.testing.assert_close(tokens_BTSD.flatten(1, 2), wanted)
            assert torch.equal(tokens_at(one, video, both)[0], found[0]), "nothing is drawn"
        other = saved.adamae(tmp_path / "o.pt", mask=MaskConfig(strategy="frame", ratio=0.5))
        other.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("sampler.")})
        assert torch.equal(tokens_at(other, video, both)[1], tokens_at(model, video, both)[1])
    with pytest.raises(ConfigError, match="clips have shape"):
        tokens_at(model, video[:, :, :2], both)

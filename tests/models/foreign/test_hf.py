"""Against transformers itself: the same scores and reconstructions, both ways, on random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.foreign.test_convert import (
    SMALL,
    TOLERANCE,
    TUBE,
    checkpoint_of,
    hidden,
    our_predictions,
    some_mask,
)
from tests.models.test_adamae import MINI, clips
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.foreign import convert as foreign
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, LossConfig

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install vidkit[hf]")

MEAN = torch.tensor(MINI.encoder.pixel_mean).view(1, 1, 3, 1, 1)
STD = torch.tensor(MINI.encoder.pixel_std).view(1, 1, 3, 1, 1)


def model_of(config: AdaMAEConfig | ClassifierConfig) -> Any:
    """A transformers model of random weights, biases too."""
    pretraining = isinstance(config, AdaMAEConfig)
    settings = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        decoder_hidden_size=24,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=48,
        use_mean_pooling=not pretraining,
        num_labels=5,
        norm_pix_loss=config.loss.normalize if pretraining else True,
    )
    torch.manual_seed(0)
    made = transformers.VideoMAEForPreTraining if pretraining else transformers.VideoMAEForVideoClassification
    model = made(settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.eval()


def with_our_eps(model: Any) -> Any:
    """transformers has 1e-12 by default, and 1e-5 in the last norm whatever the config says."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model.eval()


def their_input(video: Tensor) -> Tensor:
    """(B, C, T, H, W) uint8 -> (B, T, C, H, W) normalised."""
    return (video.float().transpose(1, 2) / 255 - MEAN) / STD


def biases(model: Any) -> list[Tensor]:
    state = model.state_dict()
    return [
        value for name, value in state.items() if name.endswith(("query.bias", "value.bias", "q_bias", "v_bias"))
    ]


@torch.no_grad()
def assert_same(theirs: Any, ours: Any, config: AdaMAEConfig | ClassifierConfig, **tolerance: float) -> None:
    video = clips(MINI)
    if isinstance(config, ClassifierConfig):
        torch.testing.assert_close(ours.eval()(video), theirs(their_input(video)).logits, **tolerance)
        return
    keep = some_mask(config, len(video))
    said = theirs(their_input(video), bool_masked_pos=hidden(keep, config.encoder.tokens))
    outputs, _ = our_predictions(ours, video, keep)
    torch.testing.assert_close(outputs, said.logits, **tolerance)
    torch.testing.assert_close(ours(video, keep_BV=keep).reconstruction_loss, said.loss, **tolerance)


BOTH = pytest.mark.parametrize(
    "config", [TUBE, replace(TUBE, loss=LossConfig(normalize=False)), SMALL], ids=["pre", "pre-pixels", "fine"]
)


@BOTH
def test_theirs_in_ours(tmp_path: Path, config: AdaMAEConfig | ClassifierConfig) -> None:
    """Their model, saved by them and read by us; and the same from memory."""
    theirs = model_of(config)
    theirs.save_pretrained(tmp_path / "hf")
    found = foreign.read_foreign(tmp_path / "hf")
    assert found.config.encoder == config.encoder
    assert_same(with_our_eps(theirs), checkpoints.build(found), config, **TOLERANCE)
    again = foreign.from_hf_model(theirs)
    assert all(torch.equal(again.model[name], value) for name, value in found.model.items())
    assert again.config == found.config
    foreign.check_hf_model(theirs, found)


@BOTH
def test_ours_in_theirs(tmp_path: Path, config: AdaMAEConfig | ClassifierConfig) -> None:
    """Our model, with key biases, written by us and read by `from_pretrained`."""
    ours = checkpoint_of(config)
    foreign.write_hf(tmp_path / "hf", ours)
    name = "VideoMAEForPreTraining" if isinstance(config, AdaMAEConfig) else "VideoMAEForVideoClassification"
    theirs, report = getattr(transformers, name).from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values()), report
    assert len(biases(theirs)) == 2 * (4 if isinstance(config, AdaMAEConfig) else 2)
    assert all(value.any() for value in biases(theirs)), "biases were lost"
    foreign.check_hf_model(theirs, ours)
    assert_same(with_our_eps(theirs), checkpoints.build(ours), config, **TOLERANCE)


@BOTH
def test_without_help_they_differ_by_an_eps(tmp_path: Path, config: AdaMAEConfig | ClassifierConfig) -> None:
    """What is left when transformers' last norm keeps its eps."""
    foreign.write_hf(tmp_path / "hf", checkpoint_of(config))
    name = "VideoMAEForPreTraining" if isinstance(config, AdaMAEConfig) else "VideoMAEForVideoClassification"
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "hf").eval()
    ours = checkpoints.build(checkpoint_of(config))
    assert_same(theirs, ours, config, rtol=1e-3, atol=1e-3)


def test_labels(tmp_path: Path) -> None:
    foreign.write_hf(tmp_path / "hf", checkpoint_of(SMALL))
    theirs = transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "hf")
    assert theirs.config.id2label == dict(enumerate("abcde"))
    unnamed = replace(checkpoint_of(SMALL), facts={})
    foreign.write_hf(tmp_path / "unnamed", unnamed)
    assert transformers.VideoMAEForVideoClassification.from_pretrained(tmp_path / "unnamed").config.num_labels == 5


def test_several_files(tmp_path: Path) -> None:
    theirs = model_of(SMALL)
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="100KB")
    assert len(list((tmp_path / "hf").glob("model-*.safetensors"))) > 1
    foreign.check_hf_model(theirs, foreign.read_foreign(tmp_path / "hf"))


def test_torch_file(tmp_path: Path) -> None:
    theirs = model_of(TUBE)
    theirs.config.save_pretrained(tmp_path / "hf")
    torch.save(theirs.state_dict(), tmp_path / "hf" / "pytorch_model.bin")
    foreign.check_hf_model(theirs, foreign.read_foreign(tmp_path / "hf"))


def losing_model(path: Path) -> Any:
    """What some versions make of a file: biases under names that they do not know, left at zero."""
    foreign.write_hf(path, checkpoint_of(TUBE))
    theirs = transformers.VideoMAEForPreTraining.from_pretrained(path)
    with torch.no_grad():
        for value in biases(theirs):
            value.zero_()
    return theirs


def test_biases_lost_on_loading_are_found(tmp_path: Path) -> None:
    theirs = losing_model(tmp_path / "hf")
    with pytest.raises(
        ConfigError, match="every query and value bias of the encoder and the decoder is exactly zero"
    ):
        foreign.from_hf_model(theirs)
    with pytest.raises(ConfigError, match=r"has not loaded these weights .*layer.0.attention.attention.q_bias"):
        foreign.check_hf_model(theirs, checkpoint_of(TUBE))
    theirs.save_pretrained(tmp_path / "again")
    with pytest.raises(ConfigError, match="some versions of transformers drop them on loading"):
        foreign.read_foreign(tmp_path / "again")


def test_load_state_dict_is_found_out(tmp_path: Path) -> None:
    """`strict=False` takes names of files for unknown ones where the module has others, and says so to nobody."""
    theirs = model_of(SMALL)
    with torch.no_grad():
        for value in biases(theirs):
            value.zero_()
    ours = checkpoint_of(SMALL)
    result = theirs.load_state_dict(foreign.export(ours, "hf"), strict=False)
    if result.missing_keys:
        with pytest.raises(ConfigError, match="has not loaded these weights"):
            foreign.check_hf_model(theirs, ours)
    else:
        foreign.check_hf_model(theirs, ours)


def test_models_without_our_norm(tmp_path: Path) -> None:
    """The default config of transformers has no norm behind the encoder: no weights of ours stand for that."""
    theirs = transformers.VideoMAEForPreTraining(replaced(model_of(TUBE).config, use_mean_pooling=True))
    with pytest.raises(
        ConfigError, match=r"videomae\.layernorm\.weight: missing; videomae\.layernorm\.bias: missing"
    ):
        foreign.from_hf_model(theirs)
    theirs = transformers.VideoMAEForVideoClassification(replaced(model_of(SMALL).config, use_mean_pooling=False))
    with pytest.raises(ConfigError, match=r"fc_norm\.weight: missing.*videomae\.layernorm\.weight: not known"):
        foreign.from_hf_model(theirs)


def replaced(config: Any, **changes: Any) -> Any:
    return transformers.VideoMAEConfig(**{**config.to_dict(), **changes})


def test_a_model_without_its_head(tmp_path: Path) -> None:
    transformers.VideoMAEModel(model_of(TUBE).config).save_pretrained(tmp_path / "hf")
    with pytest.raises(ConfigError, match="with its head"):
        foreign.read_foreign(tmp_path / "hf")

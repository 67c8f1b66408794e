"""Other projects' checkpoints: the same numbers on both sides, and nothing lost or guessed in silence."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.foreign import released_layout as released
from tests.models.test_adamae import MINI, build, clips
from tests.models.test_checkpoints import Bomb
from vidkit.cli.training import convert
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.models.foreign import convert as foreign
from vidkit.models.foreign.config import infer
from vidkit.models.foreign.names import Layout
from vidkit.models.masking import masked_indices
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, DecoderConfig, MaskConfig, SamplerConfig

TUBE = replace(MINI, mask=MaskConfig(strategy="tube", ratio=0.75))
SMALL = ClassifierConfig(encoder=MINI.encoder, classes=5)
TOLD: dict[str, Any] = {"heads": 4, "frames": 4, "size": 32}
SHAPE: dict[str, Any] = {
    "width": 48,
    "depth": 2,
    "decoder_width": 24,
    "decoder_depth": 2,
    "patch": 8,
    "tokens": 32,
    "ratio": 2,
}
ADAMAE = released.pretrained(**SHAPE, adaptive=True)
VIDEOMAE = released.pretrained(**SHAPE, adaptive=False)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def finetuned() -> dict[str, Tensor]:
    """The released fine-tuning layout, with the encoder of `VIDEOMAE`."""
    state = {
        name.removeprefix("encoder."): value for name, value in VIDEOMAE.items() if name.startswith("encoder.")
    }
    state |= {f"fc_norm.{part}": state.pop(f"norm.{part}") for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(5, 48, generator=generator)
    return state | {"head.weight": weight, "head.bias": torch.randn(5, generator=generator)}


def checkpoint_of(config: AdaMAEConfig | ClassifierConfig) -> Checkpoint:
    """Random weights, key biases included."""
    if isinstance(config, AdaMAEConfig):
        return Checkpoint(config=config, model=build(config).state_dict(), facts={})
    generator = torch.Generator().manual_seed(2)
    model = VideoClassifier(config, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return Checkpoint(config=config, model=model.state_dict(), facts={"classes": ["a", "b", "c", "d", "e"]})


def some_mask(config: AdaMAEConfig, batch: int) -> Tensor:
    """Visible tokens (B, V): the same places in every time step."""
    time, height, width = config.encoder.grid
    generator = torch.Generator().manual_seed(3)
    rows = []
    for _ in range(batch):
        places = torch.randperm(height * width, generator=generator)[:4].sort().values
        rows.append((torch.arange(time)[:, None] * height * width + places).flatten())
    return torch.stack(rows)


def hidden(keep: Tensor, tokens: int) -> Tensor:
    """Booleans (B, N), True where masked."""
    return torch.ones(keep.shape[0], tokens, dtype=torch.bool).scatter(1, keep, False)


@torch.no_grad()
def our_predictions(model: AdaMAE, video: Tensor, keep: Tensor) -> tuple[Tensor, Tensor | None]:
    """(decoder outputs at masked tokens, log-probabilities)."""
    from vidkit.models.tokenizers import patchify

    model.eval()
    inputs = model.tokenizer.inputs(video, patchify(video, model.config.encoder))
    (keep, _, log_probs, _), visible = model.choose(inputs, None, keep)
    tail = model.decode(model.encode(visible, keep), keep, masked_indices(keep, model.config.encoder.tokens))
    return model.head(model.decoder_norm(tail)), log_probs


def written(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


# --- the released layouts ---


@pytest.mark.parametrize("state", [ADAMAE, VIDEOMAE], ids=["adamae", "videomae"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 3},
        lambda state: {"module": {f"module.{name}": value for name, value in state.items()}},
    ],
    ids=["bare", "model", "module"],
)
def test_pre_trained(tmp_path: Path, state: dict[str, Tensor], wrap: Callable[[Any], Any]) -> None:
    path = written(tmp_path / "checkpoint-799.pth", wrap(state))
    found = foreign.read_foreign(path, **TOLD)
    assert found.facts == {"layout": "videomae", "converted_from": str(path)}
    adaptive = state is ADAMAE
    mask = MaskConfig(ratio=0.95) if adaptive else MaskConfig(strategy="tube", ratio=0.9)
    assert found.config == replace(MINI, mask=mask)
    model = checkpoints.build(found)
    assert isinstance(model, AdaMAE)
    video = clips(MINI)
    keep = some_mask(MINI, len(video))
    outputs, log_probs = our_predictions(model, video, keep)
    unit = video.float() / 255
    expected = released.predictions(state, unit, hidden(keep, 32), heads=4, decoder_heads=2)
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    if adaptive:
        assert log_probs is not None
        torch.testing.assert_close(log_probs, released.log_probs(state, unit), **TOLERANCE)
    else:
        assert log_probs is None


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.", "module.encoder."])
def test_fine_tuned(tmp_path: Path, prefix: str) -> None:
    state = finetuned()
    path = written(tmp_path / "ft.pth", {"module": {prefix + name: value for name, value in state.items()}})
    found = foreign.read_foreign(path, **TOLD)
    assert found.config == SMALL
    model = checkpoints.build(found).eval()
    video = clips(MINI)
    expected = released.scores(state, video.float() / 255, heads=4)
    torch.testing.assert_close(model(video), expected, **TOLERANCE)


def test_arguments_beside_the_weights_are_read(tmp_path: Path) -> None:
    """They are an argparse.Namespace, the one class that is let in."""
    arguments = argparse.Namespace(
        num_frames=4,
        input_size=32,
        mask_ratio=0.8,
        normlize_target=False,
        opt_betas=[0.9, 0.95],
        window_size=(2, 4, 4),
    )
    path = written(tmp_path / "a.pth", {"model": VIDEOMAE, "args": arguments, "scaler": {"scale": 1.0}})
    found = foreign.read_foreign(path, heads=4)
    assert isinstance(found.config, AdaMAEConfig)
    assert found.config.encoder == MINI.encoder
    assert found.config.mask == MaskConfig(strategy="tube", ratio=0.8)
    assert found.config.loss.normalize is False
    again = foreign.read_foreign(path, heads=4, ratio=0.5, frames=8).config
    assert isinstance(again, AdaMAEConfig)
    assert (again.mask.ratio, again.encoder.frames) == (0.5, 8)
    arguments.num_frames, arguments.num_segments = 2, 2
    written(path, {"module": finetuned(), "args": arguments})
    assert foreign.read_foreign(path, heads=4).config == SMALL


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    path = written(tmp_path / "half.pth", {name: value.half() for name, value in VIDEOMAE.items()})
    found = foreign.read_foreign(path, **TOLD)
    assert {value.dtype for value in found.model.values()} == {torch.float32}


def test_files_of_torch_before_zip(tmp_path: Path) -> None:
    torch.save({"model": VIDEOMAE}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert foreign.read_foreign(tmp_path / "old.pth", **TOLD).config.encoder == MINI.encoder


@pytest.mark.parametrize(
    ("width", "heads", "decoder_width", "decoder_heads", "hidden_width"),
    [(384, 6, 192, 3, 1536), (768, 12, 384, 6, 3072), (1024, 16, 512, 8, 4096), (1280, 16, 640, 8, 5120)],
    ids=["S", "B", "L", "H"],
)
def test_published_sizes_need_no_heads(
    width: int, heads: int, decoder_width: int, decoder_heads: int, hidden_width: int
) -> None:
    names = foreign.NAMES["videomae", "adamae"]
    with torch.device("meta"):
        state = {
            "encoder.patch_embed.proj.weight": torch.empty(width, 3, 2, 16, 16),
            "encoder.blocks.11.norm1.weight": torch.empty(width),
            "encoder.blocks.0.mlp.fc1.weight": torch.empty(hidden_width, width),
            "decoder.blocks.3.norm1.weight": torch.empty(decoder_width),
            "decoder.blocks.0.mlp.fc1.weight": torch.empty(4 * decoder_width, decoder_width),
            "mask_token": torch.empty(1, 1, decoder_width),
            "encoder.pos_embed_probs": torch.empty(1, 1568, width),
        }
    config = infer(state, names, "videomae", "adamae", foreign.Told())
    assert isinstance(config, AdaMAEConfig)
    assert (config.encoder.heads, config.encoder.depth, config.encoder.size) == (heads, 12, 224)
    assert config.decoder == DecoderConfig(width=decoder_width, depth=4, heads=decoder_heads)


# --- round trips ---

TRIPS: list[tuple[Layout, AdaMAEConfig | ClassifierConfig]] = [
    ("videomae", MINI),
    ("videomae", TUBE),
    ("videomae", SMALL),
    ("hf", TUBE),
    ("hf", SMALL),
]


@pytest.mark.parametrize(("layout", "config"), TRIPS, ids=["adamae", "videomae", "finetuned", "hf", "hf-finetuned"])
def test_round_trip(tmp_path: Path, layout: Layout, config: AdaMAEConfig | ClassifierConfig) -> None:
    first = checkpoint_of(config)
    if layout == "hf":
        foreign.write_hf(tmp_path / "out", first)
        second = foreign.read_foreign(tmp_path / "out")
        assert second.config.encoder == config.encoder
    else:
        foreign.write_videomae(tmp_path / "out", first)
        second = foreign.read_foreign(tmp_path / "out", **TOLD)
    if layout == "hf" and isinstance(config, ClassifierConfig):
        assert second.facts["classes"] == first.facts["classes"]
    assert second.model.keys() == first.model.keys()
    for name, value in first.model.items():
        if name.endswith("attn.qkv.bias"):
            q, k, v = second.model[name].chunk(3)
            assert torch.equal(q, value.chunk(3)[0]), name
            assert not k.any(), name
            assert torch.equal(v, value.chunk(3)[2]), name
        else:
            assert torch.equal(second.model[name], value), name
    one, two = checkpoints.build(first).eval(), checkpoints.build(second).eval()
    video = clips(MINI)
    if isinstance(one, AdaMAE):
        keep = some_mask(MINI, len(video))
        losses = [model(video, keep_BV=keep).loss for model in (one, two)]
        torch.testing.assert_close(*losses, **TOLERANCE)  # key biases change nothing
    else:
        torch.testing.assert_close(one(video), two(video), **TOLERANCE)


@pytest.mark.parametrize(("state", "adaptive"), [(ADAMAE, True), (VIDEOMAE, False), (finetuned(), False)])
def test_their_file_comes_back_as_it_was(tmp_path: Path, state: dict[str, Tensor], adaptive: bool) -> None:
    found = foreign.read_foreign(written(tmp_path / "a.pth", state), **TOLD)
    again = foreign.export(found, "videomae")
    assert again.keys() == state.keys()
    for name, value in state.items():
        if name == "encoder.get_token_probs.1.bias":
            assert torch.equal(again[name], torch.zeros(1))
        else:
            assert torch.equal(again[name], value), name
        assert again[name].untyped_storage().nbytes() == 4 * value.numel()


def test_notes_say_what_is_left_out() -> None:
    lines = "\n".join(foreign.notes(checkpoint_of(MINI), "hf"))
    assert "key biases (up to 0." in lines
    assert "the token sampler is left out" in lines
    assert "eps of 1e-5" in lines
    lines = "\n".join(foreign.notes(checkpoint_of(MINI), "videomae"))
    assert "sampler" not in lines
    assert "does not store the heads: 4 of width 48" in lines
    own = replace(TUBE, encoder=replace(TUBE.encoder, pixel_mean=(0.5, 0.5, 0.5)))
    assert "not with ImageNet's" in "\n".join(foreign.notes(checkpoint_of(own), "videomae"))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (replace(TUBE, encoder=replace(TUBE.encoder, tokenizer="spt")), "the spt tokenizer"),
        (replace(TUBE, encoder=replace(TUBE.encoder, attention="lsa")), "lsa attention"),
        (replace(TUBE, decoder=replace(TUBE.decoder, kind="cross")), "a cross decoder"),
        (replace(SMALL, encoder=replace(SMALL.encoder, positions="3d")), "3d positions"),
        (replace(MINI, sampler=SamplerConfig(kind="mlp")), "a sampler other than one whole block of 8 heads"),
    ],
)
def test_models_that_a_layout_cannot_hold(config: AdaMAEConfig | ClassifierConfig, what: str) -> None:
    with pytest.raises(ConfigError, match=f"videomae layout has no place for this model: {what}"):
        foreign.export(checkpoint_of(config), "videomae")


def test_export_of_an_incomplete_model() -> None:
    whole = checkpoint_of(TUBE)
    model = {name: value for name, value in whole.model.items() if name != "project.weight"}
    with pytest.raises(ConfigError, match=r"project\.weight: missing"):
        foreign.export(replace(whole, model=model), "hf")
    with pytest.raises(ConfigError, match="layout is 'tf'; expected hf or videomae"):
        foreign.export(whole, "tf")  # type: ignore[arg-type]


# --- bad files ---


def changed(state: dict[str, Tensor], **changes: Any) -> dict[str, Any]:
    """With `a__b` for the name `a.b`; None takes it out."""
    state = {**state, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "told", "message"),
    [
        (
            changed(VIDEOMAE, encoder__norm__bias=None, extra=torch.zeros(1)),
            {},
            "encoder.norm.bias: missing; extra: not known",
        ),
        (
            changed(VIDEOMAE, decoder__head__weight=torch.zeros(3, 24)),
            {},
            r"head.weight: shape \(3, 24\), the model's is",
        ),
        (
            changed(VIDEOMAE, **{"encoder.blocks.0.gamma_1": torch.zeros(48)}),
            {},
            "encoder.blocks.0.gamma_1: not known",
        ),
        (changed(VIDEOMAE, **{"encoder.blocks.1.attn.q_bias": None}), {}, "encoder.blocks.1.attn.q_bias: missing"),
        (changed(VIDEOMAE, encoder__pos_embed=torch.zeros(1, 32, 48)), {}, "encoder.pos_embed: not known"),
        (changed(VIDEOMAE, mask_token=None), {}, "mask_token: missing; the model's size is read from it"),
        (changed(VIDEOMAE, mask_token=torch.zeros(24)), {}, r"mask_token: shape \(24,\); expected 3 dimensions"),
        (
            changed(VIDEOMAE, mask_token=torch.zeros(2, 1, 24)),
            {},
            r"mask_token: shape \(2, 1, 24\); expected 2 x 1 in",
        ),
        (changed(VIDEOMAE, **{"decoder.blocks.0.mlp.fc1.weight": torch.zeros(96, 24)}), {}, "share one ratio"),
        (VIDEOMAE, {"heads": None}, "48 is the width of no published model\n  -> give their number: --heads"),
        (VIDEOMAE, {"heads": 5}, "heads is 5"),
        (VIDEOMAE, {"layout": "hf"}, "have the names of 'videomae', not of 'hf'"),
        (VIDEOMAE, {"layout": "tf"}, "layout is 'tf'; expected hf or videomae"),
        (VIDEOMAE, {"kind": "classifier"}, "is of kind 'adamae', not 'classifier'"),
        (ADAMAE, {"frames": 6}, "32 tokens, which are not 3 squares\n  -> give the frames"),
        (ADAMAE, {"size": 64}, "so that frames have 32 pixels, not 64"),
        (changed(ADAMAE, **{"encoder.get_token_probs.1.weight": None}), {}, "get_token_probs.1.weight: missing"),
        ({"conv1.weight": torch.zeros(3)}, {}, "weights of no layout that is known here: conv1.weight"),
        ({"epoch": 3}, {}, "no weights were found in it, only: epoch"),
        ([1], {}, "no weights were found in it, only: list"),
        (changed(VIDEOMAE, step=3), {}, "among the weights are values that are none: step"),
    ],
)
def test_bad_weights(tmp_path: Path, state: Any, told: dict[str, Any], message: str) -> None:
    path = written(tmp_path / "bad.pth", state)
    with pytest.raises(ConfigError, match=message) as caught:
        foreign.read_foreign(path, **{**TOLD, **told})
    assert caught.value.file == str(path)


class Arguments(argparse.Namespace):
    """Another class than the one that is let in."""


@pytest.mark.parametrize("zipped", [True, False])
def test_other_classes_are_named(tmp_path: Path, zipped: bool) -> None:
    value = {"model": VIDEOMAE, "args": Arguments(lr=1)}
    torch.save(value, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=rf"run code to be restored: {re.escape(__name__)}\.Arguments\n"):
        foreign.read_foreign(tmp_path / "bad.pth", **TOLD)


def test_code_within_the_arguments_is_not_run(tmp_path: Path) -> None:
    value = {"model": VIDEOMAE, "args": argparse.Namespace(lr=Bomb(tmp_path / "ran"))}
    with pytest.raises(ConfigError, match=r"(posix|nt)\.system"):
        foreign.read_foreign(written(tmp_path / "bad.pth", value), **TOLD)
    assert not (tmp_path / "ran").exists()


def test_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", VIDEOMAE)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cut off or damaged"):
        foreign.read_foreign(path, **TOLD)
    foreign.write_hf(tmp_path / "hf", checkpoint_of(TUBE))
    weights = tmp_path / "hf" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model.safetensors: is no safetensors file, or cut off"):
        foreign.read_foreign(tmp_path / "hf")


# --- Hugging Face folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    foreign.write_hf(tmp_path / "hf", checkpoint_of(SMALL))
    return tmp_path / "hf"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_folder_holds_what_is_needed(folder: Path) -> None:
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert os.listdir(folder.parent) == ["hf"]
    assert foreign.read_foreign(folder / "model.safetensors").config == SMALL


def test_folder_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(TrainingError, match="No space left"):
            foreign.write_hf(tmp_path / "hf", checkpoint_of(SMALL))
    assert not list(tmp_path.iterdir())
    (tmp_path / "hf").mkdir()
    foreign.write_hf(tmp_path / "hf", checkpoint_of(SMALL))
    with pytest.raises(ConfigError, match="hf: exists already\n  -> give a new or empty folder"):
        foreign.write_hf(tmp_path / "hf", checkpoint_of(SMALL))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "is of a 'vit' model; expected 'videomae'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"num_attention_heads": 7}, "heads is 7"),
    ],
)
def test_config_of_another_model(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(ConfigError, match=message):
        foreign.read_foreign(folder)


def test_folder_details(folder: Path) -> None:
    edit(folder / "config.json", image_size=[32, 32], id2label={str(i): f"LABEL_{i}" for i in range(5)})
    edit(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    found = foreign.read_foreign(folder)
    assert "classes" not in found.facts
    assert found.config.encoder.pixel_mean == (0.5, 0.5, 0.5)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read as JSON"):
        foreign.read_foreign(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the folder has no weights; expected model\.safetensors"):
        foreign.read_foreign(folder)


@pytest.mark.parametrize("lost", ["encoder", "decoder"])
def test_lost_biases_are_found(tmp_path: Path, lost: str) -> None:
    state = {
        name: torch.zeros_like(value) if name.startswith(lost) and name.endswith(("q_bias", "v_bias")) else value
        for name, value in VIDEOMAE.items()
    }
    path = written(tmp_path / "a.pth", state)
    with pytest.raises(ConfigError, match=f"every query and value bias of the {lost} is exactly zero"):
        foreign.read_foreign(path, **TOLD)
    assert foreign.read_foreign(path, **TOLD, zero_biases=True).config.encoder == MINI.encoder


def test_a_fresh_model_has_lost_nothing(tmp_path: Path) -> None:
    fresh = Checkpoint(config=TUBE, model=AdaMAE(TUBE).state_dict(), facts={})
    foreign.write_hf(tmp_path / "hf", fresh)
    assert foreign.read_foreign(tmp_path / "hf").config.encoder == TUBE.encoder


# --- the command ---


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = written(tmp_path / "a.pth", {"model": ADAMAE})
    ours, back = tmp_path / "a.pt", tmp_path / "b.pth"
    assert convert.run(theirs, ours, to="vidkit", heads=4, frames=4) == 0
    assert "videomae adamae: " in capsys.readouterr().out
    assert convert.run(ours, back, to="videomae", as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["layout"], said["to"], said["heads"]) == ("vidkit", "videomae", 4)
    assert torch.load(back, weights_only=True)["model"].keys() == ADAMAE.keys()
    assert convert.run(ours, tmp_path / "hf", to="hf") == 0
    assert "note: the token sampler is left out" in capsys.readouterr().out
    assert convert.run(tmp_path / "hf", tmp_path / "c.pt", to="vidkit") == 0
    assert checkpoints.load(tmp_path / "c.pt").config.encoder == MINI.encoder


def test_convert_refuses(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "a.pt", checkpoint_of(TUBE))
    with pytest.raises(ConfigError, match="--to 'onnx' is no layout; expected one of vidkit, videomae, hf"):
        convert.run(tmp_path / "a.pt", tmp_path / "b", to="onnx")
    with pytest.raises(ConfigError, match="written over by what is made of it"):
        convert.run(tmp_path / "a.pt", tmp_path / "a.pt", to="videomae")
    with pytest.raises(ConfigError, match=r"--heads, --frames: the checkpoint is vidkit's own"):
        convert.run(tmp_path / "a.pt", tmp_path / "b", to="hf", heads=3, frames=8)
    with pytest.raises(ConfigError, match=r"none\.pth: cannot be read: No such file"):
        convert.run(tmp_path / "none.pth", tmp_path / "b", to="hf")

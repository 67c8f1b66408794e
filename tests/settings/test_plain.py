"""Settings as plain values, changed by text; and the recipes made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from vidkit.errors import ConfigError
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig, MaskConfig, ViTConfig, vit_base
from vidkit.settings.plain import changed, config_hash, from_plain, to_plain
from vidkit.settings.recipes import RECIPES
from vidkit.settings.train import FinetuneConfig, OptimConfig, PretrainConfig


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json(name: str) -> None:
    recipe = RECIPES[name]()
    for config in (recipe.pretrain, recipe.finetune, recipe.test):
        plain = json.loads(json.dumps(to_plain(config)))
        assert from_plain(type(config), plain) == config
        assert config_hash(config) == config_hash(from_plain(type(config), plain))


def test_recipes_are_the_papers() -> None:
    """AdaMAE, tables 4 to 6."""
    ssv2, k400 = RECIPES["adamae-ssv2"](), RECIPES["adamae-k400"]()
    for recipe in (ssv2, k400):
        pre, tune = recipe.pretrain, recipe.finetune
        assert (pre.optim.epochs, pre.optim.warmup_epochs, pre.optim.base_lr) == (800, 40, 1.5e-4)
        assert (pre.optim.betas, pre.optim.weight_decay, pre.optim.batch_size) == ((0.9, 0.95), 0.05, 8 * 32)
        assert (pre.model.mask.strategy, pre.model.mask.ratio, pre.model.decoder.depth) == ("adaptive", 0.95, 4)
        assert (tune.optim.betas, tune.optim.layer_decay, tune.drop_path) == ((0.9, 0.999), 0.75, 0.1)
        assert (tune.mixup, tune.cutmix, tune.label_smoothing) == (0.8, 1.0, 0.1)
    assert (ssv2.pretrain.data.stride, k400.pretrain.data.stride) == (2, 4)
    assert (ssv2.finetune.optim.base_lr, k400.finetune.optim.base_lr) == (1.5e-4, 1e-3)
    assert RECIPES["videomae-k400"]().pretrain.model.mask == MaskConfig(strategy="tube", ratio=0.9)
    small = RECIPES["small-64"]().pretrain.model.encoder
    assert (small.size, small.patch, small.width, small.depth, small.heads, small.mlp_ratio) == (
        64,
        8,
        192,
        9,
        12,
        2,
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("mask.ratio=0.9", ("mask", "ratio"), 0.9),
        ("mask.strategy=tube", ("mask", "strategy"), "tube"),
        ("encoder.depth=3", ("encoder", "depth"), 3),
        ("encoder.mlp_ratio=3", ("encoder", "mlp_ratio"), 3.0),
        ("loss.normalize=false", ("loss", "normalize"), False),
        ("encoder.pixel_std=[1, 1.0, 2]", ("encoder", "pixel_std"), (1.0, 1.0, 2.0)),
        ("recompute.encoder=none", ("recompute", "encoder"), "none"),
    ],
)
def test_changed(text: str, key: tuple[str, str], value: Any) -> None:
    part, name = key
    config = changed(vit_base(), [text])
    assert getattr(getattr(config, part), name) == value
    assert replace(config, **{part: getattr(vit_base(), part)}) == vit_base()


def test_nothing_and_null() -> None:
    optim = OptimConfig(epochs=1, batch_size=4, base_lr=1.0, ema=0.5)
    assert changed(optim, []) == optim
    assert changed(optim, ["ema=null"]).ema is None
    assert changed(optim, ["ema=0.9", "clip_norm=1"]).clip_norm == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask.ratoi=1", "there is no setting 'mask.ratoi'.*\n.*did you mean mask.ratio"),
        ("ratio=0.5", "there is no setting 'ratio'.*\n.*did you mean mask.ratio"),
        ("mask=tube", "mask"),
        ("mask.ratio=high", "expected float in mask.ratio"),
        ("mask.ratio=true", "expected float in mask.ratio"),
        ("encoder.depth=2.5", "expected int in encoder.depth"),
        ("encoder.frames=15", "frames is 15; expected a multiple of tubelet 2"),
        ("mask.ratio=2", "ratio is 2.0; expected above 0 and below 1"),
        ("=1", "'=1' is no setting; expected key=value"),
        ("mask.ratio", "'mask.ratio' is no setting; expected key=value"),
    ],
)
def test_changes_that_do_not_fit(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        changed(vit_base(), [text])


def test_every_fault_is_named() -> None:
    plain = to_plain(vit_base())
    plain["mask"] = {"ratio": "a", "more": 2}
    plain["decoders"] = {}
    with pytest.raises(ConfigError) as caught:
        from_plain(AdaMAEConfig, plain)
    for words in (
        "expected float in mask.ratio",
        "extra fields found (more) in mask",
        "extra fields found (decoders)",
    ):
        assert words in str(caught.value)


def test_what_is_left_out_has_its_default() -> None:
    assert from_plain(ClassifierConfig, {"classes": 3}) == ClassifierConfig(classes=3)
    assert from_plain(ViTConfig, {}) == ViTConfig()
    with pytest.raises(ConfigError, match=r"required field missing.*classes"):
        from_plain(ClassifierConfig, {})


def test_hashes_tell_configs_apart() -> None:
    base = RECIPES["tiny"]()
    hashes = {config_hash(base.pretrain), config_hash(base.finetune), config_hash(replace(base.pretrain, seed=1))}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("kind", "how", "said"),
    [
        (PretrainConfig, {"optim": {"layer_decay": 0.5}}, "layer_decay is 0.5; expected 1 in pre-training"),
        (PretrainConfig, {"seed": -1}, "seed is -1"),
        (PretrainConfig, {"data": {"split": "all"}}, "split is 'all'; expected one of train, val, test"),
        (FinetuneConfig, {"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        (FinetuneConfig, {"optim": {"accumulate": 3}}, "accumulate is 3; expected a divisor of batch_size 4"),
        (FinetuneConfig, {"views": {"views": [0, 1]}}, r"views is \(0, 1\)"),
    ],
)
def test_settings_that_cannot_be(kind: type, how: dict[str, Any], said: str) -> None:
    optim = {"epochs": 1, "batch_size": 4, "base_lr": 0.1} | how.pop("optim", {})
    rest = {"model": to_plain(vit_base())} if kind is PretrainConfig else {"encoder": {}}
    with pytest.raises(ConfigError, match=said):
        from_plain(kind, {**rest, "optim": optim, **how})

"""Whole training recipes by name: the papers' settings, and two small ones.

A recipe is a function without arguments; a variant calls it and changes fields, as `--set` does.

>>> RECIPES["adamae-ssv2"]().pretrain.optim.lr
0.00015
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vidkit.settings import model as model_config
from vidkit.settings.model import AdaMAEConfig, MaskConfig
from vidkit.settings.train import DataConfig, FinetuneConfig, LogConfig, OptimConfig, PretrainConfig, ViewConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What pre-training, fine-tuning and the final test do, each with its own settings."""

    about: str
    pretrain: PretrainConfig
    finetune: FinetuneConfig
    test: ViewConfig


def adamae_ssv2() -> Recipe:
    """AdaMAE on Something-Something v2 (tables 4 to 6): 8 GPUs with 32 clips each.

    The paper does not print the epochs of the fine-tuning, gives it the warm-up of the pre-training (40), and
    RandAugment as (0.9, 0.05). Where it does not say, VideoMAE's published settings hold: 40 epochs, 5 of
    warm-up, magnitude 9 and deviation 0.5; test by 2 temporal x 3 spatial views of segments.
    """
    return Recipe(
        about="AdaMAE, ViT-B, Something-Something v2",
        pretrain=PretrainConfig(
            model=model_config.vit_base(),
            optim=OptimConfig(epochs=800, batch_size=256, base_lr=1.5e-4, warmup_epochs=40, precision="bf16"),
            data=DataConfig(stride=2, augment="pretrain-multi-scale", workers=8),
            log=LogConfig(every=20, save_epochs=5, keep_epochs=100),
        ),
        finetune=FinetuneConfig(
            encoder=model_config.vit_base().encoder,
            optim=_finetune(epochs=40, base_lr=1.5e-4),
            data=DataConfig(mode="segments", augment="finetune", workers=8),
            views=ViewConfig(mode="segments"),
            log=LogConfig(every=20),
        ),
        test=ViewConfig(mode="segments", views=(2, 3), crop_share=0.875),
    )


def adamae_k400() -> Recipe:
    """AdaMAE on Kinetics-400 (tables 4 to 6): 75 epochs of fine-tuning as VideoMAE's, 5 x 3 views."""
    base = adamae_ssv2()
    return replace(
        base,
        about="AdaMAE, ViT-B, Kinetics-400",
        pretrain=replace(base.pretrain, data=replace(base.pretrain.data, stride=4)),
        finetune=replace(
            base.finetune,
            optim=_finetune(epochs=75, base_lr=1e-3),
            data=replace(base.finetune.data, mode="train", stride=4),
            views=ViewConfig(stride=4),
        ),
        test=ViewConfig(stride=4, views=(5, 3), crop_share=0.875),
    )


def videomae_ssv2() -> Recipe:
    """VideoMAE's tube masks at 90 % with the settings of `adamae-ssv2`: the paper's baseline."""
    return _videomae(adamae_ssv2())


def videomae_k400() -> Recipe:
    """VideoMAE's tube masks at 90 % with the settings of `adamae-k400`."""
    return _videomae(adamae_k400())


def small_64() -> Recipe:
    """The small-data ViT at 64 pixels, for the composite: one GPU, or the clips in its memory."""
    model = model_config.small_64()
    return Recipe(
        about="AdaMAE, small ViT, 64x64 clips",
        pretrain=PretrainConfig(
            model=model,
            optim=OptimConfig(epochs=200, batch_size=256, base_lr=6e-4, warmup_epochs=10, precision="bf16"),
            data=DataConfig(stride=4, workers=4),
        ),
        finetune=FinetuneConfig(
            encoder=model.encoder,
            optim=OptimConfig(
                epochs=50,
                batch_size=256,
                base_lr=1e-3,
                warmup_epochs=5,
                betas=(0.9, 0.999),
                layer_decay=0.75,
                precision="bf16",
            ),
            data=DataConfig(augment="finetune", workers=4),
        ),
        test=ViewConfig(views=(5, 1)),
    )


def tiny() -> Recipe:
    """Learns the generated clips on two CPU cores in a couple of minutes: which way a shape moves."""
    model = model_config.tiny()
    return Recipe(
        about="AdaMAE, 4 blocks, 64x64 clips, for a CPU",
        pretrain=PretrainConfig(
            model=model,
            optim=OptimConfig(epochs=25, batch_size=32, base_lr=2.4e-2, warmup_epochs=2),
            data=DataConfig(mode="segments", cache="host", workers=0),
        ),
        finetune=FinetuneConfig(
            encoder=model.encoder,
            optim=OptimConfig(
                epochs=24,
                batch_size=32,
                base_lr=2.4e-2,
                warmup_epochs=2,
                betas=(0.9, 0.999),
                layer_decay=0.9,
            ),
            data=DataConfig(mode="segments", augment="none", cache="host", workers=0),
            views=ViewConfig(mode="segments", batch_size=32),
            val_epochs=4,
            drop_path=0.0,
            mixup=0.0,
            cutmix=0.0,
            label_smoothing=0.0,
        ),
        test=ViewConfig(mode="segments", views=(2, 1), batch_size=32),
    )


def tiny_8() -> Recipe:
    """Tells masks of 90 % and more apart on two CPU cores; see `vidkit ablate`."""
    base, model = tiny(), model_config.tiny_8()
    return replace(
        base,
        about="AdaMAE, 4 blocks, 64x64 clips in patches of 8, for masks of 90 % and more on a CPU",
        pretrain=replace(base.pretrain, model=model, data=replace(base.pretrain.data, augment="none")),
        finetune=replace(
            base.finetune,
            encoder=model.encoder,
            optim=replace(base.finetune.optim, epochs=12, warmup_epochs=1),
        ),
    )


def _finetune(*, epochs: int, base_lr: float) -> OptimConfig:
    return OptimConfig(
        epochs=epochs,
        batch_size=256,
        base_lr=base_lr,
        warmup_epochs=5,
        min_lr=1e-6,
        betas=(0.9, 0.999),
        layer_decay=0.75,
        precision="bf16",
    )


def _videomae(base: Recipe) -> Recipe:
    model: AdaMAEConfig = replace(base.pretrain.model, mask=MaskConfig(strategy="tube", ratio=0.9))
    return replace(
        base, about=base.about.replace("AdaMAE", "VideoMAE"), pretrain=replace(base.pretrain, model=model)
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "adamae-ssv2": adamae_ssv2,
    "adamae-k400": adamae_k400,
    "videomae-ssv2": videomae_ssv2,
    "videomae-k400": videomae_k400,
    "small-64": small_64,
    "tiny": tiny,
    "tiny-8": tiny_8,
}

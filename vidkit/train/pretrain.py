"""Masked pre-training (AdaMAE, section 3) on a built dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from vidkit.data.load.batch import ClipBatch
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.masking import mask_generator, own
from vidkit.settings.mask import ORACLES
from vidkit.settings.model import Grid
from vidkit.settings.train import PretrainConfig
from vidkit.train import loop
from vidkit.train.probe.during import Hook
from vidkit.train.setup import accelerator, begin, make_loader, open_clips


def run(
    config: PretrainConfig,
    data: Place,
    out: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    keep: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Pre-train on the dataset at `data`; everything goes to the folder `out`.

    Args:
        init: a checkpoint to take the weights from, instead of drawing them.
        keep: shares of the run at which a checkpoint of the weights is kept (`RunFolder.step`). No setting, since
            it changes nothing that is learnt.

    Returns:
        The run's summary, as in summary.json.

    Raises:
        ConfigError: settings that do not fit each other, the dataset, or the run in `out`.
        DatasetError: no usable dataset, or too many clips that cannot be decoded.
        TrainingError: values that are not finite, a checkpoint that cannot be written.
    """
    if ":" in config.model.mask.strategy:
        own.find(config.model.mask.strategy)  # before anything is written
    torch.manual_seed(config.seed)
    accelerate = accelerator(config.optim, config.log.tracker, str(out))
    dataset = open_clips(
        data,
        config.data,
        config.model.encoder,
        config.seed,
        config.data.label_fraction,
        moving=config.moving or config.model.mask.strategy in ORACLES,
    )
    folder, facts, resumed = begin("pretrain", config, dataset, out, accelerate, init=init, resume=resume)
    model = first_model(config)
    if init is not None and not resumed:
        _take_weights(model, init)
    with make_loader(dataset, config.data, config.optim, accelerate, quiet=quiet) as loader:
        hook = _probing(config, data, accelerate)
        task = loop.Task(
            kind="pretrain",
            model=model,
            model_config=config.model,
            groups=param_groups_weight_decay(
                model, config.optim.weight_decay, no_weight_decay_list=model.no_weight_decay()
            ),
            loader=loader,
            losses=_losses(config, accelerate.process_index),
            optim=config.optim,
            log=config.log,
            seed=config.seed,
            facts=facts,
            validate=(hook or (lambda model: {})) if config.probe_epochs else None,
            validate_epochs=max(1, config.probe_epochs),
            keep=keep,
        )
        try:
            return loop.fit(task, folder, accelerate, resume=resumed, quiet=quiet)
        finally:
            if hook is not None:
                hook.close()


def first_model(config: PretrainConfig) -> AdaMAE:
    """With the weights that a run begins with."""
    model = AdaMAE(config.model, torch.Generator().manual_seed(config.seed))
    if config.paired and model.sampler is not None:
        # weights are drawn module by module: the sampler's draws move all that come after it
        loss = replace(config.model.loss, objective="paper", entropy_floor=0.0)
        plain = replace(config.model, mask=replace(config.model.mask, strategy="random"), loss=loss)
        others = AdaMAE(plain, torch.Generator().manual_seed(config.seed))
        model.load_state_dict(others.state_dict(), strict=False)
    return model


def _probing(config: PretrainConfig, data: Place, accelerate: Any) -> Hook | None:
    """On the first process alone: the others wait for it."""
    if not config.probe_epochs or not accelerate.is_main_process:
        return None
    return Hook(config, data, accelerate.device)


def _losses(config: PretrainConfig, rank: int) -> loop.Losses:
    def losses(model: nn.Module, batch: ClipBatch, number: int) -> dict[str, Tensor]:
        generator = mask_generator(config.seed, number, rank, batch.video.device)
        shares_BN = None if batch.moving is None else token_shares(batch.moving, config.model.encoder.grid)
        out = model(batch.video, generator, diagnostics=config.diagnostics, shares_BN=shares_BN)
        found = {
            "loss": out.loss,
            "reconstruction_loss": out.reconstruction_loss,
            "sampling_loss": out.sampling_loss,
            "sampler_entropy": out.sampler_entropy,
            "effective_tokens": out.effective_tokens,
            "ideal_effective_tokens": out.ideal_effective_tokens,
            "motion_overlap": out.motion_overlap,
            # by chance: the share of all tokens
            "visible_moving": None if shares_BN is None else (shares_BN.gather(1, out.keep) > 0).float().mean(),
            "tokens_moving": None if shares_BN is None else (shares_BN > 0).float().mean(),
        }
        return {name: value for name, value in found.items() if value is not None}

    return losses


def token_shares(moving_BTGG: Tensor, grid: Grid) -> Tensor:
    """Share of each token that moves, 0 to 1: uint8 shares of each frame, averaged over tubelets. (B, N)."""
    batch, cells = len(moving_BTGG), grid[1] * grid[2]
    return moving_BTGG.view(batch, grid[0], -1, cells).float().mean(dim=2).div_(255).flatten(1)


def _take_weights(model: AdaMAE, init: Path) -> None:
    found = checkpoints.load(init)
    if found.kind != "adamae":
        raise ConfigError(
            f"the checkpoint holds a {found.kind} model",
            file=init,
            hint="pre-training goes on from a pre-trained model",
        )
    if found.config != model.config:
        raise ConfigError(
            "the checkpoint's model has other settings than this run's",
            file=init,
            hint="see config in its facts (`vidkit convert` prints them), and give the same by --set",
        )
    model.load_state_dict(found.model)

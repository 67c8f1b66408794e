"""Supervised training of a classifier, from a pre-trained encoder or from scratch (AdaMAE, section A.6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it
from torch import Tensor, nn

from vidkit.data.load.batch import ClipBatch
from vidkit.data.load.clip_dataset import ClipDataset
from vidkit.data.load.loader import ClipLoader
from vidkit.data.load.mixing import BatchMix
from vidkit.data.storage.places import Place
from vidkit.errors import ConfigError
from vidkit.models import checkpoints
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier, layer_decay_groups
from vidkit.models.masking import num_visible, random_subset
from vidkit.settings.model import ClassifierConfig, ViTConfig
from vidkit.settings.train import FinetuneConfig
from vidkit.train import evaluate, loop
from vidkit.train.evaluate import check_label_map, open_test_split
from vidkit.train.setup import accelerator, begin, make_loader, open_clips


def run(
    config: FinetuneConfig,
    data: Place,
    out: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tune on the dataset at `data`; everything goes to the folder `out`.

    Args:
        init: a pre-trained model, whose encoder is taken, or a fine-tuned one of the same classes, which is taken
            whole. None: the weights are drawn.

    Returns:
        The run's summary, as in summary.json.

    Raises:
        ConfigError: settings that do not fit each other, the dataset, the checkpoint, or the run in `out`.
        DatasetError: no usable dataset, or clips that cannot be decoded.
        TrainingError: values that are not finite, a checkpoint that cannot be written.
    """
    torch.manual_seed(config.seed)
    accelerate = accelerator(config.optim, config.log.tracker, str(out))
    start = None if init is None else checkpoints.load(init)
    vit = config.encoder if start is None else start.config.encoder
    visible = None if config.mask_ratio is None else num_visible(vit.grid, config.mask_ratio)
    dataset = _open(config, data, vit)
    folder, facts, resumed = begin("finetune", config, dataset, out, accelerate, init=init, resume=resume)
    model = _make_model(config, vit, len(dataset.classes))
    if start is not None and init is not None:
        _take_weights(model, start, dataset, init)
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(("head.", "fc_norm.")))
    multi = dataset.clips.rule == "multi-hot"
    with make_loader(dataset, config.data, config.optim, accelerate, quiet=quiet) as loader:
        validate, close = _validation(config, data, vit, accelerate)
        task = loop.Task(
            kind="finetune",
            model=model,
            model_config=model.config,
            groups=layer_decay_groups(model, config.optim.weight_decay, config.optim.layer_decay),
            loader=loader,
            losses=_losses(config, len(dataset.classes), multi, accelerate.process_index, vit.tokens, visible),
            optim=config.optim,
            log=config.log,
            seed=config.seed,
            facts=facts,
            validate=validate,
            validate_epochs=config.val_epochs,
            metric="mAP" if multi else "top1",
        )
        try:
            return loop.fit(task, folder, accelerate, resume=resumed, quiet=quiet)
        finally:
            close()


def _open(config: FinetuneConfig, data: Place, vit: ViTConfig) -> ClipDataset:
    dataset = open_clips(data, config.data, vit, config.seed, config.data.label_fraction)
    # a fraction of 1: all that have a label
    return open_clips(data, config.data, vit, config.seed, 1.0) if dataset.unlabelled else dataset


def _make_model(config: FinetuneConfig, vit: ViTConfig, classes: int) -> VideoClassifier:
    settings = ClassifierConfig(
        encoder=vit,
        classes=classes,
        dropout=config.dropout,
        drop_path=config.drop_path,
        head_scale=config.head_scale,
        recompute=config.recompute,
    )
    return VideoClassifier(settings, torch.Generator().manual_seed(config.seed))


def _take_weights(model: VideoClassifier, start: Checkpoint, dataset: ClipDataset, init: Path) -> None:
    if start.kind == "classifier":
        check_label_map(start.facts, dataset, init)
        model.load_state_dict(start.model)
    else:
        model.load_encoder(start.model)


def _losses(
    config: FinetuneConfig, classes: int, multi: bool, rank: int, tokens: int, visible: int | None
) -> loop.Losses:
    """`visible` of `tokens` are shown, drawn anew for each batch; None: all."""
    mix = BatchMix(
        classes=classes,
        mixup=config.mixup,
        cutmix=config.cutmix,
        prob=config.mix_prob,
        smoothing=config.label_smoothing,
    )
    mixes = config.mix_prob > 0 and (config.mixup > 0 or config.cutmix > 0)

    def losses(model: nn.Module, batch: ClipBatch, number: int) -> dict[str, Tensor]:
        labels = batch.multi_hot if multi else batch.class_id
        assert labels is not None
        video = batch.video
        if mixes:
            video = video.contiguous().float().div_(255)
            video, targets_BL = mix(video, labels, (config.seed, number, rank))
        else:
            targets_BL = mix.smooth(labels)
        # by torch's own generator, which the loop seeds for each batch
        shown = () if visible is None else (random_subset(video, tokens, visible, None),)
        logits_BL = model(video, *shown)
        if multi:
            return {"loss": F.binary_cross_entropy_with_logits(logits_BL.float(), targets_BL)}
        right = logits_BL.detach().argmax(dim=1) == targets_BL.argmax(dim=1)
        return {"loss": F.cross_entropy(logits_BL.float(), targets_BL), "train_top1": right.float().mean()}

    return losses


def _validation(config: FinetuneConfig, data: Place, vit: ViTConfig, accelerate: Any) -> tuple[Any, Any]:
    """(the loop's `validate`, what to call at the end)."""
    if config.val_split is None:
        return None, lambda: None
    dataset = open_test_split(data, config.val_split, vit, config.views, classes=config.data.classes)
    loader = ClipLoader(
        dataset,
        batch_size=config.views.batch_size,
        workers=config.data.workers,
        rank=accelerate.process_index,
        world=accelerate.num_processes,
        cache="none" if config.data.cache == "none" else "host",
    )

    def validate(model: nn.Module) -> dict[str, float]:
        if not isinstance(model, VideoClassifier):
            raise ConfigError(f"cannot evaluate a {type(model).__name__}")
        predictions = evaluate.predict(model, loader, accelerate.device, precision=config.optim.precision)
        found = evaluate.metrics_of(predictions)
        return {name: value for name, value in found.items() if isinstance(value, float)}

    return validate, loader.close

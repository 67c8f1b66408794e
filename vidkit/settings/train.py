"""Settings of training runs as frozen dataclasses. What they mean for the models is in `model`.

Rates are given for 256 clips a step and scaled linearly with the clips that a step really has (Goyal et al. 2017;
AdaMAE, section A.5): `lr = base_lr * batch_size / 256`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from vidkit.settings.encode import SPLIT_NAMES, Faults
from vidkit.settings.mask import LATER
from vidkit.settings.model import AdaMAEConfig, Recompute, ViTConfig, one_of

Precision = Literal["fp32", "bf16", "fp16"]
Cache = Literal["none", "host", "device"]
TrainMode = Literal["train", "segments"]
Targets = Literal["single", "multi"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which clips of a built dataset are read, and how. Frames and pixels are the encoder's."""

    split: str = "train"
    stride: int = 4
    """Between the frames of a clip, in stored frames; unused with mode "segments"."""
    mode: TrainMode = "train"
    """"train": frames at the stride from a random start. "segments": one from each part of the whole clip."""
    augment: str = "pretrain"
    """A name in `data.augment.AUGMENTS`."""
    repeats: int = 1
    """Clips with a crop each from one decode (Hoffer et al. 2020). They share a step's `batch_size`."""
    label_fraction: float | None = None
    """About this share of each class's labelled clips; None: all clips."""
    classes: tuple[str, ...] = field(default=(), metadata=LATER)
    """Only clips of these, such as the meta-train classes of a few-shot benchmark; empty: of all."""
    cache: Cache = "none"
    disk_cache: str | None = field(default=None, metadata=LATER)
    """A folder that keeps clips of a dataset in a store once they were read."""
    disk_cache_bytes: int = field(default=50_000_000_000, metadata=LATER)
    """At most so many of a split."""
    workers: int = 2
    """Loader processes of each training process; 0: the training process reads."""
    decoder: str = "pyav"
    max_bad: float = 0.01
    """Clips that training may leave out because they cannot be decoded: a number, or a share below 1."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.split in SPLIT_NAMES, "split", self.split, "one of " + ", ".join(SPLIT_NAMES))
        faults.check(self.stride >= 1, "stride", self.stride, "at least 1")
        faults.check(self.mode in get_args(TrainMode), "mode", self.mode, one_of(TrainMode))
        faults.check(self.repeats >= 1, "repeats", self.repeats, "at least 1")
        fraction = self.label_fraction
        faults.check(fraction is None or 0 < fraction <= 1, "label_fraction", fraction, "above 0, at most 1")
        faults.check(self.cache in get_args(Cache), "cache", self.cache, one_of(Cache))
        faults.check(self.disk_cache_bytes >= 1, "disk_cache_bytes", self.disk_cache_bytes, "at least 1")
        faults.check(self.workers >= 0, "workers", self.workers, "at least 0")
        faults.check(self.max_bad >= 0, "max_bad", self.max_bad, "at least 0")
        faults.raise_if_any("data settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW, cosine schedule with linear warm-up, and how a step is carried out."""

    epochs: int
    batch_size: int
    """Clips in a step, over all processes and accumulated parts."""
    base_lr: float
    """For 256 clips a step."""
    warmup_epochs: float = 0.0
    start_lr: float = 1e-6
    """At the start of the warm-up. Not scaled, like `min_lr`."""
    min_lr: float = 1e-5
    """At the end."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    """Not of biases, norms, and what the model exempts."""
    layer_decay: float = 1.0
    """Each layer's rate as a share of the next one's (BEiT); fine-tuning only."""
    clip_norm: float | None = None
    """Gradients are scaled down to this norm."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and what
    checkpoints hold as the model; training goes on from the weights themselves."""
    accumulate: int = 1
    """Parts that a step's clips are worked on in, one after another."""
    precision: Precision = "fp32"
    compile: bool = False
    """torch.compile the model."""
    part_epochs: float | None = field(default=None, metadata=LATER)
    """The run's length where it is no whole number of epochs, rounded to whole steps; `epochs` is then that number
    rounded up. None: `epochs`."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("epochs", "batch_size", "accumulate"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        length = self.part_epochs
        if length is not None:
            good = self.epochs - 1 < length <= self.epochs
            faults.check(good, "part_epochs", length, f"above {self.epochs - 1}, at most epochs {self.epochs}")
        for name in ("base_lr",):
            faults.check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("warmup_epochs", "start_lr", "min_lr", "weight_decay"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        faults.check(good, "betas", self.betas, "two numbers from 0, below 1")
        faults.check(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "above 0, at most 1")
        faults.check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0")
        faults.check(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "above 0, below 1")
        faults.check(self.precision in get_args(Precision), "precision", self.precision, one_of(Precision))
        parts = self.batch_size % self.accumulate == 0
        faults.check(parts, "accumulate", self.accumulate, f"a divisor of batch_size {self.batch_size}")
        faults.raise_if_any("optimiser settings")

    @property
    def length(self) -> float:
        """Epochs of the run, parts of one included."""
        return self.epochs if self.part_epochs is None else self.part_epochs

    def total_steps(self, steps_per_epoch: int) -> int:
        """Of the run; at least one."""
        return max(1, round(self.length * steps_per_epoch))

    @property
    def lr(self) -> float:
        """The highest rate of the run."""
        return self.base_lr * self.batch_size / 256


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfig:
    """What a run writes down, and how often."""

    every: int = 10
    """Steps between lines of log.jsonl. Figures are means over them."""
    save_epochs: int = 1
    """Epochs between checkpoints that a run can go on from."""
    keep_epochs: int = 0
    """Keep a checkpoint of the weights every so many epochs as well; 0: none."""
    tracker: str | None = None
    """A tracker of accelerate's ("tensorboard", "wandb", ...), which must be installed."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("every", "save_epochs"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.keep_epochs >= 0, "keep_epochs", self.keep_epochs, "at least 0")
        faults.raise_if_any("log settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """A pre-training run, whole: a checkpoint and a row of results carry it."""

    model: AdaMAEConfig
    optim: OptimConfig
    data: DataConfig = DataConfig()
    log: LogConfig = LogConfig()
    seed: int = 0
    """Of weights, order, augmentation and masks."""
    diagnostics: bool = True
    """Log how visible tokens overlap with motion, which reads the clips once more."""
    moving: bool = field(default=False, metadata=LATER)
    """Log which share of the visible tokens lies on what moves, for datasets that say where that is."""
    paired: bool = field(default=False, metadata=LATER)
    """Draw the weights of encoder and decoder as the same seed draws them without a sampler, so that adaptive masks
    begin where others do. The sampler's own come from the same seed."""
    probe_epochs: int = field(default=0, metadata=LATER)
    """Epochs between probes of the frozen encoder on the validation split, into log.jsonl; 0: none."""

    def __post_init__(self) -> None:
        faults = Faults()
        _check_common(faults, self.seed, self.optim, self.data)
        faults.check(self.probe_epochs >= 0, "probe_epochs", self.probe_epochs, "at least 0")
        faults.check(self.optim.layer_decay == 1, "optim.layer_decay", self.optim.layer_decay, "1 in pre-training")
        faults.raise_if_any("pre-training settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewConfig:
    """How a clip is looked at in a test: scores are averaged over temporal x spatial views."""

    views: tuple[int, int] = (1, 1)
    """Temporal x spatial."""
    stride: int = 4
    mode: Literal["views", "segments"] = "views"
    """"views": frames at the stride from uniform starts. "segments": one from each part of the whole clip."""
    crop_share: float = 1.0
    """Side of the crop as a share of the picture's short side."""
    batch_size: int = 16
    """Clips at a time in each process, with all their views."""

    def __post_init__(self) -> None:
        faults = Faults()
        good = len(self.views) == 2 and min(self.views) >= 1
        faults.check(good, "views", self.views, "two numbers from 1: temporal x spatial")
        faults.check(self.stride >= 1, "stride", self.stride, "at least 1")
        faults.check(self.mode in ("views", "segments"), "mode", self.mode, "'views' or 'segments'")
        faults.check(0 < self.crop_share <= 1, "crop_share", self.crop_share, "above 0, at most 1")
        faults.check(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        faults.raise_if_any("view settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig:
    """A run that trains a classifier, from a checkpoint's encoder or from scratch."""

    encoder: ViTConfig
    """Where weights are taken from a checkpoint, its own encoder settings hold instead."""
    optim: OptimConfig
    data: DataConfig = DataConfig(augment="finetune")
    log: LogConfig = LogConfig()
    views: ViewConfig = ViewConfig()
    """Of the evaluations during training."""
    val_split: str | None = "val"
    """None: no evaluation during training, and no best checkpoint."""
    val_epochs: int = 1
    """Epochs between evaluations."""
    seed: int = 0
    dropout: float = 0.0
    drop_path: float = 0.1
    head_scale: float = 0.001
    recompute: Recompute = "none"
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_prob: float = 1.0
    """Of mixing a batch at all."""
    label_smoothing: float = 0.1
    mask_ratio: float | None = None
    """Share of the tokens that is dropped at random, anew for each batch, before the encoder; tests see all tokens.
    None: nothing is dropped. How many that leaves: `masking.num_visible`."""
    freeze_encoder: bool = False
    """Train the head alone (linear probe)."""

    def __post_init__(self) -> None:
        faults = Faults()
        _check_common(faults, self.seed, self.optim, self.data)
        faults.check(
            self.val_split is None or self.val_split in SPLIT_NAMES,
            "val_split",
            self.val_split,
            "one of " + ", ".join(SPLIT_NAMES),
        )
        faults.check(self.val_epochs >= 1, "val_epochs", self.val_epochs, "at least 1")
        for name in ("dropout", "drop_path", "label_smoothing"):
            faults.check(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0, below 1")
        for name in ("mixup", "cutmix"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        faults.check(0 <= self.mix_prob <= 1, "mix_prob", self.mix_prob, "0 to 1")
        ratio = self.mask_ratio
        faults.check(ratio is None or 0 < ratio < 1, "mask_ratio", ratio, "above 0 and below 1")
        faults.raise_if_any("fine-tuning settings")


def _check_common(faults: Faults, seed: int, optim: OptimConfig, data: DataConfig) -> None:
    faults.check(seed >= 0, "seed", seed, "at least 0")
    rows = optim.batch_size // optim.accumulate
    faults.check(
        rows % data.repeats == 0, "data.repeats", data.repeats, f"a divisor of the {rows} clips worked on at once"
    )

"""Settings of the models as frozen dataclasses, and the named sizes as plain functions.

A size is a function without arguments that returns a whole config; a variant calls it and changes fields:

>>> from dataclasses import replace
>>> base = vit_base()
>>> base.encoder.tokens
1568
>>> replace(base, mask=MaskConfig(strategy="tube", ratio=0.9)).mask.strategy
'tube'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from vidkit.settings.encode import Faults
from vidkit.settings.mask import LATER
from vidkit.settings.mask import Grid as Grid
from vidkit.settings.mask import MaskConfig as MaskConfig
from vidkit.settings.mask import Rounding as Rounding
from vidkit.settings.mask import Strategy as Strategy

Positions = Literal["1d", "3d"]
Recompute = Literal["none", "cheap", "light", "full"]
TokenizerKind = Literal["tubelet", "spt"]
Shifts = Literal["diagonal", "cardinal", "pixel"]
AttentionKind = Literal["plain", "lsa"]
DecoderKind = Literal["self", "cross"]
Objective = Literal["paper", "plackett-luce"]
Sharpness = Literal["learned", "none"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_width(faults: Faults, prefix: str, width: int, heads: int, positions: Positions) -> None:
    """Heads divide the width, and the sine-cosine table has room for a sine and a cosine on each axis."""
    faults.check(width % heads == 0, f"{prefix}heads", heads, f"a divisor of the width {width}")
    needed = 6 if positions == "3d" else 2
    faults.check(width % 2 == 0 and width >= needed, f"{prefix}width", width, f"an even number from {needed}")


def one_of(choices: object) -> str:
    """The values of a `Literal`, in words for an error."""
    return "one of " + ", ".join(str(choice) for choice in get_args(choices))


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """A clip and the vision transformer that reads it. The same one serves pre-training and fine-tuning."""

    frames: int = 16
    size: int = 224
    """Pixels; a frame is square."""
    channels: int = 3
    tubelet: int = 2
    """Frames in a token."""
    patch: int = 16
    """Pixels on each side of a token."""
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    positions: Positions = "1d"
    """Fixed sine-cosine table: "1d" over the token's number (VideoMAE), "3d" separable over time, row, column."""
    pixel_mean: tuple[float, ...] = IMAGENET_MEAN
    """Per channel, for values in [0, 1]."""
    pixel_std: tuple[float, ...] = IMAGENET_STD
    tokenizer: TokenizerKind = "tubelet"
    """"spt": a token also sees four shifted copies of its patch (shifted patch tokenization, Lee et al. 2021)."""
    shifts: Shifts = "diagonal"
    """Of "spt": half a patch diagonally (Lee et al.), half a patch up, down, left and right, or one pixel so."""
    attention: AttentionKind = "plain"
    """"lsa": a learned temperature for each head, and no token attends to itself (Lee et al. 2021)."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("frames", "size", "channels", "tubelet", "patch", "width", "depth", "heads"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.mlp_ratio > 0, "mlp_ratio", self.mlp_ratio, "above 0")
        faults.check(self.positions in get_args(Positions), "positions", self.positions, "'1d' or '3d'")
        faults.check(self.tokenizer in get_args(TokenizerKind), "tokenizer", self.tokenizer, "'tubelet' or 'spt'")
        faults.check(self.shifts in get_args(Shifts), "shifts", self.shifts, one_of(Shifts))
        faults.check(self.attention in get_args(AttentionKind), "attention", self.attention, "'plain' or 'lsa'")
        faults.raise_if_any("encoder settings")
        half = self.tokenizer == "spt" and self.shifts != "pixel"
        faults.check(not half or self.patch >= 2, "patch", self.patch, "at least 2, or there is no half of it")
        several = self.attention == "plain" or self.tokens > 1
        faults.check(several, "attention", self.attention, "'plain' for a single token: it has no other to see")
        for name, part in (("frames", "tubelet"), ("size", "patch")):
            value, divisor = getattr(self, name), getattr(self, part)
            faults.check(value % divisor == 0, name, value, f"a multiple of {part} {divisor}")
        check_width(faults, "", self.width, self.heads, self.positions)
        for name in ("pixel_mean", "pixel_std"):
            value = getattr(self, name)
            faults.check(len(value) == self.channels, name, value, f"{self.channels} numbers, one for each channel")
        faults.check(all(value > 0 for value in self.pixel_std), "pixel_std", self.pixel_std, "numbers above 0")
        faults.raise_if_any("encoder settings")

    @property
    def grid(self) -> Grid:
        """Tokens along time, height and width."""
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    @property
    def tokens(self) -> int:
        """N."""
        time, height, width = self.grid
        return time * height * width

    @property
    def patch_values(self) -> int:
        """P: numbers in a token's tubelet."""
        return self.tubelet * self.patch * self.patch * self.channels


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """The transformer that predicts masked patches; as small as the paper has it."""

    width: int = 384
    depth: int = 4
    heads: int = 6
    kind: DecoderKind = field(default="self", metadata=LATER)
    """"self": all tokens attend to each other. "cross": mask tokens attend to the visible ones only (CrossMAE)."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.kind in get_args(DecoderKind), "kind", self.kind, one_of(DecoderKind))
        for name in ("width", "depth", "heads"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.raise_if_any("decoder settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """The network that gives each token its probability (AdaMAE, appendix A.2). Unused without adaptive masks."""

    kind: Literal["mha", "mlp"] = "mha"
    depth: int = 1
    """Transformer blocks; "mlp" has none."""
    width_divisor: Literal[1, 2] = 1
    """2: tokens are projected from width d to d/2 first."""
    heads: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    input: Literal["detached", "released"] = "detached"
    """"detached": the sampling loss trains the sampler only, as the paper says. "released": the tokenizer too."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.kind in ("mha", "mlp"), "kind", self.kind, "'mha' or 'mlp'")
        faults.check(self.depth >= 1, "depth", self.depth, "at least 1")
        faults.check(self.width_divisor in (1, 2), "width_divisor", self.width_divisor, "1 or 2")
        faults.check(self.heads >= 1, "heads", self.heads, "at least 1")
        faults.check(self.mlp_ratio > 0, "mlp_ratio", self.mlp_ratio, "above 0")
        faults.check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0, below 1")
        faults.check(self.input in ("detached", "released"), "input", self.input, "'detached' or 'released'")
        faults.raise_if_any("sampler settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """What is predicted of a masked token, how errors count, and how much the sampler's own loss does."""

    kind: Literal["mse", "l1"] = "mse"
    normalize: bool = True
    """Targets are normalised in each patch and channel; otherwise they are pixel values in [0, 1]."""
    sampling_weight: float = 1e-4
    objective: Objective = field(default="paper", metadata=LATER)
    """Of the sampler. "paper": as published. "plackett-luce": the log-probability of the drawn set, times how much
    worse it is predicted than a second mask of the same clip. Encoder and decoder then run twice a clip."""
    entropy_floor: float = field(default=0.0, metadata=LATER)
    """Share of log N that the sampler's entropy is held above: what it lacks is added to the sampling loss."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.objective in get_args(Objective), "objective", self.objective, one_of(Objective))
        faults.check(0 <= self.entropy_floor < 1, "entropy_floor", self.entropy_floor, "at least 0, below 1")
        faults.check(self.kind in ("mse", "l1"), "kind", self.kind, "'mse' or 'l1'")
        faults.check(self.sampling_weight >= 0, "sampling_weight", self.sampling_weight, "at least 0")
        faults.raise_if_any("loss settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecomputeConfig:
    """Activations that are computed again in the backward pass instead of being kept.

    "cheap" computes norms and activations again, and on a CPU, with "decoder" so, all of the decoder clip by clip;
    "light" keeps a block's attention and computes its MLP again; "full" computes everything in a block again.
    """

    encoder: Recompute = "none"
    decoder: Recompute = "none"
    sampler: Recompute = "none"

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("encoder", "decoder", "sampler"):
            faults.check(getattr(self, name) in get_args(Recompute), name, getattr(self, name), one_of(Recompute))
        faults.raise_if_any("recompute settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaMAEConfig:
    """A masked autoencoder: every knob of the paper's Table 1."""

    encoder: ViTConfig = ViTConfig()
    decoder: DecoderConfig = DecoderConfig()
    mask: MaskConfig = field(default=MaskConfig())
    sampler: SamplerConfig = SamplerConfig()
    loss: LossConfig = LossConfig()
    recompute: RecomputeConfig = RecomputeConfig()

    def __post_init__(self) -> None:
        faults = Faults()
        check_width(faults, "decoder.", self.decoder.width, self.decoder.heads, self.encoder.positions)
        if self.mask.strategy == "adaptive" and self.sampler.kind == "mha":
            width = self.encoder.width // self.sampler.width_divisor
            expected = f"a divisor of the sampler's width {width}"
            faults.check(width % self.sampler.heads == 0, "sampler.heads", self.sampler.heads, expected)
        if self.mask.strategy != "adaptive":
            expected = "paper, unless masks are adaptive: there is no sampler"
            faults.check(self.loss.objective == "paper", "loss.objective", self.loss.objective, expected)
            expected = "0, unless masks are adaptive: there is no sampler"
            faults.check(self.loss.entropy_floor == 0, "loss.entropy_floor", self.loss.entropy_floor, expected)
        faults.raise_if_any("model settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierConfig:
    """A video classifier over all tokens: mean pooling, norm, dropout, linear head."""

    encoder: ViTConfig = ViTConfig()
    classes: int
    dropout: float = 0.0
    """Before the head."""
    drop_path: float = 0.1
    """Of the last block; it grows linearly from 0 in the first."""
    head_scale: float = 0.001
    """Factor on the head's initial weights, so that training starts from nearly equal scores."""
    recompute: Recompute = "none"

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.classes >= 1, "classes", self.classes, "at least 1")
        faults.check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0, below 1")
        faults.check(0 <= self.drop_path < 1, "drop_path", self.drop_path, "at least 0, below 1")
        faults.check(self.head_scale > 0, "head_scale", self.head_scale, "above 0")
        faults.check(self.recompute in get_args(Recompute), "recompute", self.recompute, one_of(Recompute))
        faults.raise_if_any("classifier settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class MannConfig:
    """A memory-augmented network (Santoro et al. 2016). The defaults are the paper's, but for `sharpness`."""

    inputs: int = 400
    """Numbers in each input x_t, without the label: 20 x 20 pixels, or an encoder's width."""
    way: int = 5
    """Classes in an episode, and length of a one-hot label."""
    controller: int = 200
    """Width of the LSTM."""
    slots: int = 128
    """Rows of the memory."""
    width: int = 40
    """Numbers in a row, and in a key."""
    reads: int = 4
    """Read heads. Each also writes, to a row of its own."""
    gamma: float = 0.95
    """Decay of the usage weights."""
    sharpness: Sharpness = "learned"
    """"learned": cosines are multiplied with a strength from the controller before the softmax, as in the neural
    Turing machine that the paper starts from. "none": the softmax of cosines alone, as the paper writes it; its
    weights differ by a factor of e^2 at most, and the quick self-test needs about three times the steps."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("inputs", "controller", "slots", "width", "reads"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.way >= 2, "way", self.way, "at least 2")
        faults.check(0 <= self.gamma < 1, "gamma", self.gamma, "at least 0, below 1")
        faults.check(self.sharpness in get_args(Sharpness), "sharpness", self.sharpness, one_of(Sharpness))
        faults.check(self.reads <= self.slots, "reads", self.reads, f"at most the {self.slots} slots")
        faults.raise_if_any("MANN settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class LSTMConfig:
    """LSTM layers over the sequence of inputs and labels: the learner without a memory."""

    inputs: int = 400
    way: int = 5
    hidden: int = 200
    layers: int = 1

    def __post_init__(self) -> None:
        faults = Faults()
        for name in ("inputs", "hidden", "layers"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.way >= 2, "way", self.way, "at least 2")
        faults.raise_if_any("LSTM settings")


def blackbox(inputs: int, way: int, hidden: int = 200) -> LSTMConfig:
    """Two stacked LSTMs: the simplified form of a MANN in arXiv 2308.01916."""
    return LSTMConfig(inputs=inputs, way=way, hidden=hidden, layers=2)


def vit_small() -> AdaMAEConfig:
    """ViT-S, 16 frames at 224 pixels."""
    return AdaMAEConfig(
        encoder=ViTConfig(width=384, depth=12, heads=6), decoder=DecoderConfig(width=192, depth=4, heads=3)
    )


def vit_base() -> AdaMAEConfig:
    """ViT-B, 16 frames at 224 pixels: the paper's Table 4."""
    return AdaMAEConfig(
        encoder=ViTConfig(width=768, depth=12, heads=12), decoder=DecoderConfig(width=384, depth=4, heads=6)
    )


def vit_large() -> AdaMAEConfig:
    """ViT-L, 16 frames at 224 pixels."""
    return AdaMAEConfig(
        encoder=ViTConfig(width=1024, depth=24, heads=16), decoder=DecoderConfig(width=512, depth=4, heads=8)
    )


def small_64() -> AdaMAEConfig:
    """The small-data ViT, 16 frames at 64 pixels. Decoder heads have the encoder's 16 channels each."""
    return AdaMAEConfig(
        encoder=ViTConfig(size=64, patch=8, width=192, depth=9, heads=12, mlp_ratio=2.0),
        decoder=DecoderConfig(width=96, depth=3, heads=6),
    )


def tiny() -> AdaMAEConfig:
    """For two CPU cores: 8 frames at 64 pixels, 64 tokens.

    Separable positions and targets in pixels: on generated clips, most of what per-patch normalisation leaves of a
    plain background is compression noise.
    """
    return AdaMAEConfig(
        encoder=ViTConfig(frames=8, size=64, patch=16, width=96, depth=4, heads=4, mlp_ratio=2.0, positions="3d"),
        decoder=DecoderConfig(width=96, depth=2, heads=4),
        mask=MaskConfig(ratio=0.75),
        sampler=SamplerConfig(heads=4),
        loss=LossConfig(normalize=False),
    )


def tiny_8() -> AdaMAEConfig:
    """For masks of 90 % and more on two CPU cores: patches of 8 pixels, 256 tokens.

    A quarter of the hidden tokens is predicted, by mask tokens that attend to visible ones alone, so that a step
    costs less than one of `tiny`.
    """
    base = tiny()
    return replace(
        base,
        encoder=replace(base.encoder, patch=8, width=64),
        decoder=DecoderConfig(width=64, depth=1, heads=4, kind="cross"),
        mask=MaskConfig(ratio=0.95, targets="random", target_ratio=0.25),
    )


#: The sizes by name, as tables and tests go through them.
SIZES: dict[str, Callable[[], AdaMAEConfig]] = {
    "vit-small": vit_small,
    "vit-base": vit_base,
    "vit-large": vit_large,
    "small-64": small_64,
    "tiny": tiny,
    "tiny-8": tiny_8,
}

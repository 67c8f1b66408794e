"""The config of another project's model: from the shapes of its weights, and from what is told for the rest.

Shapes give widths, depths, the MLP's ratio, tubelet, patch, channels and classes. They do not give the number of
heads, the frames and the size (AdaMAE's sampler has a position for each token, which gives the size).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.foreign.names import MASK_TOKEN, SAMPLER_HEADS, SAMPLER_POSITIONS, Layout, ModelNames, depth_of
from vidkit.settings.model import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AdaMAEConfig,
    ClassifierConfig,
    DecoderConfig,
    LossConfig,
    MaskConfig,
    SamplerConfig,
    ViTConfig,
)

#: Widths of the published models (ViT-S, B, L, H, g) and their heads. Others are not guessed.
PUBLISHED_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}

#: Not a setting of ours: norms have an eps of 1e-6, as VideoMAE and AdaMAE have it.
NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the weights do not say. None: nobody has said it."""

    frames: int | None = None
    size: int | None = None
    heads: int | None = None
    decoder_heads: int | None = None
    ratio: float | None = None
    normalize: bool | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()

    def over(self, other: Told) -> Told:
        """`other`, with what is said here in its place."""
        mine = {name: value for name in Told.__slots__ if (value := getattr(self, name)) not in (None, ())}
        theirs = {name: getattr(other, name) for name in Told.__slots__}
        return Told(**{**theirs, **mine})


def told_by_arguments(arguments: Mapping[str, Any]) -> Told:
    """The options of VideoMAE's and AdaMAE's training scripts, saved beside the weights."""
    frames, segments = arguments.get("num_frames"), arguments.get("num_segments", 1)
    normalize = arguments.get("normlize_target")  # their spelling
    return Told(
        frames=frames * segments if isinstance(frames, int) and isinstance(segments, int) else None,
        size=_number(arguments.get("input_size"), int),
        ratio=_number(arguments.get("mask_ratio"), float),
        normalize=normalize if isinstance(normalize, bool) else None,
    )


def told_by_hf(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Told:
    """config.json and preprocessor_config.json of a Hugging Face model.

    Raises:
        ConfigError: another kind of model, or one with another activation.
    """
    if not config:
        return Told()
    model = config.get("model_type", "videomae")
    if model != "videomae":
        raise ConfigError(f"config.json is of a {model!r} model; expected 'videomae'", field="model_type")
    activation = config.get("hidden_act", "gelu")
    if activation != "gelu":
        raise ConfigError(f"hidden_act is {activation!r}; the blocks here have 'gelu'", field="hidden_act")
    names = config.get("id2label") or {}
    classes = tuple(str(names[key]) for key in sorted(names, key=int)) if isinstance(names, dict) else ()
    numbered = all(name == f"LABEL_{index}" for index, name in enumerate(classes))
    normalize = config.get("norm_pix_loss")
    return Told(
        frames=_number(config.get("num_frames", 16), int),
        size=_number(config.get("image_size", 224), int),
        heads=_number(config.get("num_attention_heads", 12), int),
        decoder_heads=_number(config.get("decoder_num_attention_heads", 6), int),
        normalize=normalize if isinstance(normalize, bool) else None,
        pixel_mean=_numbers(preprocessor.get("image_mean")),
        pixel_std=_numbers(preprocessor.get("image_std")),
        classes=() if numbered else classes,
    )


def infer(
    tensors: Mapping[str, Tensor], names: ModelNames, layout: Layout, kind: str, told: Told
) -> AdaMAEConfig | ClassifierConfig:
    """
    Raises:
        ConfigError: weights that decide the shape are missing or of another form; heads that nobody has said.
    """
    kernel = _shape(tensors, f"{names.tokenizer}.weight", 5)
    width, channels, tubelet, patch = kernel[:4]
    if kernel[4] != patch:
        raise ConfigError(f"patches are square here; {names.tokenizer}.weight has shape {kernel}")
    depth = depth_of(tensors, names.blocks)
    heads = told.heads or PUBLISHED_HEADS.get(width)
    if heads is None:
        raise ConfigError(
            f"weights do not say how many heads there are, and {width} is the width of no published model",
            field="heads",
            hint="give their number: --heads N",
        )
    first = names.block.plain["mlp.fc1"]
    mlp_ratio = _ratio(_shape(tensors, f"{names.blocks}.0.{first}.weight", 2)[0], width)
    frames = told.frames or 16
    adaptive = kind == "adamae" and layout == "videomae" and SAMPLER_POSITIONS in tensors
    size = told.size or 224
    if adaptive:
        size = _size(_shape(tensors, SAMPLER_POSITIONS, 3)[1], frames // tubelet, patch, told.size)
    vit = ViTConfig(
        frames=frames,
        size=size,
        channels=channels,
        tubelet=tubelet,
        patch=patch,
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=mlp_ratio,
        pixel_mean=told.pixel_mean or IMAGENET_MEAN,
        pixel_std=told.pixel_std or IMAGENET_STD,
    )
    if kind == "classifier":
        return ClassifierConfig(encoder=vit, classes=_shape(tensors, f"{names.head}.weight", 2)[0])
    decoder_width = _shape(tensors, MASK_TOKEN, 3)[2]
    decoder_hidden = _shape(tensors, f"{names.decoder}.0.{first}.weight", 2)[0]
    if int(decoder_width * mlp_ratio) != decoder_hidden:
        raise ConfigError(
            f"the MLP is {mlp_ratio:g} widths in the encoder and {decoder_hidden / decoder_width:g} in the "
            "decoder; here they share one ratio",
            field="mlp_ratio",
        )
    return AdaMAEConfig(
        encoder=vit,
        decoder=DecoderConfig(
            width=decoder_width,
            depth=depth_of(tensors, names.decoder),
            # All published models have heads of one width in encoder and decoder.
            heads=told.decoder_heads or max(1, decoder_width * heads // width),
        ),
        mask=MaskConfig(
            strategy="adaptive" if adaptive else "tube", ratio=told.ratio or (0.95 if adaptive else 0.9)
        ),
        sampler=SamplerConfig(heads=SAMPLER_HEADS),
        loss=LossConfig(normalize=True if told.normalize is None else told.normalize),
    )


def hf_config(config: AdaMAEConfig | ClassifierConfig, classes: list[str]) -> dict[str, Any]:
    """config.json with which `from_pretrained` makes the same model."""
    vit = config.encoder
    plain: dict[str, Any] = {
        "model_type": "videomae",
        "image_size": vit.size,
        "patch_size": vit.patch,
        "num_channels": vit.channels,
        "num_frames": vit.frames,
        "tubelet_size": vit.tubelet,
        "hidden_size": vit.width,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "intermediate_size": int(vit.width * vit.mlp_ratio),
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPS,
        "qv_bias": True,
        "torch_dtype": "float32",
    }
    if isinstance(config, ClassifierConfig):
        names = classes or [f"LABEL_{index}" for index in range(config.classes)]
        return {
            "architectures": ["VideoMAEForVideoClassification"],
            **plain,
            "use_mean_pooling": True,
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
        }
    return {
        "architectures": ["VideoMAEForPreTraining"],
        **plain,
        # Their word for whether there is a norm after the encoder's blocks: pre-training has one.
        "use_mean_pooling": False,
        "decoder_hidden_size": config.decoder.width,
        "decoder_num_hidden_layers": config.decoder.depth,
        "decoder_num_attention_heads": config.decoder.heads,
        "decoder_intermediate_size": int(config.decoder.width * vit.mlp_ratio),
        "norm_pix_loss": config.loss.normalize,
    }


def hf_preprocessor(vit: ViTConfig) -> dict[str, Any]:
    """preprocessor_config.json: short side, centre crop, [0, 1], mean and deviation."""
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": vit.size},
        "do_center_crop": True,
        "crop_size": {"height": vit.size, "width": vit.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(vit.pixel_mean),
        "image_std": list(vit.pixel_std),
    }


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in tensors:
        raise ConfigError(f"{name}: missing; the model's size is read from it")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise ConfigError(f"{name}: shape {shape}; expected {dimensions} dimensions")
    return shape


def _ratio(hidden: int, width: int) -> float:
    """A ratio that makes the hidden width again when it is rounded down, as the blocks do: 6144 / 1408 does not."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _size(tokens: int, steps: int, patch: int, told: int | None) -> int:
    """Pixels of a square frame, from the number of tokens."""
    side = math.isqrt(tokens // max(1, steps))
    if steps < 1 or side * side * steps != tokens:
        raise ConfigError(
            f"{SAMPLER_POSITIONS} has {tokens} tokens, which are not {steps} squares",
            field="frames",
            hint="give the frames of a clip: --frames N",
        )
    size = side * patch
    if told not in (None, size):
        raise ConfigError(
            f"{SAMPLER_POSITIONS} has {tokens} tokens, so that frames have {size} pixels, not {told}", field="size"
        )
    return size


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    """Values are from a file: one of another type counts as not given. Sizes may be [224, 224]."""
    if isinstance(value, (list, tuple)) and value and all(part == value[0] for part in value):
        value = value[0]
    good: Any = isinstance(value, kind) and not isinstance(value, bool)
    return value if good and value > 0 else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    good = isinstance(value, (list, tuple)) and all(isinstance(part, (int, float)) for part in value)
    return tuple(float(part) for part in value) if good and value else None

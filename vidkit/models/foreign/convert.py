"""Checkpoints of other projects, both ways: the released VideoMAE and AdaMAE, and Hugging Face transformers.

Nothing is left out in silence: weights that find no place are an error that lists them, and what a layout cannot
hold is in `notes`. Differences that remain:

- The key bias, which theirs lack, is zero on the way in and left out on the way out. It adds the same number to
  every score of a query, and the softmax takes that out again.
- transformers gives the norm before the head (fine-tuning) and the decoder's last norm (pre-training) an eps of
  1e-5 that no setting changes; released code and vidkit have 1e-6.
- Clips go into a vidkit model as uint8 or in [0, 1] and are normalised there; theirs take normalised ones, and
  transformers frames before channels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vidkit.errors import ConfigError
from vidkit.models.checkpoints import Checkpoint, differences, expected_shapes
from vidkit.models.foreign.config import Told, hf_config, hf_preprocessor, infer, told_by_arguments, told_by_hf
from vidkit.models.foreign.files import read_tensors, without_prefix, write_folder
from vidkit.models.foreign.names import (
    MASK_TOKEN,
    NAMES,
    SAMPLER_HEADS,
    Layout,
    lost_biases,
    rules,
    to_ours,
    to_theirs,
    without_effect,
)
from vidkit.models.torch_files import write_torch_file
from vidkit.settings.model import IMAGENET_MEAN, IMAGENET_STD, AdaMAEConfig

Kind = Literal["adamae", "classifier"]

LOST = (
    "every query and value bias of the {parts} is exactly zero, and other biases are not: some versions of "
    "transformers drop them on loading, without a word"
)


def read_foreign(
    path: str | os.PathLike[str],
    *,
    layout: Layout | Literal["auto"] = "auto",
    kind: Kind | None = None,
    frames: int | None = None,
    size: int | None = None,
    heads: int | None = None,
    decoder_heads: int | None = None,
    ratio: float | None = None,
    zero_biases: bool = False,
) -> Checkpoint:
    """Another project's checkpoint as one of ours, on the CPU, in float32, with `build` for the model.

    Args:
        path: a file of torch or safetensors, or a folder that `save_pretrained` wrote.
        layout: "videomae" (VideoMAE and AdaMAE as released) or "hf"; "auto" looks at the names.
        kind: what it must be; otherwise what it is.
        frames, size: of a clip. By default what the file says beside the weights, or else 16 and 224.
        heads, decoder_heads: by default what the file says, or those of the published model of this width.
        ratio: of hidden tokens; not in the weights either.
        zero_biases: accept a model whose query and value biases are all zero, others not.

    Raises:
        ConfigError: no checkpoint, another layout, pickled objects, weights that are missing, unknown or of
            another shape (all are listed), heads that are not known, biases that were lost.
    """
    path = Path(path)
    found = read_tensors(path)
    told = Told(frames=frames, size=size, heads=heads, decoder_heads=decoder_heads, ratio=ratio)
    try:
        told = told.over(told_by_hf(found.config, found.preprocessor).over(told_by_arguments(found.arguments)))
        checkpoint = _to_checkpoint(found.tensors, layout, kind, told, zero_biases)
    except ConfigError as error:
        raise ConfigError(error.message, file=path, field=error.field, hint=error.hint) from error
    return replace(checkpoint, facts={**checkpoint.facts, "converted_from": str(path)})


def from_hf_model(model: Any, *, zero_biases: bool = False) -> Checkpoint:
    """A `VideoMAEForPreTraining` or `VideoMAEForVideoClassification` in memory as a checkpoint of ours.

    Raises:
        ConfigError: as `read_foreign`; above all for a model whose biases were lost when it was loaded.
    """
    told = told_by_hf(model.config.to_dict(), {})
    return _to_checkpoint(model.state_dict(), "hf", None, told, zero_biases)


def check_hf_model(model: Any, checkpoint: Checkpoint) -> None:
    """That a transformers model has the checkpoint's weights, to the bit: biases above all.

    Raises:
        ConfigError: weights that differ; all of them are listed.
    """
    expected, state = export(checkpoint, "hf"), _usual_names(dict(model.state_dict()))
    wrong = [
        name for name, value in expected.items() if name not in state or not torch.equal(state[name].cpu(), value)
    ]
    wrong += [f"{name} (not in the checkpoint)" for name in state if name not in expected]
    if wrong:
        raise ConfigError(
            "transformers has not loaded these weights as they are in the checkpoint: " + ", ".join(wrong),
            hint="use another version of transformers; some leave out query and value biases without a word",
        )


def export(checkpoint: Checkpoint, layout: Layout) -> dict[str, Tensor]:
    """The weights under another project's names: float32, on the CPU.

    "hf" has the names of transformers' files, biases as `q_bias` and `v_bias`. Modules of transformers 5 have other
    ones: `from_pretrained` renames them in 5.23, and left them at zero in earlier 5.x; `load_state_dict` with
    `strict=False` still does. `check_hf_model` tells.

    Raises:
        ConfigError: the layout has no place for a part of the model (other tokenizer, attention, positions or
            sampler), or weights are missing.
    """
    config = checkpoint.config
    _check_layout(layout)
    faults = _not_expressible(checkpoint, layout)
    if faults:
        raise ConfigError(f"the {layout} layout has no place for this model: " + "; ".join(faults))
    faults = differences(checkpoint.model, expected_shapes(config))
    if faults:
        raise ConfigError("the weights do not fit the model's settings: " + "; ".join(faults))
    tensors = to_theirs(checkpoint.model, rules(config, layout))
    return tensors | {name: torch.zeros(shape) for name, shape in without_effect(config, layout).items()}


def notes(checkpoint: Checkpoint, layout: Layout) -> list[str]:
    """What an export leaves out or cannot say, one line each."""
    config, lines = checkpoint.config, []
    width = config.encoder.width
    keys = [
        value.view(3, -1)[1].abs().max().item()
        for name, value in checkpoint.model.items()
        if name.endswith("attn.qkv.bias") and value.any()
    ]
    if max(keys, default=0) > 0:
        lines.append(f"key biases (up to {max(keys):.2g}) are left out: they change nothing behind the softmax")
    if layout == "hf" and "sampler.positions" in checkpoint.model:
        lines.append("the token sampler is left out: transformers has none")
    if layout == "hf":
        lines.append("transformers gives the last norm an eps of 1e-5, here it is 1e-6: expect small differences")
    elif config.encoder.heads * 64 != width:
        lines.append(f"the layout does not store the heads: {config.encoder.heads} of width {width}")
    if (config.encoder.pixel_mean, config.encoder.pixel_std) != (IMAGENET_MEAN, IMAGENET_STD):
        lines.append("pixels are normalised with this model's own mean and deviation, not with ImageNet's")
    return lines


def write_videomae(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """One file as VideoMAE's and AdaMAE's scripts read it: `{"model": weights}`. Errors as `export` and `save`."""
    write_torch_file(Path(path), {"model": export(checkpoint, "videomae")})


def write_hf(folder: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """A new folder for `from_pretrained`: config.json, preprocessor_config.json, model.safetensors.

    Raises:
        ConfigError: as `export`; or the folder is not empty.
        TrainingError: it cannot be written.
    """
    classes = [str(name) for name in checkpoint.facts.get("classes") or ()]
    config = checkpoint.config
    if not isinstance(config, AdaMAEConfig) and len(classes) != config.classes:
        classes = []
    texts = {
        "config.json": hf_config(config, classes),
        "preprocessor_config.json": hf_preprocessor(config.encoder),
    }
    write_folder(Path(folder), export(checkpoint, "hf"), texts)


def detect(tensors: Mapping[str, Tensor]) -> tuple[Layout, Kind]:
    """
    Raises:
        ConfigError: names of none of the layouts.
    """
    for (layout, kind), names in NAMES.items():
        if f"{names.tokenizer}.weight" not in tensors:
            continue
        if layout == "hf":
            return layout, "adamae" if MASK_TOKEN in tensors else "classifier"
        return layout, kind  # type: ignore[return-value]
    shown = ", ".join(list(tensors)[:6])
    raise ConfigError(
        f"weights of no layout that is known here: {shown}, ...",
        hint="known are VideoMAE and AdaMAE as released, and VideoMAE of Hugging Face transformers with its head",
    )


def _to_checkpoint(
    tensors: Mapping[str, Tensor], layout: str, kind: Kind | None, told: Told, zero_biases: bool
) -> Checkpoint:
    if layout != "auto":
        _check_layout(layout)
    tensors = _usual_names(without_prefix(tensors))
    found_layout, found_kind = detect(tensors)
    if layout not in ("auto", found_layout):
        raise ConfigError(f"the weights have the names of {found_layout!r}, not of {layout!r}", field="layout")
    if kind not in (None, found_kind):
        raise ConfigError(f"the checkpoint is of kind {found_kind!r}, not {kind!r}", field="kind")
    config = infer(tensors, NAMES[found_layout, found_kind], found_layout, found_kind, told)
    table = rules(config, found_layout)
    state, faults, used = to_ours(tensors, table)
    used |= without_effect(config, found_layout).keys()
    faults += [f"{name}: not known" for name in tensors if name not in used]
    if not faults:
        faults = differences(state, expected_shapes(config))
    if faults:
        raise ConfigError(
            f"the weights do not fit kind {found_kind!r} of layout {found_layout!r}: " + "; ".join(faults),
            hint="is it a variant, with learned positions or layer scale, or another kind of model?",
        )
    lost = lost_biases(tensors, table)
    if lost and not zero_biases:
        raise ConfigError(
            LOST.format(parts=" and the ".join(lost)),
            hint="convert the file that was downloaded, or load it with another version of transformers",
        )
    classes = {"classes": list(told.classes)} if _named(config, told) else {}
    return Checkpoint(config=config, model=state, facts={"layout": found_layout, **classes})


def _named(config: Any, told: Told) -> bool:
    return not isinstance(config, AdaMAEConfig) and len(told.classes) == config.classes


def _usual_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers 5 calls the biases query.bias and value.bias in memory; its files keep q_bias and v_bias."""
    usual = {"query.bias": "q_bias", "value.bias": "v_bias"}
    renamed = {}
    for name, value in tensors.items():
        old = next((old for old in usual if name.endswith(f".attention.attention.{old}")), None)
        renamed[name if old is None else name.removesuffix(old) + usual[old]] = value
    return renamed


def _check_layout(layout: str) -> None:
    known = sorted({name for name, _ in NAMES})
    if layout not in known:
        raise ConfigError(f"layout is {layout!r}; expected {' or '.join(known)}", field="layout")


def _not_expressible(checkpoint: Checkpoint, layout: Layout) -> list[str]:
    config = checkpoint.config
    vit = config.encoder
    faults = []
    if vit.tokenizer != "tubelet":
        faults.append(f"the {vit.tokenizer} tokenizer")
    if vit.attention != "plain":
        faults.append(f"{vit.attention} attention")
    if vit.positions != "1d":
        faults.append(f"{vit.positions} positions")
    if isinstance(config, AdaMAEConfig) and config.decoder.kind != "self":
        faults.append(f"a {config.decoder.kind} decoder")
    if isinstance(config, AdaMAEConfig) and config.mask.strategy == "adaptive" and layout == "videomae":
        sampler = config.sampler
        shape = (sampler.kind, sampler.depth, sampler.width_divisor, sampler.heads, sampler.mlp_ratio)
        if shape != ("mha", 1, 1, SAMPLER_HEADS, 4.0):
            faults.append(
                f"a sampler other than one whole block of {SAMPLER_HEADS} heads "
                f"(kind, depth, width_divisor, heads, mlp_ratio: {shape})"
            )
    return faults

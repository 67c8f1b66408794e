"""vidkit's own checkpoints: one file with the config, the weights, facts about the run, and what resuming needs.

The file is a dict of tensors and plain values, so that it can be read without running code from it:
`{"vidkit": 1, "kind": "adamae" or "classifier", "config": ..., "model": ..., "facts": ..., "training": ...}`.
Checkpoints of other projects: `vidkit.models.foreign.convert`.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.models.torch_files import check_sums, read_torch_file, write_torch_file
from vidkit.settings.model import AdaMAEConfig, ClassifierConfig
from vidkit.settings.plain import from_plain, to_plain

#: Of the file. A reader takes this one and those before it.
FORMAT = 1

CONFIGS: dict[str, type[AdaMAEConfig] | type[ClassifierConfig]] = {
    "adamae": AdaMAEConfig,
    "classifier": ClassifierConfig,
}
PLAIN = (type(None), bool, int, float, str)
TENSORS = (Tensor, nn.Parameter)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False, eq=False)
class Checkpoint:
    """Weights beside the config that builds their model, and what else a run must know of them."""

    config: AdaMAEConfig | ClassifierConfig
    model: dict[str, Tensor]
    """The model's `state_dict()`."""
    facts: dict[str, Any]
    """Plain values: step, epoch, classes, label_map_sha256, rule, dataset, stride, metrics and others."""
    training: dict[str, Any] | None = None
    """What resuming needs (optimiser, averaged weights, loader): tensors and plain containers."""

    @property
    def kind(self) -> str:
        """Of the model: "adamae" or "classifier"."""
        return "adamae" if isinstance(self.config, AdaMAEConfig) else "classifier"

    @property
    def parameters(self) -> int:
        """Numbers in all weights and buffers together."""
        return sum(value.numel() for value in self.model.values())

    def __repr__(self) -> str:
        extra = "" if self.training is None else f", training={sorted(self.training)}"
        return (
            f"Checkpoint({self.kind}, {len(self.model)} tensors, {self.parameters:,} parameters, "
            f"facts={sorted(self.facts)}{extra})"
        )


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all: after a crash `path` holds the new one or the one before.

    Raises:
        TrainingError: the file cannot be written (no room, no folder, no right to).
        TypeError: a value that could not be read back, with its place.
    """
    check_plain(checkpoint.facts, "facts", tensors=False)
    check_plain(checkpoint.training, "training", tensors=True)
    write_torch_file(
        Path(path),
        {
            "vidkit": FORMAT,
            "kind": checkpoint.kind,
            "config": to_plain(checkpoint.config),
            "model": {name: _whole(value) for name, value in checkpoint.model.items()},
            "facts": checkpoint.facts,
            "training": checkpoint.training,
        },
    )


def load(path: str | os.PathLike[str], *, training: bool = False) -> Checkpoint:
    """Read a checkpoint on the CPU; no code from the file is run.

    The whole file is read once for its checksums. Without `training` the optimiser's part then stays on the disk,
    and weights are taken into memory when they are first used.

    Raises:
        ConfigError: no checkpoint of vidkit's, cut off or damaged, of a newer format, with pickled objects or other
            settings.
    """
    path = Path(path)
    raw = read_torch_file(path, mmap=not training)
    if not isinstance(raw, dict) or "vidkit" not in raw:
        foreign = isinstance(raw, dict) and any(isinstance(value, (Tensor, dict)) for value in raw.values())
        raise ConfigError(
            "is no checkpoint of vidkit's",
            file=path,
            hint=f"for one of another project: vidkit convert {path} OUT.pt" if foreign else None,
        )
    check_sums(path)
    version = raw["vidkit"]
    if not isinstance(version, int) or version > FORMAT:
        raise ConfigError(
            f"was written in format {version!r}; this vidkit reads up to format {FORMAT}",
            file=path,
            field="vidkit",
            hint="update vidkit: pip install --upgrade vidkit",
        )
    for name, kind in (("kind", str), ("config", dict), ("model", dict), ("facts", dict)):
        if not isinstance(raw.get(name), kind):
            raise ConfigError(f"{name!r} is missing or no {kind.__name__}", file=path, field=name)
    if raw["kind"] not in CONFIGS:
        expected = " or ".join(CONFIGS)
        raise ConfigError(f"kind is {raw['kind']!r}; expected {expected}", file=path, field="kind")
    try:
        config = from_plain(CONFIGS[raw["kind"]], raw["config"])
    except ConfigError as error:
        raise ConfigError(
            error.message, file=path, field="config", hint="read it with the version of vidkit that wrote it"
        ) from error
    return Checkpoint(
        config=config,
        model=raw["model"],
        facts=raw["facts"],
        training=raw.get("training") if training else None,
    )


def is_own(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of vidkit's checkpoints, of whatever version. False also where it cannot be read."""
    try:
        raw = read_torch_file(Path(path))
    except ConfigError:
        return False
    return isinstance(raw, dict) and "vidkit" in raw


def build(checkpoint: Checkpoint) -> AdaMAE | VideoClassifier:
    """The model with the checkpoint's weights, on the CPU, in training mode. torch's generator is left as it was.

    Raises:
        ConfigError: weights are missing, left over or of another shape; all of them are listed.
    """
    config = checkpoint.config
    with torch.random.fork_rng(devices=[]):
        model = AdaMAE(config) if isinstance(config, AdaMAEConfig) else VideoClassifier(config)
    faults = differences(checkpoint.model, shapes_of(model.state_dict()))
    if faults:
        raise ConfigError("the weights do not fit the model's settings: " + "; ".join(faults))
    model.load_state_dict(checkpoint.model)
    return model


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, to compare two state dicts."""
    return {name: tuple(value.shape) for name, value in state.items()}


def expected_shapes(config: AdaMAEConfig | ClassifierConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's weights, without making them."""
    with torch.device("meta"):
        model = AdaMAE(config) if isinstance(config, AdaMAEConfig) else VideoClassifier(config)
    return shapes_of(model.state_dict())


def differences(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line for each weight that is missing, left over or of another shape, in the model's order."""
    faults = [f"{name}: missing" for name in expected if name not in state]
    faults += [f"{name}: not in this model" for name in state if name not in expected]
    return faults + [
        f"{name}: shape {tuple(state[name].shape)}, the model's is {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]


def check_plain(value: Any, where: str, *, tensors: bool) -> None:
    """
    Raises:
        TypeError: a value that `load` would refuse: NumPy numbers, arrays, paths, objects.
    """
    # Exact types: a NumPy float is a float too, but is not stored as one.
    if type(value) in PLAIN or (tensors and type(value) in TENSORS):
        return
    if type(value) in (list, tuple):
        for index, inner in enumerate(value):
            check_plain(inner, f"{where}[{index}]", tensors=tensors)
        return
    if type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            if type(key) not in PLAIN:
                raise TypeError(f"{where} has the key {key!r}, a {type(key).__qualname__}; use a string or number")
            check_plain(inner, f"{where}[{key!r}]", tensors=tensors)
        return
    kinds = "tensors, " if tensors else ""
    raise TypeError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint cannot hold; "
        f"expected {kinds}numbers, strings, booleans, None, lists and dicts of these"
    )


def _whole(value: Tensor) -> Tensor:
    """On the CPU, and without the rest of a larger storage that it is a view of."""
    value = value.detach().cpu()
    alone = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if alone else value.clone()

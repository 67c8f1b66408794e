"""Files of other projects: weights by name, and what else stands beside them. No code from a file is run."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vidkit.errors import ConfigError, TrainingError
from vidkit.files import sync_folder
from vidkit.models.torch_files import read_torch_file

#: Where training scripts keep the weights within what they save.
WRAPPERS = ("model", "module", "state_dict")
#: In front of every name, from wrapping a model in another; taken away while all names have one in common.
PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class Found:
    """What the files of another project's checkpoint hold."""

    tensors: dict[str, Tensor]
    arguments: Mapping[str, Any]
    """The training script's, where the file has them."""
    config: Mapping[str, Any]
    """config.json of a Hugging Face model."""
    preprocessor: Mapping[str, Any]
    """preprocessor_config.json of one."""


def read_tensors(path: Path) -> Found:
    """
    Raises:
        ConfigError: no checkpoint, cut off, or with pickled objects other than an `argparse.Namespace`.
    """
    if path.is_dir():
        weights = next((path / name for name in WEIGHTS if (path / name).exists()), None)
        if weights is None:
            raise ConfigError(
                "the folder has no weights; expected " + ", ".join(WEIGHTS),
                file=path,
                hint="give a checkpoint's path, or a folder that save_pretrained wrote",
            )
    else:
        weights = path
    folder = weights.parent
    config = _json(folder / "config.json") if path.is_dir() or weights.name in WEIGHTS else {}
    preprocessor = _json(folder / "preprocessor_config.json") if config else {}
    if weights.name.endswith(".index.json"):
        parts = sorted(set(_json(weights).get("weight_map", {}).values()))
        tensors = {name: value for part in parts for name, value in _safetensors(folder / part).items()}
        return Found(tensors, {}, config, preprocessor)
    if weights.suffix == ".safetensors":
        return Found(_safetensors(weights), {}, config, preprocessor)
    raw = read_torch_file(weights, allow=[argparse.Namespace])
    arguments = raw.get("args") if isinstance(raw, dict) else None
    given = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    return Found(_unwrapped(raw, weights), given if isinstance(given, dict) else {}, config, preprocessor)


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what wrapping has put in front of all of them."""
    state = dict(tensors)
    while state:
        prefix = next((text for text in PREFIXES if all(name.startswith(text) for name in state)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def write_folder(folder: Path, tensors: dict[str, Tensor], texts: Mapping[str, Any]) -> None:
    """model.safetensors and JSON files in a new folder, which appears when it is complete.

    Raises:
        ConfigError: the folder exists and is not empty.
        TrainingError: it cannot be written.
    """
    from safetensors.torch import save_file

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("exists already", file=folder, hint="give a new or empty folder")
    part = folder.with_name(folder.name + ".part")
    try:
        _empty(part)
        part.mkdir(parents=True)
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        for name, value in texts.items():
            (part / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        for file in part.iterdir():
            _sync(file)
        sync_folder(part)
        if folder.exists():
            folder.rmdir()
        part.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(
            f"cannot write: {reason}", file=folder, hint="choose another place, or make room"
        ) from error
    finally:
        _empty(part)


def _empty(part: Path) -> None:
    """Remove what an earlier attempt has left: files only, no folders within."""
    if part.is_dir():
        for file in part.iterdir():
            file.unlink()
        part.rmdir()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", file=path) from error
    except SafetensorError as error:
        raise ConfigError(
            f"is no safetensors file, or cut off: {error}", file=path, hint="copy or download it again"
        ) from error
    return found


def _json(path: Path) -> dict[str, Any]:
    """An absent file is an empty one."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read as JSON: {error}", file=path) from error
    if not isinstance(found, dict):
        raise ConfigError("holds no JSON object", file=path)
    return found


def _unwrapped(raw: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(raw, dict):
        inner = next((raw[name] for name in WRAPPERS if isinstance(raw.get(name), dict)), None)
        if inner is None:
            break
        raw = inner
    if not isinstance(raw, dict) or not any(isinstance(value, Tensor) for value in raw.values()):
        held = ", ".join(sorted(map(str, raw))[:10]) if isinstance(raw, dict) else type(raw).__name__
        raise ConfigError(
            f"no weights were found in it, only: {held or 'nothing'}",
            file=path,
            hint="expected a state_dict, by itself or under " + ", ".join(WRAPPERS),
        )
    others = [str(name) for name, value in raw.items() if not isinstance(value, Tensor)]
    if others:
        raise ConfigError(
            "among the weights are values that are none: " + ", ".join(others),
            file=path,
            hint="save the model's state_dict() alone",
        )
    return {str(name): value for name, value in raw.items()}

"""What the extras of the package bring, and the line that installs what a command lacks.

A base install builds, verifies and looks at datasets. Whatever trains needs torch, which is most of what there is
to download, so it is an extra.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extra:
    """One extra: what needs it, and the modules that it brings, as they are imported."""

    needed_by: str
    modules: tuple[str, ...]

    def absent(self) -> list[str]:
        """Modules that are not installed; they are looked for, not imported."""
        return [name for name in self.modules if importlib.util.find_spec(name) is None]


EXTRAS: dict[str, Extra] = {
    "train": Extra(
        "pretrain, finetune, evaluate, masks, predict, extract, probe, convert, fewshot, ablate, report, bench",
        ("torch", "torchvision", "timm", "accelerate", "torchmetrics", "scipy", "matplotlib"),
    ),
    "view": Extra("vidkit view", ("starlette", "uvicorn")),
    "s3": Extra("s3:// addresses", ("s3fs",)),
    "gcs": Extra("gs:// addresses", ("gcsfs",)),
    "http": Extra("http(s):// addresses", ("aiohttp",)),
    "ray": Extra("--executor ray", ("ray",)),
    "hf": Extra("convert --to hf, Hugging Face's datasets", ("datasets", "safetensors", "transformers")),
    "decord": Extra("--decoder decord", ("decord",)),
    "ffmpeg": Extra("--transcoder ffmpeg", ("ffmpeg", "imageio_ffmpeg")),
}


def install(name: str) -> str:
    """The command that installs an extra."""
    return f'pip install "vidkit[{name}]"'


def extra_of(module: str | None) -> str | None:
    """The extra that brings a module, or a module within it; None: no extra does."""
    top = (module or "").partition(".")[0]
    return next((name for name, extra in EXTRAS.items() if top in extra.modules), None)

"""Clips on disk become verified shards; shards become batches (`vidkit.data.load`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidkit.data.load.batch import ClipBatch as ClipBatch
    from vidkit.data.load.batch import ClipSample as ClipSample
    from vidkit.data.load.batch import collate as collate
    from vidkit.data.load.clip_dataset import ClipDataset as ClipDataset
    from vidkit.data.load.loader import ClipLoader as ClipLoader
    from vidkit.data.load.streaming import stream as stream

_HOMES = {
    "ClipBatch": "load.batch",
    "ClipDataset": "load.clip_dataset",
    "ClipLoader": "load.loader",
    "ClipSample": "load.batch",
    "collate": "load.batch",
    "stream": "load.streaming",
}
__all__ = ["ClipBatch", "ClipDataset", "ClipLoader", "ClipSample", "collate", "stream"]


def __getattr__(name: str) -> Any:
    # imported on first use: building a dataset must not wait for a decoder, let alone torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Clips on disk become verified shards; shards become batches. See `vidkit.data.clip_dataset` for the latter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidkit.data.batch import ClipBatch as ClipBatch
    from vidkit.data.batch import ClipSample as ClipSample
    from vidkit.data.batch import collate as collate
    from vidkit.data.clip_dataset import ClipDataset as ClipDataset
    from vidkit.data.loader import ClipLoader as ClipLoader
    from vidkit.data.streaming import stream as stream

_HOMES = {
    "ClipBatch": "batch",
    "ClipDataset": "clip_dataset",
    "ClipLoader": "loader",
    "ClipSample": "batch",
    "collate": "batch",
    "stream": "streaming",
}
__all__ = ["ClipBatch", "ClipDataset", "ClipLoader", "ClipSample", "collate", "stream"]


def __getattr__(name: str) -> Any:
    # imported on first use: building a dataset must not wait for a decoder, let alone torch
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

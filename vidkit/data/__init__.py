"""Clips on disk become verified shards; shards become batches (`vidkit.data.load`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidkit.lazy import names_from

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


# imported on first use: building a dataset must not wait for a decoder, let alone torch
__getattr__ = names_from(__name__, _HOMES)

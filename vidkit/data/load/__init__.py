"""Shards become batches; `vidkit.data` offers `ClipDataset`, `ClipLoader`, `collate` and `stream`."""

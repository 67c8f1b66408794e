"""vidkit: clips on disk become verified shards, shards become batches, runs become tables to trust."""

__version__ = "0.1.0"

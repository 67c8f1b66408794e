"""Clip tables become one plan: labels, merge, layout of shards."""

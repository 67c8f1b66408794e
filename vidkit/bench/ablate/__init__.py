"""Cells of an ablation: planned, run one by one or one a GPU, each ending as a row of results.jsonl."""

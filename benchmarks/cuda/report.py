"""The tables that `cuda.tables` prints of its rows: the paper's Table 1, and the targets with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import common
from vidkit.bench.ablate.table1 import PaperRow, read_table1

Rows = Mapping[str, Mapping[str, Any]]

#: Against the released code: at least so many times the clips/s, with at most this share of its memory.
FASTER, LEANER = 3.0, 0.35

#: Of the card's own rate of matrix products, at batch 64 or more.
SHARE = 0.40


def name_of(row: PaperRow) -> str:
    """One name for rows that differ in epochs only."""
    return " ".join(map(str, (row.mask, f"{row.ratio:g}", row.decoder_depth, row.loss, row.sampler or "-")))


def report(rows: Rows, precisions: Sequence[str]) -> str:
    """Table 1 with what was measured beside it, and whether the targets are met."""

    def value(key: str, name: str, scale: float = 1.0) -> float | str:
        found = rows.get(key, {}).get(name)
        return "" if found is None else found / scale

    lines = []
    for row in read_table1():
        name = name_of(row)
        cells: list[object] = [f"{row.table} {row.row}", name, row.memory_gb or ""]
        for precision in precisions:
            key = f"ours/{name}/{precision}"
            rival = next(
                (k for k in (f"released/{name}/{precision}", f"videomae/{name}/{precision}") if k in rows), ""
            )
            cells += [
                value(key, "measured_bytes", 1e9),
                value(key, "predicted_bytes", 1e9),
                value(key, "clips_per_s"),
                value(rival, "allocated_bytes", 1e9),
                value(rival, "clips_per_s"),
            ]
        lines.append(cells)
    header = ["row", "settings", "paper GB"]
    for precision in precisions:
        header += [f"{precision} GB", "predicted", "clips/s", "theirs GB", "theirs clips/s"]
    return "\n".join([common.table(header, lines), *targets(rows)])


def targets(rows: Rows) -> list[str]:
    """Each target with what was found; nothing of rows that are not there."""
    said = []
    usual = name_of(next(row for row in read_table1() if not row.changed))
    theirs = rows.get(f"released/{usual}/fp16") or rows.get(f"released/{usual}/bf16")
    for key, row in rows.items():
        if theirs and key.split("/")[0] in ("ours", "fast", "recompute") and row.get("batch") == theirs["batch"]:
            memory = row.get("measured_bytes") or row.get("allocated_bytes")
            mine = key.startswith(("fast/", "recompute/")) or key == f"ours/{usual}/bf16"
            if mine and memory and theirs["allocated_bytes"]:
                speed = row["clips_per_s"] / theirs["clips_per_s"]
                share = memory / theirs["allocated_bytes"]
                met = "met" if speed >= FASTER and share <= LEANER else "not met"
                said.append(f"{key}: {speed:.2f} x the released model's clips/s, {share:.2f} of its memory: {met}")
    ratios = [row["predicted_over_measured"] for row in rows.values() if row.get("predicted_over_measured")]
    if ratios:
        far = max(abs(ratio - 1) for ratio in ratios)
        said.append(
            f"predicted memory is within {far:.1%} of measured over {len(ratios)} rows (10 % asked, 5 % aimed)"
        )
    peak = rows.get("rate/bf16", {}).get("matrix_flops")
    for key, row in rows.items():
        if peak and key.startswith("fast/") and row.get("tflops"):
            share = row["tflops"] * 1e12 / peak
            said.append(
                f"{key}: {share:.1%} of the measured rate of bf16 products ({SHARE:.0%} asked from batch 64)"
            )
    return said

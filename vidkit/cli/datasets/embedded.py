"""Datasets of generated clips, for commands that are typed without --data."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from vidkit.cli.datasets import build_dataset, drawn
from vidkit.errors import BuildError


def generated(out: Path, kind: str, **how: Any) -> Path:
    """The dataset of generated clips in `out`, built once, beside its clips.

    Args:
        how: further arguments of `vidkit.data.synth.layouts.write_layout`.

    Raises:
        BuildError: it could not be built.
    """
    from vidkit.data.dataset import DATASET_JSON, read_facts

    if (out / DATASET_JSON).exists() and read_facts(out)["status"] == "complete":
        return out
    print(f"no --data: building {how['clips']:,} generated clips in {out}", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the table
        clips = drawn.draw_beside(out, kind, **how)
        code = build_dataset.run(kind, out=out, source=[f"{kind}={clips}"], max_failures=0.0)
    if code:
        raise BuildError("the clips could not be built", file=out, hint="see above, or give a dataset by --data")
    return out


def demo(out: Path) -> Path:
    """Of 1,200 clips: with the 240 of `build-dataset demo`, 168 of them for training, nothing is learnt."""
    return generated(out, "demo", clips=1200)

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


def motions(out: Path, *, large: bool = False) -> Path:
    """Of the hardest level that is learnt from all labels in minutes: 2,400 clips, or, `large`, 5,600, of which
    2,016 are tested. Each says what moves, for the oracles.
    """
    return generated(out, "motions", clips=5600 if large else 2400, level=2, shares=(0.6, 0.04, 0.36))


def demo(out: Path) -> Path:
    """Of 1,200 clips: with the 240 of `build-dataset demo`, 168 of them for training, nothing is learnt."""
    return generated(out, "demo", clips=1200)

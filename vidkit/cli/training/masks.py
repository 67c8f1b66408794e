"""`vidkit masks`: a picture of what a masked autoencoder hides and predicts."""

from __future__ import annotations

from pathlib import Path

from vidkit.cli.training.evaluate import default_split


def run(
    checkpoint: Path,
    *,
    out: Path,
    clip: Path | None,
    data: Path | None,
    split: str | None,
    clips: int,
    ratio: float | None,
    mask: str | None,
    seed: int,
    stride: int | None,
    device: str | None,
) -> int:
    """Draw, and say what was drawn."""
    from vidkit.train.pictures import mask_picture

    drawn = mask_picture(
        checkpoint,
        out,
        clip=clip,
        data=data,
        split=split or ("val" if data is None else default_split(data)),
        clips=clips,
        ratio=ratio,
        mask=mask,
        seed=seed,
        stride=stride,
        device=device,
    )
    some = f"{len(drawn.clips)} clips" if len(drawn.clips) > 1 else drawn.clips[0]
    print(
        f"{drawn.file}: {some}, {drawn.strategy} masks, {drawn.visible:,} of {drawn.tokens:,} tokens visible "
        f"(ratio {drawn.ratio:g})"
    )
    return 0

"""`vidkit convert`: checkpoints from and to other projects' layouts."""

from __future__ import annotations

from pathlib import Path

from vidkit.commands.output import console, print_json
from vidkit.errors import ConfigError

LAYOUTS = ("vidkit", "videomae", "hf")


def run(
    source: Path,
    out: Path,
    *,
    to: str,
    heads: int | None = None,
    decoder_heads: int | None = None,
    frames: int | None = None,
    size: int | None = None,
    as_json: bool = False,
) -> int:
    """Read a checkpoint of any layout, write it in another, and print what was found and what was left out.

    Raises:
        ConfigError: as `vidkit.models.foreign.read_foreign`; a layout that is none; a shape given for one of
            vidkit's own checkpoints, which know theirs; `out` is `source`.
    """
    if to not in LAYOUTS:
        raise ConfigError(f"--to {to!r} is no layout; expected one of {', '.join(LAYOUTS)}", field="--to")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError("would be written over by what is made of it", file=source, hint="give another OUT")
    from vidkit.models import checkpoints, foreign

    own = source.is_file() and checkpoints.is_own(source)
    if own:
        given = {"--heads": heads, "--decoder-heads": decoder_heads, "--frames": frames, "--size": size}
        told = [name for name, value in given.items() if value is not None]
        if told:
            raise ConfigError(
                f"{', '.join(told)}: the checkpoint is vidkit's own and knows its shape",
                file=source,
                hint="leave the option out",
            )
        checkpoint = checkpoints.load(source)
    else:
        checkpoint = foreign.read_foreign(
            source, heads=heads, decoder_heads=decoder_heads, frames=frames, size=size
        )
    notes: list[str] = []
    if to == "vidkit":
        checkpoints.save(out, checkpoint)
    elif to == "videomae":
        notes = foreign.notes(checkpoint, "videomae")
        foreign.write_videomae(out, checkpoint)
    else:
        notes = foreign.notes(checkpoint, "hf")
        foreign.write_hf(out, checkpoint)
    vit = checkpoint.config.encoder
    found = {
        "source": str(source),
        "layout": "vidkit" if own else checkpoint.facts["layout"],
        "kind": checkpoint.kind,
        "parameters": checkpoint.parameters,
        "frames": vit.frames,
        "size": vit.size,
        "patch": vit.patch,
        "width": vit.width,
        "depth": vit.depth,
        "heads": vit.heads,
        "out": str(out),
        "to": to,
        "notes": notes,
    }
    if as_json:
        print_json(found)
        return 0
    shape = f"{vit.frames} frames of {vit.size} pixels, width {vit.width}, depth {vit.depth}, {vit.heads} heads"
    screen = console()
    screen.print(
        f"{found['layout']} {checkpoint.kind}: {checkpoint.parameters:,} parameters, {shape}", markup=False
    )
    screen.print(f"written as {to}: {out}", markup=False)
    for line in notes:
        screen.print(f"note: {line}", markup=False)
    return 0

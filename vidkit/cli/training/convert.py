"""`vidkit convert`: checkpoints from and to other projects' layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidkit.cli.output import console, print_json
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.models.checkpoints import Checkpoint

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
    labels: Path | None = None,
    as_json: bool = False,
) -> int:
    """Read a checkpoint of any layout, write it in another, and print what was found and what was left out.

    Args:
        labels: a built dataset whose classes the head has, in the dataset's order: the checkpoint then carries them
            and can be evaluated. Nothing but their number can be checked.

    Raises:
        ConfigError: as `vidkit.models.foreign.convert.read_foreign`; a layout that is none; a shape given for one
            of vidkit's own checkpoints, which know theirs; `out` is `source`.
    """
    if to not in LAYOUTS:
        raise ConfigError(f"--to {to!r} is no layout; expected one of {', '.join(LAYOUTS)}", field="--to")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError("would be written over by what is made of it", file=source, hint="give another OUT")
    from vidkit.models import checkpoints
    from vidkit.models.foreign import convert as foreign

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
    if labels is not None:
        checkpoint = with_labels(checkpoint, labels, source)
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


def with_labels(checkpoint: Checkpoint, data: Path, source: Path) -> Checkpoint:
    """The checkpoint with the label map of the dataset at `data`.

    Raises:
        ConfigError: no classifier, another number of classes, or classes that it names otherwise.
        DatasetError: no finished dataset.
    """
    from vidkit.settings.model import ClassifierConfig

    label_map = open_dataset(data).facts["label_map"]
    classes = list(label_map["base_labels" if label_map["rule"] == "multi-hot" else "classes"])
    if not isinstance(checkpoint.config, ClassifierConfig):
        raise ConfigError("the model is pre-trained only and has no classes", file=source, field="--labels")
    if checkpoint.config.classes != len(classes):
        raise ConfigError(
            f"the head has {checkpoint.config.classes:,} classes, the dataset {len(classes):,}",
            file=source,
            field="--labels",
            hint="give the dataset that it was fine-tuned on",
        )
    named = checkpoint.facts.get("classes") or classes
    other = next((i for i, name in enumerate(classes) if named[i] != name), None)
    if other is not None:
        raise ConfigError(
            f"class {other} is {named[other]!r} in the checkpoint and {classes[other]!r} in the dataset",
            file=source,
            field="--labels",
            hint="give the dataset that it was fine-tuned on",
        )
    facts = {"classes": classes, "label_map_sha256": label_map["sha256"], "rule": label_map["rule"]}
    return replace(checkpoint, facts={**checkpoint.facts, **facts})

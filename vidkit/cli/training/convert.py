"""`vidkit convert`: checkpoints from and to other projects' layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidkit.cli.options import Json
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.storage.places import Place
    from vidkit.models.checkpoints import Checkpoint

EXAMPLE = "vidkit convert videomae.pth model.pt --to vidkit"

LAYOUTS = ("vidkit", "videomae", "hf")


def run(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint, or a Hugging Face folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file; with --to hf a new folder.")],
    to: Annotated[str, typer.Option(help="vidkit, videomae or hf")],
    heads: Annotated[
        int | None, typer.Option(help="Attention heads, where a layout does not say.", min=1, show_default=False)
    ] = None,
    decoder_heads: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.", min=1, show_default=False)] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a clip's side.", min=1, show_default=False)] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A built dataset whose classes the head has, in that order: it can then be evaluated on it.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Read a checkpoint of VideoMAE, AdaMAE or Hugging Face, or write ours in their layout.

    Prints what was found, and what the other layout has no place for. With --labels the checkpoint carries the
    dataset's classes; nothing but their number can be checked where it does not name them itself.
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


def with_labels(checkpoint: Checkpoint, data: Place, source: Path) -> Checkpoint:
    """The checkpoint with the label map of the dataset at `data`.

    Raises:
        ConfigError: no classifier, another number of classes, or classes that it names otherwise.
        DatasetError: no finished dataset.
    """
    from vidkit.data.dataset import open_dataset
    from vidkit.settings import ClassifierConfig

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

"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="A built dataset.")]
Checkpoint = Annotated[Path, typer.Option("--checkpoint", metavar="CKPT", help="A checkpoint.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; by default the GPU, if any.", show_default=False)]
Stride = Annotated[
    int | None, typer.Option(help="Between frames; by default the training's.", min=1, show_default=False)
]
Views = Annotated[
    str | None, typer.Option(metavar="TxS", help="Temporal x spatial views; by default 1x1.", show_default=False)
]

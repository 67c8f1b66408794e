"""Small generated datasets for the regression benchmark: the demo's classes, drawn and built in a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from vidkit.data.build.build import BuildSettings, Interrupted, build
from vidkit.data.manifests import load_spec
from vidkit.data.media.transcode import encoder_fingerprint
from vidkit.data.plan.planning import Prepared, Request, describe, identity, prepare
from vidkit.data.progress import Progress
from vidkit.data.synth.layouts import write_layout

SOURCE = "demo"


def planned(folder: Path, **layout: Any) -> Prepared:
    """Clips in `folder`, drawn unless they are there, and the plan of a dataset made of them.

    Args:
        layout: of `write_layout`: clips, classes, size, frames.
    """
    if not folder.exists():
        write_layout("demo", folder, seed=0, workers=1, **layout)
    folders = {SOURCE: folder}
    return prepare(load_spec("demo"), folders, Request(spec="demo", folders=folders))


def built(prepared: Prepared, out: Path) -> Path:
    """Build what is planned, unless it is there, with one worker.

    Raises:
        BuildError: it cannot be written.
        KeyboardInterrupt: Ctrl-C.
    """
    if out.exists():
        return out
    settings = BuildSettings(out=out, roots=prepared.roots, encode=prepared.spec.encode, workers=1)
    about = identity(prepared, encoder_fingerprint())
    quiet = Progress("building", prepared.table.num_rows, quiet=True)
    try:
        build(prepared.table, settings, about, partial(describe, prepared), quiet)
    except Interrupted:  # there is nothing to go on with: the folder is a temporary one
        raise KeyboardInterrupt from None
    return out

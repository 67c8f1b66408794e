"""`vidkit view`: datasets and runs in the browser."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vidkit.errors import ConfigError

EXAMPLE = "vidkit view vidkit-demo vidkit-demo-runs"


def run(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...",
            help="Datasets or their addresses, runs, results of `ablate`, or folders of these.",
            show_default=False,
        ),
    ],
    port: Annotated[
        int | None,
        typer.Option(
            help="By default 8313, or the next one that is free; 0: any.", min=0, max=65535, show_default=False
        ),
    ] = None,
    browser: Annotated[
        bool | None,
        typer.Option(
            "--browser/--no-browser", help="Open one; by default where there is a display.", show_default=False
        ),
    ] = None,
) -> int:
    """Look at datasets and runs in a browser: clips that play, failures, marks, curves, confusions, masks.

    Only this machine is served, and only with the token in the printed address; nothing is changed. From another
    machine: ssh -L 8313:127.0.0.1:8313 HOST, then open the printed address here.
    """
    from vidkit import extras
    from vidkit.view.shelf import fill

    try:
        from vidkit.view.web.serve import has_display, serve
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise ConfigError(f"`vidkit view` needs {package}", hint=extras.install("view")) from None
    shelf = fill(folders)

    def ready(address: str) -> None:
        print(address, flush=True)
        print("Stop with Ctrl-C.", file=sys.stderr)
        if has_display() if browser is None else browser:
            import webbrowser

            webbrowser.open(address)

    serve(shelf, port, ready)
    return 0

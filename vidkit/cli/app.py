"""The command line: commands, errors without tracebacks, and exit codes that scripts can rely on."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from vidkit.cli.commands import Commands
from vidkit.errors import VidkitError, display_path
from vidkit.extras import extra_of, install

# no markup: help by rich takes longer to import than all else that --help needs
app = typer.Typer(
    name="vidkit",
    cls=Commands,
    help="Action-video datasets as verified shards, and masked video pre-training that can be traced.",
    epilog="\b\nExample, on generated clips:\n  vidkit build-dataset\nOf each command: vidkit COMMAND --help",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)

_STOPPED = 130


def main() -> None:
    """Entry point: a command's return value is the exit code."""
    try:
        code = app(standalone_mode=False)  # without it, what the command returned would be lost
    except VidkitError as error:
        _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped", _STOPPED)
    except OSError as error:  # a folder that cannot be listed, a file that cannot be written
        if error.filename is None:
            raise
        _fail(f"{display_path(os.fsdecode(error.filename))}: {error.strerror}", 1)
    except ModuleNotFoundError as error:  # what an extra brings; anything else that is not there is a bug
        extra = extra_of(error.name)
        if extra is None:
            raise
        _fail(f"this needs {error.name}, which is not installed\n  -> {install(extra)}", 1)
    except Exception as error:  # click's own errors know how to show themselves; anything else is a bug
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    if code == _STOPPED:  # Ctrl-C, which typer makes an exit code of
        _fail("stopped", _STOPPED)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"vidkit: {message}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        import vidkit

        print(vidkit.__version__)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass

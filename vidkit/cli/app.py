"""The command line: each command parses, calls one function and prints. Imports live in the bodies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from vidkit.cli import _bench as cli_bench
from vidkit.cli import _fewshot as cli_fewshot
from vidkit.cli import _models as cli_models
from vidkit.cli import _train as cli_train
from vidkit.cli.options import Json
from vidkit.errors import VidkitError, display_path

app = typer.Typer(
    name="vidkit",
    help="Action-video datasets as verified shards, and masked video pre-training that can be traced.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_STOPPED = 130

_Folder = Annotated[Path | None, typer.Option(metavar="DIR", show_default=False)]


def main() -> None:
    """Entry point: errors without tracebacks, and exit codes that scripts can rely on."""
    try:
        code = app(standalone_mode=False)  # without it, the code of `typer.Exit` is returned, not raised
    except VidkitError as error:
        _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped", _STOPPED)
    except OSError as error:  # a folder that cannot be listed, a file that cannot be written
        if error.filename is None:
            raise
        _fail(f"{display_path(os.fsdecode(error.filename))}: {error.strerror}", 1)
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


@app.command("build-dataset")
def build_dataset(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="[SPEC]",
            help="composite-518 (default), minikinetics-200, k400, ssv2, tinyvirat, demo, motions, or a spec "
            "file's path.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the dataset goes; ./vidkit-SPEC by default.", show_default=False),
    ] = None,
    kinetics: _Folder = None,
    minikinetics: _Folder = None,
    ssv2: _Folder = None,
    tinyvirat: _Folder = None,
    demo: _Folder = None,
    motions: _Folder = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Folder of a source of your own spec; may be given again."),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Annotations that do not lie beside the videos; may be given again."),
    ] = None,
    kinetics_classes: Annotated[str, typer.Option(help="all or minikinetics-200")] = "all",
    kinetics_fraction: Annotated[
        float | None,
        typer.Option(help="A seeded, class-balanced part of Kinetics, such as 0.05.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that transcode; 0: one per core.", min=0)] = 0,
    size: Annotated[
        int | None,
        typer.Option(help="Pixels: side of the square, or short side, as the spec has it.", show_default=False),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(help="At most so many frames, uniformly over the clip; 0: all.", min=0, show_default=False),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Resample to this rate; by default clips keep their own.", show_default=False),
    ] = None,
    clips_per_shard: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    present_only: Annotated[bool, typer.Option(help="Plan only the clips that are on disk.")] = False,
    strict_decode: Annotated[bool, typer.Option(help="Concealed decoding errors are failures.")] = False,
    seed: Annotated[int, typer.Option(help="Order of clips, and choice of a fraction.", min=0)] = 0,
    limit: Annotated[
        int | None,
        typer.Option(help="Build only N of the planned clips.", min=1, show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit 1 where a count differs from the published one.")] = False,
    forbid_leaks: Annotated[bool, typer.Option(help="Exit 1 where a video is in two splits.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try the failed and missing clips of a build again.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    max_failures: Annotated[
        float, typer.Option(metavar="P", help="Exit 1 above so many percent failed.", min=0, max=100)
    ] = 5.0,
    timeout: Annotated[float, typer.Option(help="Seconds that one clip may take.", min=0.1)] = 120.0,
    transcoder: Annotated[str, typer.Option(help="pyav (in process) or ffmpeg (a program per clip)")] = "pyav",
    follow_symlinks: Annotated[bool, typer.Option(help="Accept links that lead out of a source folder.")] = False,
    json: Json = False,
) -> None:
    """Turn clips on disk into verified WebDataset shards, with a row for every clip that could not be used.

    With nothing given, sources are looked for under ./data or $VIDKIT_DATA; where there are none, a small
    dataset of generated clips is built. Kill it at any time and run the same command again: it goes on.
    """
    from vidkit.cli.datasets import build_dataset as command

    folders = {
        "kinetics": kinetics,
        "minikinetics": minikinetics,
        "ssv2": ssv2,
        "tinyvirat": tinyvirat,
        "demo": demo,
        "motions": motions,
    }
    code = command.run(
        spec,
        out=out,
        folders={name: path for name, path in folders.items() if path is not None} | _named_folders(source or []),
        annotations=tuple(annotations or ()),
        source_options={
            "kinetics_classes": kinetics_classes,
            "kinetics_fraction": kinetics_fraction,
            "present_only": present_only,
            "follow_symlinks": follow_symlinks,
            "seed": seed,
        },
        workers=workers,
        size=size,
        frames=frames,
        fps=fps,
        clips_per_shard=clips_per_shard,
        strict_decode=strict_decode,
        limit=limit,
        strict=strict,
        forbid_leaks=forbid_leaks,
        retry_failed=retry_failed,
        dry_run=dry_run,
        max_failures=max_failures,
        timeout=timeout,
        transcoder=transcoder,
        as_json=json,
    )
    raise typer.Exit(code)


def _named_folders(pairs: list[str]) -> dict[str, Path]:
    from vidkit.errors import ConfigError

    folders = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise ConfigError(f"--source {pair!r} is not NAME=DIR", hint="for example --source mine=/data/mine")
        folders[name] = Path(path)
    return folders


_Dataset = Annotated[Path, typer.Argument(metavar="DIR", help="A built dataset.")]


@app.command()
def verify(
    dataset: _Dataset,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", help="Decode only N clips; everything else is checked in full.", min=0),
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode; 0: one per core.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Choice of the sample.")] = 0,
    json: Json = False,
) -> None:
    """Check a dataset against its own records (hashes, samples, frames, labels); exit 1 if one disagrees."""
    from vidkit.cli.datasets import verify as command

    raise typer.Exit(command.run(dataset, sample=sample, workers=workers, seed=seed, as_json=json))


@app.command()
def inspect(
    dataset: _Dataset,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw a contact sheet of clips with their labels."),
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips on the sheet.", min=1)] = 24,
    split: Annotated[str | None, typer.Option(help="Clips of one split only.")] = None,
    seed: Annotated[int, typer.Option(help="Choice of clips.")] = 0,
    json: Json = False,
) -> None:
    """Show what is in a dataset: counts, classes, lengths, sizes, failures."""
    from vidkit.cli.datasets import inspect as command

    raise typer.Exit(command.run(dataset, sheet=sheet, clips=clips, split=split, seed=seed, as_json=json))


@app.command()
def synth(
    kind: Annotated[
        str,
        typer.Argument(
            help="kinetics (or kinetics-flat, kinetics-class-folders, kinetics-bare-ids, kinetics-listfile), "
            "minikinetics, ssv2, tinyvirat-v1, tinyvirat-v2, demo, or motions (64x64, 2 to 48 classes told by "
            "motion alone)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder.")],
    clips: Annotated[int | None, typer.Option(help="Clips in all splits together.", min=1)] = None,
    classes: Annotated[int | None, typer.Option(min=1)] = None,
    label_sets: Annotated[
        int | None,
        typer.Option(help="TinyVIRAT: distinct label sets.", min=1),
    ] = None,
    distinct: Annotated[
        int | None,
        typer.Option(help="Draw only so many videos and repeat them.", min=1),
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.", min=1, show_default=False)] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Pixels; one number for a square.", show_default=False),
    ] = None,
    fps: Annotated[float | None, typer.Option(show_default=False)] = None,
    missing: Annotated[float, typer.Option(help="Share of annotated clips without a file.")] = 0.0,
    broken: Annotated[float, typer.Option(help="Share of files that are empty or cut off.")] = 0.0,
    extra: Annotated[int, typer.Option(help="Files without annotation.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: one per core.", min=0)] = 0,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Write generated clips in a dataset's real folder layout, with its real annotation files."""
    from vidkit.cli.datasets import synth as command

    given: dict[str, Any] = {"clips": clips, "classes": classes, "label_sets": label_sets, "distinct": distinct}
    given |= {
        "frames": frames,
        "size": size,
        "fps": fps,
        "missing": missing,
        "broken": broken,
        "extra": extra,
        "seed": seed,
    }
    options = {name: value for name, value in given.items() if value not in (None, 0.0)}
    raise typer.Exit(command.run(kind, out, workers=workers, as_json=json, **options))


@app.command()
def doctor(json: Json = False) -> None:
    """Say what this machine has and lacks for vidkit, and what to do about it."""
    from vidkit.cli import doctor as command

    raise typer.Exit(command.run(as_json=json))


cli_train.add_to(app)
cli_models.add_to(app)
cli_fewshot.add_to(app)
cli_bench.add_to(app)

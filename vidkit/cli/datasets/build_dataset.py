"""`vidkit build-dataset`: plan, build, report."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.cli.options import Json, RayAddress, as_place
from vidkit.cli.output import command_line, console, cores, print_json
from vidkit.errors import BuildError, ConfigError, display_path

if TYPE_CHECKING:
    from rich.console import Console

    from vidkit.data.build.build import Built
    from vidkit.data.plan.planning import Prepared, Request
    from vidkit.data.storage.places import Place

EXAMPLE = "vidkit build-dataset k400 --kinetics /data/kinetics --out k400"

DATA_VARIABLE = "VIDKIT_DATA"

_SOURCES = "Sources"
_CLIPS = "Stored clips"
_CHECKS = "Checks"

_Folder = Annotated[
    Any,  # a Path, or an address in a store
    typer.Option(metavar="DIR", show_default=False, parser=as_place, rich_help_panel=_SOURCES),
]


def run(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="[SPEC]",
            help="composite-518 (default), minikinetics-200, k400, ssv2, tinyvirat, ucf101, hmdb51, hmdb51-all, "
            "demo, motions, or a spec file's path.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Any,  # a Path, or an address in a store
        typer.Option(
            metavar="DIR",
            help="Where the dataset goes: a folder (./vidkit-SPEC by default), or s3://BUCKET/FOLDER.",
            parser=as_place,
            show_default=False,
        ),
    ] = None,
    kinetics: _Folder = None,
    minikinetics: _Folder = None,
    ssv2: _Folder = None,
    tinyvirat: _Folder = None,
    ucf101: _Folder = None,
    hmdb51: _Folder = None,
    demo: _Folder = None,
    motions: _Folder = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Folder of a source of your own spec; may be given again.",
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    annotations: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="DIR",
            help="Annotations that do not lie beside the videos; may be given again.",
            parser=as_place,
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    ids_from: Annotated[
        int,
        typer.Option(help="The first label id in list files: 0 or 1.", min=0, max=1, rich_help_panel=_SOURCES),
    ] = 0,
    kinetics_classes: Annotated[
        str, typer.Option(help="all or minikinetics-200", rich_help_panel=_SOURCES)
    ] = "all",
    kinetics_fraction: Annotated[
        float | None,
        typer.Option(
            help="A seeded, class-balanced part of Kinetics, such as 0.05.",
            show_default=False,
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that transcode; 0: one per core.", min=0)] = 0,
    size: Annotated[
        int | None,
        typer.Option(
            help="Pixels: side of the square, or short side, as the spec has it.",
            show_default=False,
            rich_help_panel=_CLIPS,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="At most so many frames, uniformly over the clip; 0: all.",
            min=0,
            show_default=False,
            rich_help_panel=_CLIPS,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Resample to this rate; by default clips keep their own.",
            show_default=False,
            rich_help_panel=_CLIPS,
        ),
    ] = None,
    clips_per_shard: Annotated[int | None, typer.Option(min=1, show_default=False, rich_help_panel=_CLIPS)] = None,
    present_only: Annotated[
        bool, typer.Option(help="Plan only the clips that are on disk.", rich_help_panel=_SOURCES)
    ] = False,
    strict_decode: Annotated[
        bool,
        typer.Option(
            help="Concealed decoding errors and times that had to be made are failures. A long still is none.",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Leave out the clips that this list names by clip_id, one a line or as a CSV's column; "
            "`vidkit view` exports such lists. May be given again.",
            show_default=False,
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Order of clips, and choice of a fraction.", min=0)] = 0,
    limit: Annotated[
        int | None,
        typer.Option(help="Build only N of the planned clips.", min=1, show_default=False),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            help="Exit 1 where a count differs from the published one, spellings make one class, or an archive is "
            "damaged.",
            rich_help_panel=_CHECKS,
        ),
    ] = False,
    forbid_leaks: Annotated[
        bool, typer.Option(help="Exit 1 where a video is in two splits.", rich_help_panel=_CHECKS)
    ] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try the failed and missing clips of a build again.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan and stop.")] = False,
    max_failures: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Exit 1 above so many percent failed.",
            min=0,
            max=100,
            rich_help_panel=_CHECKS,
        ),
    ] = 5.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds that one clip may take.", min=0.1, rich_help_panel=_CHECKS)
    ] = 120.0,
    transcoder: Annotated[
        str, typer.Option(help="pyav (in process) or ffmpeg (a program per clip)", rich_help_panel=_CLIPS)
    ] = "pyav",
    executor: Annotated[str, typer.Option(help="local, or ray: on the nodes of a cluster")] = "local",
    ray_address: RayAddress = None,
    follow_symlinks: Annotated[
        bool, typer.Option(help="Accept links that lead out of a source folder.", rich_help_panel=_SOURCES)
    ] = False,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where archives that are compressed as a whole are inflated; $VIDKIT_SCRATCH or the user's cache.",
            show_default=False,
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    scratch_limit: Annotated[
        float, typer.Option(metavar="GB", help="Most that it may hold.", min=0, rich_help_panel=_SOURCES)
    ] = 200.0,
    as_json: Json = False,
) -> int:
    """Turn clips on disk into verified WebDataset shards, with a row for every clip that could not be used.

    With nothing given, sources are looked for under ./data or $VIDKIT_DATA; where there are none, a small
    dataset of generated clips is built. Kill it at any time and run the same command again: it goes on.

    Exit 1 above --max-failures, for a --strict difference and for a leak where --forbid-leaks is given.
    """
    flags = {
        "kinetics": kinetics,
        "minikinetics": minikinetics,
        "ssv2": ssv2,
        "tinyvirat": tinyvirat,
        "ucf101": ucf101,
        "hmdb51": hmdb51,
        "demo": demo,
        "motions": motions,
    }
    folders = {name: path for name, path in flags.items() if path is not None} | _named_folders(source or ())
    from rich.markup import escape

    from vidkit.cli.datasets import plan_report
    from vidkit.cluster import check_executor
    from vidkit.data.build.build import Interrupted
    from vidkit.data.build.planned import build, check_transcoder
    from vidkit.data.packed.scratch import Scratch, scratch_folder
    from vidkit.data.plan.planning import Request, choose_spec, prepare, refuse_doubts
    from vidkit.data.sources.parts.packed import Inside
    from vidkit.settings import SourceOptions

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    log = console(stderr=True)
    request = Request(
        spec=spec,
        folders=folders,
        annotations=tuple(annotations or ()),
        data=Path(os.environ.get(DATA_VARIABLE) or "data"),
        options=SourceOptions(
            kinetics_classes=kinetics_classes,  # type: ignore[arg-type]  # checked there
            kinetics_fraction=kinetics_fraction,
            present_only=present_only,
            follow_symlinks=follow_symlinks,
            ids_from=ids_from,  # type: ignore[arg-type]  # likewise
            seed=seed,
        ),
        size=size,
        frames=frames,
        fps=fps,
        clips_per_shard=clips_per_shard,
        strict_decode=strict_decode,
        limit=limit,
        transcoder=transcoder,
        inside=Inside(
            scratch=Scratch(folder=scratch or scratch_folder(), limit=int(scratch_limit * 1e9)), quiet=False
        ),
        exclude=tuple(exclude or ()),
    )
    check_transcoder(transcoder)
    check_executor(executor, ray_address)
    workers = workers or cores()
    chosen = None if spec == "demo" and not folders else choose_spec(request)
    if chosen is None:
        request, chosen, out = _demo(request, out, workers, log)
    dataset_spec, found = chosen
    out = out or Path(f"vidkit-{dataset_spec.name}")
    prepared = prepare(
        dataset_spec, found, request, on_stage=lambda words: log.print(f"[dim]{escape(words)}[/dim]")
    )
    if not as_json:
        plan_report.print_plan(prepared, log)
    if strict:
        refuse_doubts(prepared)
    if forbid_leaks and prepared.plan.leaks:
        leak = prepared.plan.leaks[0]
        raise BuildError(
            f"{len(prepared.plan.leaks)} videos are in more than one split, for example {leak.value}: "
            f"{', '.join(leak.clip_ids[:4])}",
            hint="take them out of one split, or leave out --forbid-leaks",
        )
    if dry_run:
        return _finish_dry_run(prepared, strict=strict, as_json=as_json)
    try:
        built = build(
            prepared,
            out,
            workers=workers,
            timeout_s=timeout,
            retry_failed=retry_failed,
            executor=executor,
            ray_address=ray_address,
            scratch=scratch,
            scratch_limit=int(scratch_limit * 1e9),
        )
    except (Interrupted, KeyboardInterrupt):
        log.print(f"\nStopped. What is done is kept; go on with the same command:\n  {escape(command_line())}")
        raise SystemExit(130) from None
    reasons = _reasons(built, strict=strict, forbid_leaks=forbid_leaks, max_failures=max_failures)
    if as_json:
        print_json(
            {
                "out": display_path(str(out)),
                "exit_code": int(bool(reasons)),
                "reasons": reasons,
                **_short(built.facts),
            }
        )
    else:
        plan_report.print_result(built, out, console())
    for reason in reasons:
        log.print(f"[red]exit 1:[/red] {escape(reason)}")
    return int(bool(reasons))


def _named_folders(pairs: Sequence[str]) -> dict[str, Place]:
    folders = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise ConfigError(f"--source {pair!r} is not NAME=DIR", hint="for example --source mine=/data/mine")
        folders[name] = as_place(path)
    return folders


def _demo(request: Request, out: Place | None, workers: int, log: Console) -> tuple[Request, Any, Place]:
    """Draw the demo's clips beside its output; say how to point the command at real data."""
    from dataclasses import replace

    from rich.markup import escape

    from vidkit.cli.datasets.drawn import draw_beside
    from vidkit.data.manifests import load_spec

    if request.spec is None:
        log.print(
            f"No datasets under {escape(str(request.data))} (or ${DATA_VARIABLE}): building the demo from "
            "generated clips.\n"
            "With real data: vidkit build-dataset composite-518 --kinetics DIR --tinyvirat DIR\n"
            "            or: vidkit build-dataset k400 --kinetics DIR\n"
            "            or: vidkit build-dataset ssv2 --ssv2 DIR",
        )
    out = out or Path("vidkit-demo")
    beside = out if isinstance(out, Path) else Path(out.name)
    clips = draw_beside(beside, "demo", workers=workers)
    spec = load_spec("demo")
    return replace(request, spec="demo"), (spec, {"demo": clips}), out


def _reasons(built: Built, *, strict: bool, forbid_leaks: bool, max_failures: float) -> list[str]:
    """Why a finished build still exits 1."""
    counts = built.facts["counts"]
    present = counts["ok"] + counts["failed"]
    reasons = []
    if present and 100 * counts["failed"] / present > max_failures:
        share = 100 * counts["failed"] / present
        reasons.append(
            f"{counts['failed']:,} of {present:,} clips that are present failed ({share:.1f} %, above "
            f"--max-failures {max_failures:g})"
        )
    if not counts["ok"]:
        reasons.append("no clip could be used")
    if strict:
        reasons += [
            f"{r['what']}: {r['found']:,} found, {r['expected']:,} expected ({r['where']})"
            for r in built.facts["reconciliation"]
            if r["found"] != r["expected"]
        ]
    if forbid_leaks and built.facts["leaks"]:
        reasons.append(f"{len(built.facts['leaks'])} videos or files are in more than one split")
    return reasons


def _finish_dry_run(prepared: Prepared, *, strict: bool, as_json: bool) -> int:
    from vidkit.data.plan.planning import leak_dict, reconciliation, unusable

    rows = reconciliation(prepared)
    unlike = [row for row in rows if row["planned"] != row["expected"]]
    if as_json:
        plan = prepared.plan
        print_json(
            {
                "dry_run": True,
                "name": prepared.spec.name,
                "planned": prepared.table.num_rows,
                "errors": {item["error"]: item["clips"] for item in unusable(prepared.table)},
                "classes": len(plan.label_map.names),
                "label_map_sha256": plan.label_map.sha256,
                "sources": {m.source: {"layout": m.layout, **m.counts, "notes": m.notes} for m in plan.matching},
                "reconciliation": rows,
                "leaks": [leak_dict(leak) for leak in plan.leaks],
                "absent": {"classes": plan.absent.classes, "notes": plan.absent.notes},
                "excluded": None if plan.excluded is None else plan.excluded.to_plain(),
                "settings": dict(prepared.settings),
            }
        )
    return int(strict and bool(unlike))


def _short(facts: Mapping[str, Any]) -> dict[str, Any]:
    """dataset.json without its long lists."""
    left_out = {"label_map", "notes", "absent", "folded"}
    return {name: value for name, value in facts.items() if name not in left_out} | {
        "classes": len(facts["label_map"]["classes"] or facts["label_map"]["base_labels"]),
        "label_map_sha256": facts["label_map"]["sha256"],
    }

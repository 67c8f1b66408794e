"""`vidkit build-dataset`: plan, build, report."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from vidkit.cli.datasets.plan_report import print_plan, print_result
from vidkit.cli.datasets.synth import draw_beside
from vidkit.cli.output import command_line, console, cores, print_json
from vidkit.data.build.build import BuildSettings, Built, Interrupted, build
from vidkit.data.plan.planning import (
    Prepared,
    Request,
    choose_spec,
    describe,
    identity,
    leak_dict,
    prepare,
    reconciliation,
)
from vidkit.data.progress import Progress
from vidkit.errors import BuildError, ConfigError, display_path
from vidkit.settings.encode import SourceOptions

DATA_VARIABLE = "VIDKIT_DATA"


def run(
    spec: str | None,
    *,
    out: Path | None,
    folders: Mapping[str, Path],
    annotations: tuple[Path, ...],
    source_options: Mapping[str, Any],
    workers: int,
    strict: bool,
    forbid_leaks: bool,
    retry_failed: bool,
    dry_run: bool,
    max_failures: float,
    timeout: float,
    as_json: bool,
    **overrides: Any,
) -> int:
    """Build a dataset; see `vidkit build-dataset --help`.

    Returns:
        0 done; 1 too many failures, a `--strict` difference or a leak; 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's "stop" is a Ctrl-C
    log = console(stderr=True)
    request = Request(
        spec=spec,
        folders=folders,
        annotations=annotations,
        data=Path(os.environ.get(DATA_VARIABLE) or "data"),
        options=SourceOptions(**source_options),
        **overrides,
    )
    if request.transcoder not in ("pyav", "ffmpeg"):
        raise ConfigError(f"--transcoder is {request.transcoder!r}; expected pyav or ffmpeg")
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
        print_plan(prepared, log)
    if forbid_leaks and prepared.plan.leaks:
        leak = prepared.plan.leaks[0]
        raise BuildError(
            f"{len(prepared.plan.leaks)} videos are in more than one split, for example {leak.value}: "
            f"{', '.join(leak.clip_ids[:4])}",
            hint="take them out of one split, or leave out --forbid-leaks",
        )
    if dry_run:
        return _finish_dry_run(prepared, strict=strict, as_json=as_json)
    built = _build(prepared, request, out, workers, timeout, retry_failed, log)
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
        print_result(built, out, console())
    for reason in reasons:
        log.print(f"[red]exit 1:[/red] {escape(reason)}")
    return int(bool(reasons))


def _demo(request: Request, out: Path | None, workers: int, log: Console) -> tuple[Request, Any, Path]:
    """Draw the demo's clips beside its output; say how to point the command at real data."""
    from dataclasses import replace

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
    clips = draw_beside(out, "demo", workers=workers)
    spec = load_spec("demo")
    return replace(request, spec="demo"), (spec, {"demo": clips}), out


def _build(
    prepared: Prepared, request: Request, out: Path, workers: int, timeout: float, retry_failed: bool, log: Console
) -> Built:
    from vidkit.data.media.transcode import encoder_fingerprint

    encoder = encoder_fingerprint()
    if request.transcoder == "ffmpeg":
        from vidkit.data.media.transcode_ffmpeg import fingerprint

        encoder = fingerprint()
    settings = BuildSettings(
        out=out,
        roots=prepared.roots,
        encode=prepared.spec.encode,
        strict_decode=request.strict_decode,
        transcoder=request.transcoder,
        follow_symlinks=request.options.follow_symlinks,
        timeout_s=timeout,
        workers=workers,
        retry_failed=retry_failed,
    )
    try:
        with Progress("building", prepared.table.num_rows) as progress:
            return build(
                prepared.table, settings, identity(prepared, encoder), partial(describe, prepared), progress
            )
    except (Interrupted, KeyboardInterrupt):
        log.print(f"\nStopped. What is done is kept; go on with the same command:\n  {escape(command_line())}")
        raise SystemExit(130) from None


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
    rows = reconciliation(prepared)
    unlike = [row for row in rows if row["planned"] != row["expected"]]
    if as_json:
        plan = prepared.plan
        print_json(
            {
                "dry_run": True,
                "name": prepared.spec.name,
                "planned": prepared.table.num_rows,
                "classes": len(plan.label_map.names),
                "label_map_sha256": plan.label_map.sha256,
                "sources": {m.source: {"layout": m.layout, **m.counts, "notes": m.notes} for m in plan.matching},
                "reconciliation": rows,
                "leaks": [leak_dict(leak) for leak in plan.leaks],
                "absent": {"classes": plan.absent.classes, "notes": plan.absent.notes},
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

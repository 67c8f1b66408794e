"""The unit of work: one planned shard, from plan rows to a tar and a journal.

A pure function of its work: what it writes does not depend on who runs it, when, or how often it was
interrupted. `task` reads the rows for it, where the plan lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vidkit.data import shards
from vidkit.data.build.clip_worker import ClipJob, ClipOutcome, ClipWorker, Stopped
from vidkit.data.build.sidecar import read_sidecar
from vidkit.data.packed.opening import make_ready
from vidkit.data.packed.scratch import LIMIT_BYTES, Scratch, scratch_folder
from vidkit.data.shards import ShardFacts, ShardWriter
from vidkit.data.tables import SAMPLE
from vidkit.errors import clean_message
from vidkit.settings.encode import EncodeSettings

#: Columns of the ledger that are known only once a clip was made.
OUTCOME = (
    "status",
    "error",
    "message",
    "warnings",
    "offset",
    "nbytes",
    "frames",
    "fps",
    "duration_s",
    "width",
    "height",
    "start_s",
    "end_s",
    "source_sha256",
    "source_bytes",
    "source_frames",
    "source_width",
    "source_height",
)


_TRIMMED = (
    "the file is no longer than one segment, and several segments of this id are annotated: nothing tells which "
    "of them it is"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSettings:
    """How each shard of a build is made, the same for all of them."""

    roots: Mapping[str, str]
    """Source -> folder."""
    encode: EncodeSettings
    strict: bool = False
    transcoder: str = "pyav"
    follow_symlinks: bool = False
    timeout_s: float = 120.0
    sidecars: Mapping[str, str] = field(default_factory=dict)
    """Source -> ending of the JSON file beside each of its videos, for those that have them."""
    scratch: str = ""
    """Folder on whichever machine inflates an archive; none: where that machine says."""
    scratch_limit: int = LIMIT_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWork:
    """Everything that one shard is made from, and where it goes."""

    rows: list[dict[str, Any]]
    """Plan rows with `key`, in order."""
    split: str
    tar: Path
    journal: Path
    settings: ShardSettings
    kept: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Key -> ledger row of a clip that an earlier build stored; its bytes are copied."""
    stored: Path | None = None
    """The tar that holds those clips."""


def make_shard(
    work: ShardWork,
    on_clip: Callable[[str], None] = lambda status: None,
    on_found: Callable[[str], None] = lambda status: None,
    should_stop: Callable[[], bool] = lambda: False,
    worker: ClipWorker | None = None,
) -> ShardFacts | None:
    """Make, or finish making, one shard.

    Args:
        on_clip: called with "ok", "failed" or "missing" for each clip that was worked on.
        on_found: likewise, for each clip that an earlier attempt or build had finished.
        should_stop: asked between clips and while waiting for one.
        worker: what transcodes; by default one of its own, which is closed at the end.

    Returns:
        The shard's facts, or None where none of its clips could be used.

    Raises:
        Stopped: `should_stop` said so; what is done is kept for the next attempt.
        OSError: the shard could not be written, for example on a full disk; likewise.
    """
    with (
        ShardWriter(work.tar, work.journal, work.split) as writer,
        ClipWorker(work.settings.timeout_s, should_stop) if worker is None else nullcontext(worker) as worker,
    ):
        for row in writer.rows:
            on_found(row["status"])
        _make_archives_ready(work)
        for row in work.rows[len(writer.rows) :]:
            if should_stop():
                raise Stopped
            clip: bytes | None
            kept = row["key"] in work.kept
            if kept:
                outcome = dict(work.kept[row["key"]])
                clip = shards.read_sample(work.stored or work.tar, outcome["offset"], outcome["nbytes"])
            else:
                outcome, clip = _make_clip(row, work, worker)
            meta = None
            if clip is not None:
                beside, wrong = _beside(row, outcome, work)
                outcome["warnings"] += [wrong] if wrong and wrong not in outcome["warnings"] else []
                meta = {**sample_meta(row, outcome), **beside}
            writer.add(outcome, clip, meta)
            (on_found if kept else on_clip)(outcome["status"])
        return writer.finish()


def _make_archives_ready(work: ShardWork) -> None:
    """Elsewhere than where the plan was made archives are indexed here, before the first clip's time begins."""
    for source, root in work.settings.roots.items():
        rows = [row for row in work.rows if row["source"] == source]
        paths = [one["path"] for row in rows for one in (row, *(row.get("tries") or ()))]
        folder = Path(work.settings.scratch) if work.settings.scratch else scratch_folder()
        make_ready(root, filter(None, paths), Scratch(folder=folder, limit=work.settings.scratch_limit))


def _make_clip(row: dict[str, Any], work: ShardWork, worker: ClipWorker) -> tuple[dict[str, Any], bytes | None]:
    """(outcome columns and key, the stored clip's bytes if there is one)."""
    used: dict[str, Any] = row
    failed: list[str] = []
    # what the plan already ruled out is not opened; a file that was missing may have come since
    if row["error"] is not None:
        result = ClipOutcome(error=row["error"], message=row["message"])
    elif row["path"] is None:
        result = ClipOutcome(error="missing", message="the file was not found")
    else:
        result, used, failed = _first_good(row, work, worker)
    outcome: dict[str, Any] = {"key": row["key"], **dict.fromkeys(OUTCOME)}
    outcome["source_sha256"], outcome["source_bytes"] = result.source_sha256, result.source_bytes
    clip = result.clip
    if clip is None:
        outcome["status"] = "missing" if result.error == "missing" else "failed"
        message = "; ".join(filter(None, [result.message, *(f"so did a copy: {words}" for words in failed)]))
        outcome["error"], outcome["message"], outcome["warnings"] = result.error, clean_message(message), []
        outcome["start_s"], outcome["end_s"] = row["start_s"], row["end_s"]
        return outcome, None
    outcome["status"], outcome["warnings"] = "ok", list(clip.warnings)
    if used["path"] != row["path"]:  # the ledger names the file that was used
        outcome["path"] = used["path"]
        outcome["warnings"] += [clean_message(f"another copy was used, as {words}") for words in failed]
    for name in OUTCOME:
        if hasattr(clip, name) and name != "warnings":
            outcome[name] = getattr(clip, name)
    return outcome, clip.data


def _first_good(
    row: dict[str, Any], work: ShardWork, worker: ClipWorker
) -> tuple[ClipOutcome, dict[str, Any], list[str]]:
    """(outcome, the file it is of, in words what became of the others) of a clip's files, tried one after another.

    Where none can be used, the outcome is the first one's.
    """
    tries = row.get("tries") or [{**{name: row[name] for name in ("path", "start_s", "end_s")}, "whole": False}]
    first: ClipOutcome | None = None
    failed: list[str] = []
    for one in tries:
        result = worker.run(
            ClipJob(
                root=work.settings.roots[row["source"]],
                path=one["path"],
                settings=work.settings.encode,
                start_s=one["start_s"],
                end_s=one["end_s"],
                strict=work.settings.strict,
                transcoder=work.settings.transcoder,
                follow_symlinks=work.settings.follow_symlinks,
            )
        )
        if one["whole"] and result.clip is not None and result.clip.start_s is None:
            result = replace(result, clip=None, error="too-short", message=_TRIMMED)
        first = first or result
        if result.clip is not None:
            return result, one, failed
        failed.append(f"{one['path']} failed ({result.error}: {result.message})")
    assert first is not None
    return first, tries[0], failed[1:]


def _beside(row: dict[str, Any], outcome: dict[str, Any], work: ShardWork) -> tuple[dict[str, Any], str | None]:
    """What the source says of the clip in a file beside it, and what was wrong with that file."""
    ending = work.settings.sidecars.get(row["source"])
    if ending is None:
        return {}, None
    path = outcome.get("path") or row["path"]
    return read_sidecar(
        work.settings.roots[row["source"]], path, ending, follow_symlinks=work.settings.follow_symlinks
    )


def sample_meta(row: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What key.json holds: `tables.SAMPLE`, from a plan row and what became of it."""
    return {name: (outcome if name in OUTCOME else row)[name] for name in SAMPLE}

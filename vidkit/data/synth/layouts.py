"""Generated datasets on disk: real folder layouts, real annotation files, drawn clips, damage on request."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vidkit.data.processes import die_with
from vidkit.data.synth import kinds as synthetic_kinds
from vidkit.data.synth import kinetics as synthetic_kinetics
from vidkit.data.synth import motions as synthetic_motions
from vidkit.data.synth import official as synthetic_official
from vidkit.data.synth.clips import NUM_CLASSES, ClipLook, Pixels, draw, encode
from vidkit.data.synth.motions_levels import level_of
from vidkit.data.synth.plan import DAMAGE, Plan, PlannedClip, Request
from vidkit.errors import ConfigError
from vidkit.settings.encode import Faults


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    plan: Callable[[Request], Plan]
    clips: int
    """How many where the user does not say."""
    classes: int
    most_classes: int
    command: str
    """What reads it, up to the folder."""
    fewest_classes: int = 1
    draw: Callable[..., Pixels] = draw
    """(look, seed=, index=) -> frames; a function of a module, since it goes to other processes."""
    beside: Callable[..., Mapping[str, object]] | None = None
    """(look, seed=, index=) -> what a JSON file beside each clip says of it; its name ends in `SIDECAR`."""
    options: frozenset[str] = frozenset()
    """Which of `label_sets`, `underscores`, `split_folders`, `annotations`, `audio`, `level`, `shares` it has."""


_KINETICS = "vidkit build-dataset k400 --kinetics"
_TINYVIRAT = "vidkit build-dataset tinyvirat --tinyvirat"


def _kinetics(plan: Callable[[Request], Plan], *options: str) -> _Kind:
    return _Kind(
        plan=plan,
        clips=100,
        classes=10,
        most_classes=400,
        command=_KINETICS,
        options=frozenset({*options, "audio"}),
    )


def _tinyvirat(plan: Callable[[Request], Plan]) -> _Kind:
    options = frozenset({"label_sets", "annotations", "audio"})
    return _Kind(plan=plan, clips=120, classes=26, most_classes=26, command=_TINYVIRAT, options=options)


def _official(plan: Callable[[Request], Plan], name: str, most_classes: int) -> _Kind:
    command, options = f"vidkit build-dataset {name} --{name}", frozenset({"annotations"})
    return _Kind(plan=plan, clips=100, classes=10, most_classes=most_classes, command=command, options=options)


#: What `write_layout` can write. "kinetics" alone is the layout with class folders.
KINDS: dict[str, _Kind] = {
    "kinetics": _kinetics(synthetic_kinetics.kinetics_class_folders, "underscores", "split_folders", "annotations"),
    "kinetics-flat": _kinetics(synthetic_kinetics.kinetics_flat, "split_folders", "annotations"),
    "kinetics-class-folders": _kinetics(
        synthetic_kinetics.kinetics_class_folders, "underscores", "split_folders", "annotations"
    ),
    "kinetics-bare-ids": _kinetics(synthetic_kinetics.kinetics_bare_ids, "underscores", "split_folders"),
    "kinetics-listfile": _kinetics(
        synthetic_kinetics.kinetics_listfile, "underscores", "split_folders", "annotations"
    ),
    "minikinetics": _Kind(
        plan=synthetic_kinetics.minikinetics,
        clips=100,
        classes=10,
        most_classes=200,
        command="vidkit build-dataset minikinetics-200 --minikinetics",
        options=frozenset({"underscores", "split_folders", "annotations", "audio"}),
    ),
    "ssv2": _Kind(
        plan=synthetic_kinds.ssv2,
        clips=100,
        classes=10,
        most_classes=174,
        command="vidkit build-dataset ssv2 --ssv2",
        options=frozenset({"annotations"}),
    ),
    "tinyvirat-v1": _tinyvirat(synthetic_kinds.tinyvirat_v1),
    "tinyvirat-v2": _tinyvirat(synthetic_kinds.tinyvirat_v2),
    "ucf101": _official(synthetic_official.ucf101, "ucf101", 101),
    "hmdb51": _official(synthetic_official.hmdb51, "hmdb51", 51),
    "demo": _Kind(
        plan=synthetic_kinds.demo,
        clips=240,
        classes=12,
        most_classes=NUM_CLASSES,
        command="vidkit build-dataset demo --demo",
        options=frozenset({"audio", "shares"}),
    ),
    "motions": _Kind(
        plan=synthetic_motions.plan,
        clips=400,
        classes=40,
        fewest_classes=2,
        most_classes=len(synthetic_motions.NAMES),
        command="vidkit build-dataset motions --motions",
        draw=synthetic_motions.draw,
        beside=synthetic_motions.moving,
        options=frozenset({"level", "shares"}),
    ),
}

#: Ending of the JSON file that lies beside a clip, in the place of the clip's own.
SIDECAR = ".moving.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthReport:
    """What was written."""

    root: Path
    clips: int
    """Planned clips: annotated ones, or all where there are no annotations."""
    splits: Mapping[str, int]
    """Planned clips by split, as the dataset names its splits."""
    classes: tuple[str, ...]
    videos: int
    """Different videos that were drawn; the other files are links to them or copies."""
    missing: tuple[str, ...]
    """Annotated paths, relative to `root`, that have no file."""
    broken: tuple[str, ...]
    """Paths of empty or cut files."""
    extra: tuple[str, ...]
    """Paths of files that no annotation names."""
    next_command: str


def write_layout(
    kind: str,
    out: str | os.PathLike[str],
    *,
    clips: int | None = None,
    classes: int | None = None,
    seed: int = 0,
    label_sets: int | None = None,
    distinct: int | None = None,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    fps: float | None = None,
    audio: bool = False,
    missing: float = 0.0,
    broken: float = 0.0,
    extra: int = 0,
    underscores: bool = False,
    split_folders: bool = False,
    annotations: str = "",
    level: int | None = None,
    shares: tuple[float, float, float] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SynthReport:
    """Write a generated dataset. The same arguments give the same files, whatever `workers` is.

    A label always goes with the same motion and shape (for motions, with the same motion). The size, length and
    rate of clips are like those of the real dataset unless `size`, `frames` or `fps` say otherwise.

    Args:
        kind: one of `KINDS`.
        out: folder to write; must be new or empty.
        clips: planned clips; None: a small number that suits the kind.
        classes: classes in use, the first ones of the published list. For TinyVIRAT the labels, of which
            sets are made. None: a small number (all 26 for TinyVIRAT).
        seed: 0 or more.
        label_sets: TinyVIRAT only: how many different sets of labels occur, with Zipf-like frequencies.
        distinct: draw only so many videos; the other files are hard links to them (copies where the file
            system has no links). They never cross a split or a class.
        size: (width, height) in pixels of every clip.
        frames: frames of every clip.
        fps: frames a second of every clip.
        audio: add a tone; not for the webm clips of ssv2.
        missing: part of the annotated clips that get no file.
        broken: part of the clips whose files are empty or cut (half of them each).
        extra: number of files that no annotation names.
        underscores: Kinetics class folders with `_` for spaces.
        split_folders: Kinetics files below `train/`, `val/`, `test/`.
        annotations: subfolder for annotation files; "": beside the videos.
        level: motions only: how hard they are, 1 to 5 (`motions_levels.LEVELS`); None: 5.
        shares: demo and motions only: parts of each class's clips in train, val and test; their sum is 1.
        workers: processes that draw and encode.
        progress: called with (videos drawn, videos in all).

    Raises:
        ConfigError: bad arguments, all reported together, or `out` is not empty.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}; expected one of {', '.join(KINDS)}")
    what, root = KINDS[kind], Path(out)
    if level is not None and "level" in what.options:
        known = {"level": level}
        what = replace(
            what,
            classes=level_of(level).classes,
            draw=partial(what.draw, **known),
            beside=None if what.beside is None else partial(what.beside, **known),
        )
    ask = Request(
        kind=kind,
        clips=what.clips if clips is None else clips,
        classes=what.classes if classes is None else classes,
        seed=seed,
        label_sets=label_sets,
        distinct=distinct,
        size=size,
        frames=frames,
        fps=fps,
        extra=extra,
        underscores=underscores,
        split_folders=split_folders,
        level=level,
        shares=shares,
    )
    _check(what, ask, missing=missing, broken=broken, annotations=annotations, workers=workers, audio=audio)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(
            "the output folder exists and is not empty", file=root, hint="name a new folder, or remove this one"
        )
    plan = what.plan(ask)
    gone, hurt = _choose_damage(ask, len(plan.clips), missing, broken)

    root.mkdir(parents=True, exist_ok=True)
    for name, text in plan.texts.items():
        _parent_made(root / annotations / name).write_text(text, encoding="utf-8")
    videos = _write_clips(root, what, plan, gone, hurt, seed, audio, workers, progress)
    return SynthReport(
        root=root,
        clips=len(plan.clips),
        splits=dict(Counter(clip.split for clip in plan.clips)),
        classes=plan.classes,
        videos=videos,
        missing=tuple(plan.clips[i].path for i in sorted(gone)),
        broken=tuple(plan.clips[i].path for i in sorted(hurt)),
        extra=tuple(clip.path for clip in plan.extras),
        next_command=f"{what.command} {shlex.quote(os.fspath(root))}",
    )


def _check(
    what: _Kind, ask: Request, *, missing: float, broken: float, annotations: str, workers: int, audio: bool
) -> None:
    faults = Faults()
    tiny = "label_sets" in what.options
    faults.check(ask.clips >= 1, "clips", ask.clips, "at least 1")
    faults.check(
        what.fewest_classes <= ask.classes <= what.most_classes,
        "classes",
        ask.classes,
        f"{what.fewest_classes} to {what.most_classes} for {ask.kind}"
        + (" (its labels; label_sets counts their sets)" if tiny else ""),
    )
    faults.check(
        tiny or ask.clips >= ask.classes, "clips", ask.clips, f"at least one for each of {ask.classes} classes"
    )
    faults.check(ask.seed >= 0, "seed", ask.seed, "0 or more")
    faults.check(ask.distinct is None or ask.distinct >= 1, "distinct", ask.distinct, "at least 1")
    faults.check(0 <= missing <= 1, "missing", missing, "a part between 0 and 1")
    faults.check(0 <= broken <= 1, "broken", broken, "a part between 0 and 1")
    faults.check(missing + broken <= 1, "missing + broken", missing + broken, "at most 1")
    faults.check(ask.extra >= 0, "extra", ask.extra, "0 or more")
    faults.check(workers >= 1, "workers", workers, "at least 1")
    whole = ask.shares is None or (min(ask.shares) > 0 and math.isclose(sum(ask.shares), 1, abs_tol=1e-6))
    faults.check(whole, "shares", ask.shares, "three numbers above 0 for train, val and test, of sum 1")
    inside = not os.path.isabs(annotations) and ".." not in Path(annotations).parts
    faults.check(inside, "annotations", annotations, "a folder below the output folder")
    given: dict[str, object] = {
        "label_sets": ask.label_sets,
        "underscores": ask.underscores,
        "split_folders": ask.split_folders,
        "annotations": annotations,
        "audio": audio,
        "level": ask.level,
        "shares": ask.shares,
    }
    for name, value in given.items():
        faults.check(not value or name in what.options, name, value, f"nothing; it has no meaning for {ask.kind}")
    for name, part in {"missing": missing, "extra": ask.extra}.items():
        # where there are no annotations, the files are the plan
        faults.check(not part or "annotations" in what.options, name, part, f"0; {ask.kind} has no annotations")
    faults.raise_if_any("request")


def _choose_damage(ask: Request, clips: int, missing: float, broken: float) -> tuple[set[int], dict[int, float]]:
    """Clips without a file; and clips with a bad one -> part of the file that is left (0: empty)."""
    rng = ask.rng(DAMAGE)
    order = [int(i) for i in rng.permutation(clips)]
    some_missing, some_broken = round(missing * clips), round(broken * clips)
    hurt = order[some_missing : some_missing + some_broken]
    left = {i: 0.0 if k % 2 == 0 else 0.3 + 0.4 * float(rng.random()) for k, i in enumerate(hurt)}
    return set(order[:some_missing]), left


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    path: Path
    look: ClipLook
    codec: str
    seed: int
    video: int
    audio: bool
    draw: Callable[..., Pixels]
    beside: Callable[..., Mapping[str, object]] | None


def _render(job: _Job) -> None:
    frames = job.draw(job.look, seed=job.seed, index=job.video)
    encode(frames, job.path, job.look.fps, job.codec, audio=job.audio)
    if job.beside is not None:
        said = job.beside(job.look, seed=job.seed, index=job.video)
        job.path.with_suffix(SIDECAR).write_text(json.dumps(said) + "\n", encoding="utf-8")


def _write_clips(
    root: Path,
    what: _Kind,
    plan: Plan,
    gone: set[int],
    hurt: Mapping[int, float],
    seed: int,
    audio: bool,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Draw every video that a file needs, once, into the first sound file that shows it; link the rest."""
    sound = [clip for i, clip in enumerate(plan.clips) if i not in gone and i not in hurt] + list(plan.extras)
    cut = [(plan.clips[i], part) for i, part in sorted(hurt.items())]
    home: dict[int, Path] = {}
    jobs: list[_Job] = []

    def add_job(clip: PlannedClip, path: Path) -> None:
        home[clip.video] = path
        jobs.append(
            _Job(
                path=path,
                look=clip.look,
                codec=clip.codec,
                seed=seed,
                video=clip.video,
                audio=audio,
                draw=what.draw,
                beside=what.beside,
            )
        )

    for clip in sound:
        if clip.video not in home:
            add_job(clip, _parent_made(root / clip.path))
    spare = []
    for clip, part in cut:
        if part and clip.video not in home:  # nothing whole shows it, so it is drawn aside and cut from there
            spare.append(root / f".{clip.video}{Path(clip.path).suffix}")
            add_job(clip, spare[-1])
    for done, _ in enumerate(_map(_render, jobs, workers), 1):
        if progress is not None:
            progress(done, len(jobs))
    for clip in sound:
        if home[clip.video] != root / clip.path:
            _link(home[clip.video], _parent_made(root / clip.path))
            if what.beside is not None:
                _link(home[clip.video].with_suffix(SIDECAR), (root / clip.path).with_suffix(SIDECAR))
    for clip, part in cut:  # written anew: a link cut short would cut its whole twin
        data = home[clip.video].read_bytes() if part else b""
        _parent_made(root / clip.path).write_bytes(data[: int(len(data) * part)])
    for path in spare:
        path.unlink()
        path.with_suffix(SIDECAR).unlink(missing_ok=True)
    return len(jobs)


def _map(function: Callable[[_Job], None], jobs: list[_Job], workers: int) -> Iterable[None]:
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    # spawn, not fork: a forked child inherits locks of the encoder's threads
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(jobs))
    # idle processes of a killed parent would wait for ever
    with ProcessPoolExecutor(count, context, initializer=die_with, initargs=(os.getpid(),)) as pool:
        yield from pool.map(function, jobs, chunksize=max(1, min(4, len(jobs) // (4 * workers))))


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links here, or too many of one file
        shutil.copyfile(source, target)

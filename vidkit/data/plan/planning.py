"""From what the user typed to a plan: which spec, which folders, which clips. Opens no video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import vidkit
from vidkit.data import dataset
from vidkit.data.manifests import load_spec
from vidkit.data.plan import composite, exclusions, layout
from vidkit.data.plan.composite import Leak, Plan
from vidkit.data.shards import ShardFacts
from vidkit.data.sources import READERS, Roots, SourceResult
from vidkit.data.sources.parts.mirror import mirrored, of_store
from vidkit.data.sources.parts.packed import Inside
from vidkit.data.sources.parts.texts import NOT_UNDERSTOOD, not_understood
from vidkit.data.storage.places import Place
from vidkit.data.tables import SPLITS
from vidkit.errors import BuildError, ConfigError
from vidkit.settings.encode import DatasetSpec, EncodeSettings, SourceOptions, SourceSpec

DEFAULT_SPEC = "composite-518"

#: How people name the folders: a source is looked for under the data folder by these beginnings.
_FOLDER_NAMES = {
    "kinetics": ("kinetics", "k400"),
    "minikinetics": ("minikinetics",),
    "ssv2": ("ssv2", "somethingsomething", "20bnsomethingsomething"),
    "tinyvirat": ("tinyvirat",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What was asked for on the command line; `None` leaves the spec's own setting."""

    spec: str | None = None
    folders: Mapping[str, Place] = field(default_factory=dict)
    """Source -> folder, or its address in a store, from flags."""
    annotations: tuple[Place, ...] = ()
    data: Path = Path("data")
    """Where sources are looked for that have no flag."""
    options: SourceOptions = field(default_factory=SourceOptions)
    size: int | None = None
    frames: int | None = None
    fps: float | None = None
    clips_per_shard: int | None = None
    limit: int | None = None
    strict_decode: bool = False
    transcoder: str = "pyav"
    inside: Inside = field(default_factory=Inside)
    """How archives are looked into; nothing of it decides what is built."""
    exclude: tuple[Path, ...] = ()
    """Lists of clips that are left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A plan that can be carried out, and everything that must not differ when it is resumed."""

    spec: DatasetSpec
    plan: Plan
    table: pa.Table
    """Laid out: the plan with keys and shards."""
    roots: Mapping[str, str]
    settings: Mapping[str, Any]


def find_folders(data: Path) -> dict[str, Path]:
    """Sources under a data folder, by the names that people give them."""
    found: dict[str, Path] = {}
    if not data.is_dir():
        return found
    for child in sorted(data.iterdir()):
        name = "".join(c for c in child.name.lower() if c.isalnum())
        for source, beginnings in _FOLDER_NAMES.items():
            if child.is_dir() and name.startswith(beginnings):
                found.setdefault(source, child)
    return found


def choose_spec(request: Request) -> tuple[DatasetSpec, dict[str, Place]] | None:
    """The spec and the folders of its sources; None where nothing was named and nothing is there (demo).

    Raises:
        ConfigError: an unknown spec, or a flag for a source that the spec does not have.
    """
    found = find_folders(request.data)
    if request.spec is None and not request.folders and not found:
        return None
    spec = load_spec(request.spec or DEFAULT_SPEC)
    spec = _with_minikinetics(spec, request)
    names = {source.name for source in spec.sources}
    # the Kinetics folder serves Mini-Kinetics too: its annotations, and perhaps its videos
    usable = names | ({"kinetics"} if any(s.kind == "minikinetics" for s in spec.sources) else set())
    strangers = sorted(set(request.folders) - usable)
    if strangers:
        raise ConfigError(
            f"{spec.name} has no source {strangers[0]!r}; its sources are {', '.join(sorted(names))}",
            hint=f"name the dataset to build, for example: vidkit build-dataset {_spec_of(strangers[0])} "
            f"--{strangers[0]} DIR",
        )
    folders = {**{name: path for name, path in found.items() if name in usable}, **request.folders}
    if not set(folders) & names:
        seen = f"; under {request.data} there is {', '.join(sorted(found))}" if found else ""
        raise ConfigError(
            f"no source of {spec.name} was found{seen}",
            hint=f"name the dataset to build: vidkit build-dataset {_spec_of(min(found))}"
            if found and request.spec is None
            else "give folders: vidkit build-dataset " + " ".join([spec.name, *map(_flag_of, sorted(names))]),
        )
    for name, path in folders.items():
        with of_store(path):
            there = path.is_dir()
        if not there:
            raise ConfigError(
                f"--{name} {path} is no folder", hint="give the folder that holds the videos or archives"
            )
    return spec, folders


def _flag_of(source: str) -> str:
    return f"--{source} DIR" if source in (*_FOLDER_NAMES, "demo", "motions") else f"--source {source}=DIR"


def _spec_of(source: str) -> str:
    return {"kinetics": "k400", "minikinetics": "minikinetics-200"}.get(source, source)


def _with_minikinetics(spec: DatasetSpec, request: Request) -> DatasetSpec:
    """`--minikinetics DIR` on a spec with a Kinetics source: its id lists choose the clips."""
    if "minikinetics" not in request.folders or any(s.name == "minikinetics" for s in spec.sources):
        return spec

    def listed(source: SourceSpec) -> SourceSpec:
        if source.kind != "kinetics":
            return source
        return replace(source, name="minikinetics", kind="minikinetics", classes="minikinetics200")

    renamed = {f"clips/{s.name}": "clips/minikinetics" for s in spec.sources if s.kind == "kinetics"}
    expect = [replace(item, what=_renamed(item.what, renamed)) for item in spec.expect]
    return replace(spec, sources=tuple(listed(source) for source in spec.sources), expect=tuple(expect))


def _renamed(what: str, heads: Mapping[str, str]) -> str:
    """An expectation's name with another source in it; "clips/kinetics/train" has the head "clips/kinetics"."""
    head = "/".join(what.split("/")[:2])
    return heads.get(head, head) + what[len(head) :]


def resolve(spec: DatasetSpec, request: Request) -> DatasetSpec:
    """The spec with the command line's settings in place of its own."""
    encode: EncodeSettings = spec.encode
    if request.size is not None:
        encode = replace(encode, size=request.size)
    if request.frames is not None:
        encode = replace(encode, max_frames=request.frames or None)
    if request.fps is not None:
        encode = replace(encode, fps=request.fps)
    return replace(spec, encode=encode, clips_per_shard=request.clips_per_shard or spec.clips_per_shard)


def prepare(
    spec: DatasetSpec,
    folders: Mapping[str, Place],
    request: Request,
    on_stage: Callable[[str], None] = lambda words: None,
) -> Prepared:
    """Read the sources, merge them and lay the plan out.

    Raises:
        ConfigError, AnnotationError: a source or the spec cannot be used as it is.
        BuildError: an archive that cannot be indexed or inflated here.
    """
    spec = resolve(spec, request)
    exclude = exclusions.read(request.exclude)
    results = {}
    with mirrored({**folders, **_annotations(request)}) as mirror:
        at = mirror.folders
        for source in spec.sources:
            if source.name not in folders:
                continue
            on_stage(f"reading {source.name} from {folders[source.name]}")
            roots = Roots(
                folder=at[source.name],
                annotations=tuple(at[name] for name in _annotations(request)),
                kinetics=at.get("kinetics"),
                inside=request.inside,
            )
            results[source.name] = READERS[source.kind](source, roots, request.options)
    _name_unread(list(results.values()))
    on_stage("merging")
    try:
        plan = composite.merge(spec, results, request.options, exclude)
        if not plan.table.num_rows:
            raise ConfigError(
                f"{spec.name}: no clip is planned; looked in {', '.join(str(f) for f in folders.values())}",
                hint="look at the counts with --dry-run, and check that the folders hold annotations or videos",
            )
    except ConfigError as error:  # the plan, which names the files that were not understood, is never shown
        notes = [note for result in results.values() for note in result.matching.notes]
        error.message = "; ".join([error.message, *(note for note in notes if note.startswith(NOT_UNDERSTOOD))])
        raise
    seed = request.options.seed
    table = layout.lay_out(plan.table, clips_per_shard=spec.clips_per_shard, seed=seed, limit=request.limit)
    return Prepared(
        spec=spec,
        plan=plan,
        table=table,
        roots={name: mirror.root(root) for name, root in plan.roots.items()},
        settings=_settings(spec, request, plan),
    )


def _annotations(request: Request) -> dict[str, Place]:
    """By names that no source has."""
    return {f"annotations {number}": path for number, path in enumerate(request.annotations)}


def _name_unread(results: list[SourceResult]) -> None:
    """Note the files given with --annotations that no source could use."""
    unread = [result.matching.unread for result in results]
    if names := [name for name in (unread[0] if unread else ()) if all(name in other for other in unread)]:
        results[0].matching.notes.append(not_understood(names))


def refuse_doubts(prepared: Prepared) -> None:
    """For `--strict`: what a source decided, and could have been meant otherwise, is an error.

    Raises:
        BuildError: with all of it.
    """
    doubts = [f"{matching.source}: {text}" for matching in prepared.plan.matching for text in matching.doubts]
    excluded = prepared.plan.excluded
    if excluded is not None and excluded.doubt is not None:
        doubts.append(excluded.doubt)
    if doubts:
        listed = "".join(f"\n  - {text}" for text in doubts)
        raise BuildError(
            f"{len(doubts)} guess{'es' * (len(doubts) != 1)} that --strict does not allow:{listed}",
            hint="mend what is named, or leave out --strict",
        )


def unusable(table: pa.Table) -> list[dict[str, Any]]:
    """Error codes of a plan: how many rows carry each, and the first of them with its message."""
    bad = table.filter(pc.is_valid(table["error"])).select(["clip_id", "error", "message"])
    found = []
    for item in sorted(
        pc.value_counts(bad["error"]).to_pylist(), key=lambda item: (-item["counts"], item["values"])
    ):
        first = bad.filter(pc.equal(bad["error"], item["values"])).slice(0, 1).to_pylist()[0]
        example = f"{first['clip_id']}: {first['message']}"
        found.append({"error": item["values"], "clips": item["counts"], "example": example})
    return found


def _settings(spec: DatasetSpec, request: Request, plan: Plan) -> dict[str, Any]:
    """Everything that decides the bytes of the result, flat, as it is stored and compared."""
    return {
        "spec": spec.name,
        **{
            f"encode.{name}": value for name, value in asdict(spec.encode).items() if (name, value) != ("map", None)
        },
        "clips_per_shard": spec.clips_per_shard,
        "label_map": plan.label_map.sha256,
        # an option that came later stands there only where it is used: older builds go on as they were
        **{name: value for name, value in asdict(request.options).items() if name != "ids_from" or value},
        **({"sidecars": spec.sidecars} if spec.sidecars else {}),
        **({"exclude": plan.excluded.sha256} if plan.excluded is not None else {}),
        "limit": request.limit,
        "strict_decode": request.strict_decode,
        "transcoder": request.transcoder,
    }


def identity(prepared: Prepared, encoder: Mapping[str, str]) -> dict[str, Any]:
    """What dataset.json says from the beginning of a build, and what a resumed build must share."""
    return {
        "format": dataset.FORMAT,
        "vidkit": vidkit.__version__,
        "name": prepared.spec.name,
        "settings": dict(prepared.settings),
        "encoder": dict(encoder),
        "plan_sha256": layout.plan_sha256(prepared.table),
    }


def describe(prepared: Prepared, ledger: pa.Table, made: list[ShardFacts]) -> dict[str, Any]:
    """What dataset.json says of a finished build. No time, no path of this machine."""
    spec, plan = prepared.spec, prepared.plan
    label_map = plan.label_map
    return {
        "title": spec.title,
        "description": spec.description,
        "synthetic": spec.synthetic,
        "flip": spec.flip,
        "notes": list(spec.notes),
        "label_map": {
            "rule": label_map.rule,
            "classes": list(label_map.classes),
            "base_labels": list(label_map.base_labels),
            "sha256": label_map.sha256,
        },
        "counts": {
            **tally(ledger),
            "with_warnings": pc.sum(pc.greater(pc.list_value_length(ledger["warnings"]), 0)).as_py() or 0,
            "frames": pc.sum(ledger["frames"]).as_py() or 0,
            "bytes": sum(shard.bytes for shard in made),
            "shards": len(made),
        },
        "splits": {
            split: tally(ledger.filter(pc.equal(ledger["split"], split)))
            for split in SPLITS
            if split in set(pc.unique(ledger["split"]).to_pylist())
        },
        "sources": {
            matching.source: {
                **tally(ledger.filter(pc.equal(ledger["source"], matching.source))),
                "version": plan.versions.get(matching.source),
                "annotations": dict(plan.annotations.get(matching.source, {})),
                "matching": {
                    "layout": matching.layout,
                    "counts": dict(matching.counts),
                    "examples": {name: list(some) for name, some in matching.examples.items()},
                    "notes": list(matching.notes),
                },
            }
            for matching in plan.matching
        },
        "errors": dict(sorted(Counter(e for e in ledger["error"].to_pylist() if e is not None).items())),
        "reconciliation": reconciliation(prepared, ledger),
        "leaks": [leak_dict(leak) for leak in (*plan.leaks, *file_leaks(ledger))],
        "folded": [asdict(folded) for folded in plan.folded],
        "absent": {"classes": list(plan.absent.classes), "notes": list(plan.absent.notes)},
        **({"excluded": plan.excluded.to_plain()} if plan.excluded is not None else {}),
    }


def tally(ledger: pa.Table) -> dict[str, int]:
    """planned = ok + failed + missing."""
    counts = Counter(ledger["status"].to_pylist())
    return {"planned": ledger.num_rows, **{status: counts[status] for status in ("ok", "failed", "missing")}}


def reconciliation(prepared: Prepared, ledger: pa.Table | None = None) -> list[dict[str, Any]]:
    """Published counts beside what is planned (on disk, and without error) and what is stored."""
    classes = len(prepared.plan.label_map.names)
    versions = prepared.plan.versions
    planned = composite.reconcile(prepared.spec, prepared.table, classes=classes, versions=versions)
    stored = planned
    if ledger is not None:
        stored = composite.reconcile(prepared.spec, ledger, classes=classes, versions=versions)
    return [
        {"what": p.what, "expected": p.expected, "planned": p.found, "found": s.found, "where": p.where}
        for p, s in zip(planned, stored, strict=True)
    ]


def leak_dict(leak: Leak) -> dict[str, Any]:
    """A leak for JSON, lists in place of tuples."""
    return {**asdict(leak), "splits": list(leak.splits), "clip_ids": list(leak.clip_ids)}


def file_leaks(ledger: pa.Table) -> list[Leak]:
    """The same file, byte for byte, in two splits; of clips that are stored: all empty files are the same."""
    rows = ledger.filter(pc.equal(ledger["status"], "ok"))
    rows = rows.select(["clip_id", "source", "split", "source_sha256"])
    rows = rows.filter(pc.is_valid(rows["source_sha256"]))
    several = rows.group_by("source_sha256").aggregate([("split", "count_distinct")])
    several = several.filter(pc.greater(several["split_count_distinct"], 1))
    rows = rows.filter(pc.is_in(rows["source_sha256"], value_set=several["source_sha256"].combine_chunks()))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        groups.setdefault(row["source_sha256"], []).append(row)
    return [
        Leak(
            kind="file",
            source=", ".join(sorted({row["source"] for row in group})),
            value=sha256,
            splits=tuple(s for s in SPLITS if s in {row["split"] for row in group}),
            clip_ids=tuple(sorted(row["clip_id"] for row in group)),
        )
        for sha256, group in sorted(groups.items())
    ]

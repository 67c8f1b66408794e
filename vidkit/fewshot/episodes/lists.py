"""Published lists of episodes: JSON lines that anyone with the dataset can evaluate on.

The first line is a header: format, dataset, label map, class split, settings. Each further line is an episode:
class names by slot, and for support and query the clips' ids, their keys in the shards, and their slots. Clips
are found by id, so a list also serves a build with other sizes or another seed; where the plan is the one that
the list was made from, the keys must agree too. Same settings, same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidkit.data.dataset import open_dataset
from vidkit.data.tables import SPLITS
from vidkit.errors import AnnotationError, ConfigError, DatasetError
from vidkit.fewshot.episodes.class_split import (
    LIST_KIND,
    META_SPLITS,
    ClassSplit,
    MetaSplit,
    check_class_split,
    class_split_from,
)
from vidkit.fewshot.episodes.draw import Episode
from vidkit.fewshot.episodes.json_rows import JsonRow, check_target, parse_row
from vidkit.fewshot.episodes.labelled import LabelledClips, open_labelled
from vidkit.fewshot.episodes.pool import EpisodePool, EpisodeSettings
from vidkit.files import write_whole

FORMAT = 1
_AGAIN = "make the list again with `vidkit episodes`, or take a whole copy of it"


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeList:
    """A list that was read. Rows of its episodes are rows of `clips`."""

    clips: LabelledClips
    settings: EpisodeSettings
    split: ClassSplit
    meta_split: MetaSplit
    episodes: tuple[Episode, ...]
    sha256: str
    """Of the file: a result that names it can be compared with others on the same episodes."""

    def __repr__(self) -> str:
        s = self.settings
        what = f"{len(self.episodes):,} episodes, {s.way}-way {s.shot}-shot, {s.query} queries"
        return f"EpisodeList({what}, meta-{self.meta_split} of {self.clips.name!r}, sha256 {self.sha256[:12]})"


def write_episodes(
    path: str | os.PathLike[str], pool: EpisodePool[EpisodeSettings], episodes: Sequence[Episode]
) -> str:
    """Write a list, whole or not at all, and return the file's sha256. An older list of that name is replaced.

    Raises:
        ConfigError: no episode, no class split, or a file of that name that is no list of episodes.
    """
    path = Path(path)
    if not episodes or pool.split is None:
        what = "no episode" if not episodes else "episodes without a class split"
        raise ConfigError(f"a list of {what} cannot be published", field="episodes")
    check_target(path, LIST_KIND, "is no list of episodes", field="out")
    clips = pool.clips
    header = {
        "format": FORMAT,
        "kind": LIST_KIND,
        "dataset": clips.name,
        "label_map_sha256": clips.label_map_sha256,
        "plan_sha256": clips.plan_sha256,
        "splits": list(clips.splits),
        "meta_split": pool.meta_split,
        "settings": asdict(pool.settings),
        "episodes": len(episodes),
        "class_split": pool.split.to_dict(),
    }
    lines = [header, *(_plain(clips, episode) for episode in episodes)]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    data = text.encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def _plain(clips: LabelledClips, episode: Episode) -> dict[str, Any]:
    values: dict[str, Any] = {"episode": episode.number, "classes": [clips.classes[i] for i in episode.class_ids]}
    for part, rows, slots in _parts(episode):
        at = pa.array(rows)
        values[f"{part}_slots"] = slots.tolist()
        values[f"{part}_keys"] = clips.key.take(at).to_pylist()
        values[f"{part}_clips"] = clips.clip_id.take(at).to_pylist()
    return values


def _parts(episode: Episode) -> tuple[tuple[str, Any, Any], ...]:
    return (
        ("support", episode.support, episode.support_slots),
        ("query", episode.query, episode.query_slots),
    )


def read_episodes(path: str | os.PathLike[str], dataset: str | os.PathLike[str] | LabelledClips) -> EpisodeList:
    """Read a list and check everything in it against the dataset.

    Args:
        dataset: a built dataset's folder, which is opened with the splits that the list names; or its clips, if
            they are open already.

    Raises:
        AnnotationError: no such file, a cut or changed file, another format; with row and field.
        DatasetError: the dataset has other classes than the list, or lacks clips of it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"the list cannot be read: {error.strerror}", file=path) from None
    if not data.endswith(b"\n"):
        what = "the list ends in the middle of a line" if data else "the list is empty"
        raise AnnotationError(what, file=path, row=data.count(b"\n") + 1, hint=_AGAIN)
    lines = data[:-1].split(b"\n")
    head = _header(lines[0], path)
    # before the clips are looked for: of other classes, one need not know which splits they have
    built = dataset.dataset if isinstance(dataset, LabelledClips) else open_dataset(dataset)
    found = str(built.facts["label_map"]["sha256"])
    if found != head.label_map_sha256:
        raise DatasetError(
            f"the list is of label map {head.label_map_sha256[:12]} (dataset {head.dataset!r}); "
            f"{built.facts['name']!r} has {found[:12]}: these are other classes",
            file=path,
            row=1,
            field="label_map_sha256",
            hint="evaluate on the dataset that the list was made from",
        )
    clips = dataset if isinstance(dataset, LabelledClips) else open_labelled(dataset, head.splits)
    check_class_split(head.split, clips, path)
    if len(lines) - 1 != head.episodes:
        raise AnnotationError(
            f"the header says {head.episodes:,} episodes; the list has {len(lines) - 1:,}",
            file=path,
            row=1,
            field="episodes",
            hint=_AGAIN,
        )
    reader = _Reader(clips, head)
    episodes = tuple(reader.episode(parse_row(line, path, i, hint=_AGAIN)) for i, line in enumerate(lines[1:], 2))
    return EpisodeList(
        clips=clips,
        settings=head.settings,
        split=head.split,
        meta_split=head.meta_split,
        episodes=episodes,
        sha256=hashlib.sha256(data).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    dataset: str
    label_map_sha256: str
    plan_sha256: str | None
    splits: tuple[str, ...]
    meta_split: MetaSplit
    settings: EpisodeSettings
    episodes: int
    split: ClassSplit


def _header(line: bytes, path: Path) -> _Header:
    row = parse_row(line, path, 1, hint=_AGAIN)
    if row.values.get("kind") != LIST_KIND:
        raise row.error(f"not a list of episodes: expected {LIST_KIND!r}", "kind")
    version = row.number("format", 1)
    if version > FORMAT:
        raise AnnotationError(
            f"format {version} is newer than this vidkit reads ({FORMAT})",
            file=path,
            row=1,
            field="format",
            hint="upgrade vidkit: pip install -U vidkit",
        )
    splits = tuple(row.texts("splits"))
    if not splits or len(set(splits)) != len(splits) or not set(splits) <= set(SPLITS):
        raise row.error(f"expected some of {', '.join(SPLITS)}, each once", "splits")
    meta_split = row.text("meta_split")
    if meta_split not in META_SPLITS:
        raise row.error(f"{meta_split!r} is none of {', '.join(META_SPLITS)}", "meta_split")
    split = class_split_from(row.inner("class_split"))
    if split.label_map_sha256 != row.text("label_map_sha256"):
        raise row.error("the class split is of another label map than the list", "class_split")
    return _Header(
        dataset=row.text("dataset"),
        label_map_sha256=row.text("label_map_sha256"),
        plan_sha256=None if row.get("plan_sha256") is None else row.text("plan_sha256"),
        splits=splits,
        meta_split=meta_split,
        settings=_settings(row.inner("settings"), row),
        episodes=row.number("episodes", 1),
        split=split,
    )


def _settings(values: JsonRow, row: JsonRow) -> EpisodeSettings:
    try:
        return EpisodeSettings(
            way=values.number("way"),
            shot=values.number("shot"),
            query=values.number("query"),
            seed=values.number("seed"),
            allow_shared_groups=values.flag("allow_shared_groups"),
        )
    except ConfigError as error:
        raise row.error(error.message, "settings") from None


class _Reader:
    """Turns lines into episodes, and holds them to the header and to the dataset."""

    def __init__(self, clips: LabelledClips, head: _Header) -> None:
        self.clips = clips
        self.head = head
        self.row_of = {clip_id: row for row, clip_id in enumerate(clips.clip_id.to_pylist())}
        self.keys = clips.key.to_pylist() if head.plan_sha256 and head.plan_sha256 == clips.plan_sha256 else None
        self.class_ids = {name: i for i, name in enumerate(clips.classes)}
        self.allowed = set(head.split.names(head.meta_split))
        self.last = -1

    def episode(self, line: JsonRow) -> Episode:
        settings = self.head.settings
        number = line.number("episode")
        if number <= self.last:
            raise line.error(f"episode {number} comes after episode {self.last}", "episode")
        self.last = number
        names = line.texts("classes", settings.way)
        for name in names:
            if name not in self.allowed:
                raise line.error(f"{name!r} is no class of meta-{self.head.meta_split}", "classes")
        if len(set(names)) < len(names):
            raise line.error("a class comes twice", "classes")
        class_ids = np.array([self.class_ids[name] for name in names], np.int64)
        support, support_slots = self._part(line, "support", settings.shot, class_ids)
        query, query_slots = self._part(line, "query", settings.query, class_ids)
        twice = set(support.tolist()) & set(query.tolist())
        if twice:
            clip_id = self.clips.clip_id[min(twice)]
            raise line.error(f"clip {str(clip_id)!r} is in both support and query", "query_clips")
        if not settings.allow_shared_groups:
            both = np.intersect1d(self.clips.group[support], self.clips.group[query])
            if len(both):
                clip_id = self.clips.clip_id[int(query[self.clips.group[query] == both[0]][0])]
                raise line.error(
                    f"the video of clip {str(clip_id)!r} is in the support too, which the list's settings rule out",
                    "query_clips",
                )
        return Episode(number, class_ids, support, support_slots, query, query_slots)

    def _part(self, line: JsonRow, part: str, each: int, class_ids: Any) -> tuple[Any, Any]:
        way = self.head.settings.way
        names = line.texts(f"{part}_clips", way * each)
        keys = line.texts(f"{part}_keys", way * each)
        slots = np.array(line.numbers(f"{part}_slots", way * each, way), np.int64)
        if (np.bincount(slots, minlength=way) != each).any():
            raise line.error(f"expected each slot {each} times", f"{part}_slots")
        if len(set(names)) < len(names):
            raise line.error("a clip comes twice", f"{part}_clips")
        rows = np.array([self._row(line, name, f"{part}_clips") for name in names], np.int64)
        for i in np.flatnonzero(self.clips.class_id[rows] != class_ids[slots]):
            classes = self.clips.classes
            found, said = int(self.clips.class_id[rows[i]]), classes[int(class_ids[slots[i]])]
            here = repr(classes[found]) if found >= 0 else "without a label"
            raise line.error(f"clip {names[i]!r} is {here} in this dataset, {said!r} in the list", f"{part}_slots")
        if self.keys is not None:
            for name, key, row in zip(names, keys, rows.tolist(), strict=True):
                if self.keys[row] != key:
                    raise line.error(
                        f"clip {name!r} has key {self.keys[row]} in this dataset, {key} in the list", f"{part}_keys"
                    )
        return rows, slots

    def _row(self, line: JsonRow, clip_id: str, field: str) -> int:
        row = self.row_of.get(clip_id)
        if row is not None:
            return row
        ledger = self.clips.dataset.ledger(["clip_id", "split", "status", "error"])
        found = ledger.filter(pc.equal(ledger["clip_id"], clip_id)).to_pylist()
        if not found:
            why = f"is not in dataset {self.clips.name!r}"
        elif found[0]["status"] != "ok":
            why = f"has no sample in dataset {self.clips.name!r}: {found[0]['status']} ({found[0]['error']})"
        else:
            why = f"is in split {found[0]['split']!r}, which was not opened ({', '.join(self.clips.splits)} were)"
        raise DatasetError(
            f"clip {clip_id!r} {why}",
            file=line.file,
            row=line.row,
            field=field,
            hint="evaluate on a dataset that has all clips of the list; results on part of it do not compare",
        )

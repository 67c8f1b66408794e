"""Generated Kinetics: four layouts, the published CSVs, list files, and the id lists of Mini-Kinetics."""

from __future__ import annotations

import csv
import dataclasses
import io
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidkit.data.manifests import class_list
from vidkit.data.synth.plan import IDS, TEXTS, THREE_SPLITS, Plan, PlannedClip, Request, balanced, share_videos

_ID_CHARACTERS = string.ascii_letters + string.digits + "-_"


def youtube_ids(count: int, rng: np.random.Generator) -> list[str]:
    """Invented ids of the real form. Every 20th begins with `-`, has a `_`, or looks like a time suffix."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        letters = [_ID_CHARACTERS[i] for i in rng.integers(0, 64, 11)]
        match len(ids) % 20:
            case 0:
                letters[0] = "-"
            case 1:
                letters[5] = "_"
            case 2:
                letters[1:9] = f"_{int(rng.integers(0, 300)):06d}_"
        ids["".join(letters)] = None
    return list(ids)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    youtube_id: str
    start: int
    end: int
    split: str
    label: str
    is_cc: int

    @property
    def file(self) -> str:
        return f"{self.youtube_id}_{self.start:06d}_{self.end:06d}.mp4"


def _kinetics_rows(ask: Request, keys: Sequence[tuple[str, int]], names: Sequence[str]) -> list[_Row]:
    # other ids than Kinetics: both folders can lie side by side
    rng = ask.rng(IDS, 2 if ask.kind == "minikinetics" else 0)
    ids = youtube_ids(len(keys), rng)
    starts, cc = rng.integers(0, 290, len(keys)), rng.integers(0, 2, len(keys))
    return [
        _Row(
            youtube_id=ids[i],
            start=int(starts[i]),
            end=int(starts[i]) + 10,
            split=split,
            label=names[c],
            is_cc=int(cc[i]),
        )
        for i, (split, c) in enumerate(keys)
    ]


def _kinetics_csvs(rows: Sequence[_Row]) -> dict[str, str]:
    """The published CSVs, of the splits that have rows."""
    header = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
    lines: dict[str, list[tuple[object, ...]]] = {}
    for row in rows:
        line = (row.label, row.youtube_id, row.start, row.end, row.split, row.is_cc)
        lines.setdefault(row.split, []).append(line)
    texts = {}
    for split, found in lines.items():
        withheld = split == "test"  # its label and is_cc
        texts[f"{split}.csv"] = (
            _csv(header[1:-1], (line[1:-1] for line in found)) if withheld else _csv(header, found)
        )
    return texts


def _folder(ask: Request, row: _Row) -> str:
    """Class folder of a clip, and above it perhaps the split's; test clips have no known class."""
    name = row.label.replace(" ", "_") if ask.underscores else row.label
    above = f"{row.split}/" if ask.split_folders else ""
    return "test/" if row.split == "test" else f"{above}{name}/"


def _kinetics_plan(
    ask: Request,
    classes: str,
    shares: Mapping[str, float],
    path: Callable[[_Row], str],
    texts: Callable[[Sequence[_Row]], Mapping[str, str]],
) -> Plan:
    names = class_list(classes).names[: ask.classes]
    positions = class_list("kinetics400").ids  # Mini-Kinetics shows a class as Kinetics does
    keys = balanced(ask, shares)
    rows = _kinetics_rows(ask, keys, names)
    videos = share_videos(keys, ask.distinct)
    clips = tuple(
        PlannedClip(
            path=path(row), split=row.split, video=video, look=ask.look(positions[row.label], 340, 256, 300, 30.0)
        )
        for row, video in zip(rows, videos, strict=True)
    )
    known = {row.youtube_id for row in rows}
    spare = [i for i in youtube_ids(len(rows) + ask.extra, ask.rng(IDS, 1)) if i not in known][: ask.extra]
    extras = []
    for i, youtube_id in enumerate(spare):
        twin = dataclasses.replace(rows[i % len(rows)], youtube_id=youtube_id)
        extras.append(dataclasses.replace(clips[i % len(rows)], path=path(twin)))
    return Plan(clips=clips, extras=tuple(extras), texts=texts(rows), classes=tuple(names))


def kinetics_flat(ask: Request) -> Plan:
    """All files in one folder (or one a split), as the published tarballs unpack."""

    def path(row: _Row) -> str:
        return f"{row.split}/{row.file}" if ask.split_folders else row.file

    return _kinetics_plan(ask, "kinetics400", THREE_SPLITS, path, _kinetics_csvs)


def kinetics_class_folders(ask: Request) -> Plan:
    """Kinetics-400 in a folder a class, with the published CSV files beside it."""
    return _kinetics_plan(
        ask, "kinetics400", THREE_SPLITS, lambda row: _folder(ask, row) + row.file, _kinetics_csvs
    )


def kinetics_bare_ids(ask: Request) -> Plan:
    """The 5 % subset: class folders, ids alone as file names, and no annotations."""
    shares = {"train": 1.0}
    return _kinetics_plan(
        ask, "kinetics400", shares, lambda row: f"{_folder(ask, row)}{row.youtube_id}.mp4", lambda rows: {}
    )


def kinetics_listfile(ask: Request) -> Plan:
    """Class folders and lists of `path label`, where the label is the class's position."""
    ids = class_list("kinetics400").ids

    def lists(rows: Sequence[_Row]) -> dict[str, str]:
        lines: dict[str, list[str]] = {}
        for row in rows:
            lines.setdefault(row.split, []).append(f"{_folder(ask, row)}{row.file} {ids[row.label]}\n")
        return {f"kinetics400_{split}_list_videos.txt": "".join(found) for split, found in lines.items()}

    shares = {"train": 0.9, "val": 0.1}
    return _kinetics_plan(ask, "kinetics400", shares, lambda row: _folder(ask, row) + row.file, lists)


def minikinetics(ask: Request) -> Plan:
    """Lists of ids without labels, beside the CSVs of a Kinetics-400 that has more rows than they name."""

    def texts(rows: Sequence[_Row]) -> dict[str, str]:
        rng, known = ask.rng(TEXTS), {row.youtube_id for row in rows}
        names = class_list("kinetics400").names
        others = [
            _Row(
                youtube_id=youtube_id,
                start=20,
                end=30,
                split=("train", "val", "test")[i % 3],
                label=names[int(rng.integers(0, len(names)))],
                is_cc=0,
            )
            for i, youtube_id in enumerate(youtube_ids(len(rows) // 4 + 3, rng))
            if youtube_id not in known
        ]
        lists: dict[str, list[str]] = {}
        for row in rows:
            lists.setdefault(f"{row.split}_ytid_list.txt", []).append(f"{row.youtube_id}\n")
        return {**{name: "".join(ids) for name, ids in lists.items()}, **_kinetics_csvs([*rows, *others])}

    shares = {"train": 400 / 425, "val": 25 / 425}
    return _kinetics_plan(ask, "minikinetics200", shares, lambda row: _folder(ask, row) + row.file, texts)

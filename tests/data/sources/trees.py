"""Small folders of annotations and empty files: sources only parse, so nothing needs to be a real video."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidkit.data.sources import READERS, Roots, SourceResult
from vidkit.settings.encode import SourceOptions, SourceSpec

CSV_HEAD = "label,youtube_id,time_start,time_end,split,is_cc"

SPECS = {
    "kinetics": SourceSpec(name="kinetics", kind="kinetics", classes="kinetics400"),
    "minikinetics": SourceSpec(name="minikinetics", kind="minikinetics", classes="minikinetics200"),
    "ssv2": SourceSpec(name="ssv2", kind="ssv2", classes="ssv2"),
    "tinyvirat": SourceSpec(name="tinyvirat", kind="tinyvirat", classes="tinyvirat26", multi_label=True),
    "ucf101": SourceSpec(name="ucf101", kind="ucf101", classes="ucf101", splits={"train": "train", "test": "test"}),
    "hmdb51": SourceSpec(name="hmdb51", kind="hmdb51", classes="hmdb51", splits={"train": "train", "test": "test"}),
    "listfile": SourceSpec(name="lists", kind="listfile", classes="kinetics400"),
    "folders": SourceSpec(name="mine", kind="folders"),
}


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(root: Path, name: str, text: str | bytes | Iterable[str] | dict[str, Any] | list[Any]) -> Path:
    """Text as it is, lines from an iterable of text, JSON from a dict or list."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, bytes):
        path.write_bytes(text)
    elif isinstance(text, str):
        path.write_text(text, encoding="utf-8")
    elif isinstance(text, (dict, list)):
        path.write_text(json.dumps(text), encoding="utf-8")
    else:
        path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return path


def csv_lines(*rows: str) -> tuple[str, ...]:
    return (CSV_HEAD, *rows)


def read(
    kind: str,
    folder: Path,
    *,
    annotations: tuple[Path, ...] = (),
    kinetics: Path | None = None,
    spec: SourceSpec | None = None,
    **options: Any,
) -> SourceResult:
    roots = Roots(folder=folder, annotations=annotations, kinetics=kinetics)
    return READERS[kind](spec or SPECS[kind], roots, SourceOptions(**options))


def rows(result: SourceResult) -> dict[str, dict[str, Any]]:
    """Native id -> row."""
    return {row["clip_id"].partition("/")[2]: row for row in result.table.to_pylist()}


def row(result: SourceResult, native_id: str) -> dict[str, Any]:
    found = rows(result)
    assert native_id in found, f"no {native_id!r} among {list(found)}"
    return found[native_id]


def raw_name(root: Path, name: bytes) -> None:
    """A file whose name is not UTF-8."""
    os.makedirs(root, exist_ok=True)
    with open(os.path.join(os.fsencode(root), name), "wb"):  # noqa: PTH123
        pass

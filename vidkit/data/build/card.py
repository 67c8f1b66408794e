"""The dataset card: README.md of a built dataset, made from dataset.json and shards.json alone.

No time stamp and no path of the machine, so that the same build gives the same card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vidkit.errors import CLIP_ERRORS

_TALLY = ("planned", "ok", "failed", "missing")

#: Lists in the card stop here; dataset.json and the ledger have all of it.
_SHOWN = 20

_RULES = {
    "single": "each clip has one label, which is its class",
    "label-set": "each distinct set of labels of a multi-label source is a class of its own, named by its labels, "
    "sorted and joined by `+`",
    "multi-hot": "a clip has any number of labels and no class id; `multi_hot` holds the ids",
}

_READ = """\
## How to read it

Run these in the folder that holds this file. Any WebDataset reader takes the shards as they are:

```python
import json
import webdataset as wds

shards = [shard["shard"] for shard in json.load(open("shards.json")) if shard["split"] == "{split}"]
for sample in wds.WebDataset(shards, shardshuffle=False):
    clip, meta = sample["mp4"], json.loads(sample["json"])
```

Or by index, in any order, through the ledger:

```python
import pyarrow.parquet as pq

rows = pq.read_table("clips.parquet", filters=[("status", "=", "ok"), ("split", "=", "{split}")]).to_pylist()
row = rows[0]
with open(row["shard"], "rb") as tar:
    tar.seek(row["offset"])
    clip = tar.read(row["nbytes"])
```

Either way `clip` holds the bytes of an MP4 file. With vidkit, exact frames come from it by
`vidkit.data.media.frames.decode_frames(clip, [0, 8, 16])`: an array (T, H, W, 3) of uint8 RGB.

| file | what it holds |
| --- | --- |
| `dataset.json` | label map, counts, settings, versions |
| `clips.parquet` | the ledger: one row for each planned clip, whatever became of it |
| `shards.json` | samples, bytes and sha256 of each shard |
| `train/000000.tar` ... | the samples: `KEY.mp4` and `KEY.json` |

`vidkit verify DIR` checks all of it; `vidkit inspect DIR` shows it.
"""


def render(facts: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown.

    Args:
        facts: dataset.json of a finished build.
        shards: shards.json.
    """
    parts = [
        _head(facts),
        _counts(facts),
        _reconciliation(facts["reconciliation"]),
        _labels(facts),
        _clips(facts),
        _failures(facts),
        _leaks(facts["leaks"]),
        _READ.format(split=shards[0]["split"] if shards else "train"),
        _built(facts),
    ]
    return "\n".join(part for part in parts if part)


def bytes_words(count: float) -> str:
    """A number of bytes in decimal units.

    >>> bytes_words(1536000)
    '1.54 MB'
    """
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def _head(facts: Mapping[str, Any]) -> str:
    counts = facts["counts"]
    lines = [f"# {_plain(facts['title'] or facts['name'])}", ""]
    if facts["synthetic"]:
        lines += [
            "> **SYNTHETIC.** These clips are generated, not filmed. They show that the tools work;",
            "> results on them say nothing about real video.",
            "",
        ]
    if facts["description"]:
        lines += [_plain(facts["description"]), ""]
    sources = ", ".join(facts["sources"])
    lines += [
        f"`{facts['name']}`: {counts['ok']:,} clips of {len(_names(facts)):,} classes in {counts['shards']:,} "
        f"shards ({bytes_words(counts['bytes'])}, {counts['frames']:,} frames), from {sources}.",
        "",
    ]
    if not facts["flip"]:
        lines += ["**Do not flip these clips left-right: the labels of some classes depend on the direction.**", ""]
    if facts["notes"]:
        lines += [*(f"- {_plain(note)}" for note in facts["notes"]), ""]
    return "\n".join(lines)


def _names(facts: Mapping[str, Any]) -> Sequence[str]:
    label_map = facts["label_map"]
    names: Sequence[str] = label_map["base_labels" if label_map["rule"] == "multi-hot" else "classes"]
    return names


def _counts(facts: Mapping[str, Any]) -> str:
    rows = [(name, *_tally(of)) for name, of in facts["splits"].items()]
    lines = ["## Clips", "", "Every planned clip is counted: planned = ok + failed + missing.", ""]
    lines.append(_table(("split", *_TALLY), [*rows, ("all", *_tally(facts["counts"]))]))
    rows = [(name, of["version"] or "", *_tally(of)) for name, of in facts["sources"].items()]
    lines += [_table(("source", "version", *_TALLY), rows), "What the sources gave:", ""]
    for name, of in facts["sources"].items():
        matching = of["matching"]
        found = [f"{count:,} {words}" for words, count in matching["counts"].items()]
        told = "; ".join(part for part in (matching["layout"], ", ".join(found)) if part)
        lines += [f"- {name}: {_plain(told)}", *(f"  - {_plain(note)}" for note in matching["notes"])]
    return "\n".join([*lines, ""])


def _tally(of: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{of[name]:,}" for name in _TALLY)


def _reconciliation(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    cells = [
        (
            row["what"],
            f"{row['expected']:,}",
            f"{row['planned']:,}",
            f"{row['found']:,}",
            "equal" if row["found"] == row["expected"] else f"{row['found'] - row['expected']:+,}",
            row["where"],
        )
        for row in rows
    ]
    head = ("count of", "expected", "on disk", "stored", "difference", "where the number comes from")
    return f"## Found beside expected\n\n{_table(head, cells, right=range(1, 5))}"


def _labels(facts: Mapping[str, Any]) -> str:
    label_map = facts["label_map"]
    lines = [
        "## Labels",
        "",
        f"Rule `{label_map['rule']}`: {_RULES[label_map['rule']]}. {len(label_map['classes']):,} classes, "
        f"{len(label_map['base_labels']):,} base labels (multi-hot ids run over these).",
        "",
        f"Label map sha256 `{label_map['sha256']}`; the names are in `dataset.json` under `label_map`.",
        "",
    ]
    folded = facts["folded"]
    if folded:
        nowhere = "none: `label-set-not-kept`"
        rows = [(f["label_set"], f"{f['clips']:,}", f["into"] or nowhere) for f in folded[:_SHOWN]]
        lines += [f"Label sets that are no classes of their own: {len(folded):,}", ""]
        lines += [_table(("label set", "clips", "goes to"), rows, right=[1]) + _more(folded)]
    absent = facts["absent"]
    if absent["classes"]:
        names = ", ".join(_plain(name) for name in absent["classes"][:_SHOWN])
        dots = ", ..." if len(absent["classes"]) > _SHOWN else ""
        lines += [f"Classes without a clip: {len(absent['classes']):,} ({names}{dots})", ""]
    if absent["notes"]:
        lines += [*(f"- {_plain(note)}" for note in absent["notes"]), ""]
    return "\n".join(lines)


def _clips(facts: Mapping[str, Any]) -> str:
    encode = {name[7:]: value for name, value in facts["settings"].items() if name.startswith("encode.")}
    size, limit, fps = encode.get("size"), encode.get("max_frames"), encode.get("fps")
    shape = f"centre square scaled to {size}x{size}" if encode.get("fit") == "crop" else f"short side {size} pixels"
    frames = f"at most {limit} frames, uniformly over the whole clip" if limit else "every frame"
    rate = f"resampled to {fps:g} frames a second" if fps else "the source's own timing"
    tune = f", tuned for {encode['tune']}" if encode.get("tune") else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["encoder"].items())
    return (
        "## Stored clips\n\n"
        f"H.264 in MP4, 8-bit 4:2:0, no audio: {shape}; {frames}; {rate}. CRF {encode.get('crf')}, preset "
        f"{encode.get('preset')}, a keyframe every {encode.get('gop')} frames at most{tune}.\n\n"
        f"Encoder: {versions}. The same inputs, settings and versions give the same bytes.\n"
    )


def _failures(facts: Mapping[str, Any]) -> str:
    lines = ["## Clips that could not be used", ""]
    if facts["errors"]:
        rows = [(f"`{code}`", f"{count:,}", CLIP_ERRORS.get(code, "")) for code, count in facts["errors"].items()]
        lines.append(_table(("code", "clips", "meaning"), rows, right=[1]))
        lines += ["Their rows are in the ledger, with the decoder's last words. None was replaced by another clip."]
    else:
        lines += ["None."]
    if facts["counts"]["with_warnings"]:
        count = facts["counts"]["with_warnings"]
        lines += ["", f"Stored clips with warnings (damage in the source that the decoder concealed): {count:,}"]
    return "\n".join([*lines, ""])


def _leaks(leaks: Sequence[Mapping[str, Any]]) -> str:
    if not leaks:
        return "## Split leaks\n\nNo group (original video) and no file is in two splits.\n"
    rows = [
        (leak["kind"], leak["source"], leak["value"][:40], ", ".join(leak["splits"]), f"{len(leak['clip_ids']):,}")
        for leak in leaks[:_SHOWN]
    ]
    text = f"Originals (`group`) and files (`file`, by sha256) in more than one split: {len(leaks):,}"
    head = ("kind", "source", "value", "splits", "clips")
    return f"## Split leaks\n\n{text}\n\n{_table(head, rows, right=[4])}{_more(leaks)}"


def _built(facts: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", "" if value is None else str(value)) for name, value in facts["settings"].items()]
    lines = ["## How it was built", ""]
    lines += [f"vidkit {facts['vidkit']}, format {facts['format']}, plan sha256 `{facts['plan_sha256']}`.", ""]
    lines.append(_table(("setting", "value"), rows))
    files = [
        (name, file, f"`{sha256}`")
        for name, source in facts["sources"].items()
        for file, sha256 in source["annotations"].items()
    ]
    if files:
        lines.append(_table(("source", "annotation file", "sha256"), files))
    return "\n".join(lines)


def _more(items: Sequence[Any]) -> str:
    return f"\n... and {len(items) - _SHOWN:,} more, in `dataset.json`.\n" if len(items) > _SHOWN else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A Markdown table; counts, and the columns in `right`, are aligned right."""
    numeric = {*right, *(i for i, name in enumerate(head) if name in _TALLY)}
    lines = [head, ["---:" if i in numeric else "---" for i in range(len(head))], *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """One line; what a file name holds must not become markup."""
    return " ".join(text.split()).replace("<", "&lt;")

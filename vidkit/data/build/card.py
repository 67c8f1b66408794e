"""The dataset card: README.md of a built dataset, made from dataset.json and shards.json alone.

No time stamp and no path of the machine, so that the same build gives the same card. Its words are in
templates/card.md, its head (YAML) comes from `front_matter`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from vidkit.data.build.front_matter import front_matter
from vidkit.errors import CLIP_ERRORS

if TYPE_CHECKING:
    from jinja2 import Environment

_TALLY = ("planned", "ok", "failed", "missing")

#: Lists in the card stop here; dataset.json and the ledger have all of it.
_SHOWN = 20

_RULES = {
    "single": "each clip has one label, which is its class",
    "label-set": "each distinct set of labels of a multi-label source is a class of its own, named by its labels, "
    "sorted and joined by `+`",
    "multi-hot": "a clip has any number of labels and no class id; `multi_hot` holds the ids",
}

#: What could begin or end emphasis, code, a link or an entity; `_` does so only at the edge of a word.
_MARKS = re.compile(r"[\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
#: What would begin a list, a heading, a quotation or a rule, at the beginning of a line.
_BEGINNING = re.compile(r"^(\d*)([-+#>=]|(?<=\d)[.)])")


def render(facts: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown, with YAML front matter.

    Args:
        facts: dataset.json of a finished build.
        shards: shards.json.
    """
    encode = _encode(facts)
    body = (
        _environment()
        .get_template("card.md")
        .render(
            facts=facts,
            tally=list(_TALLY),
            shown=_SHOWN,
            names=facts["label_map"]["base_labels" if facts["label_map"]["rule"] == "multi-hot" else "classes"],
            rule=Markup(_RULES[facts["label_map"]["rule"]]),
            rows=_rows(facts),
            encode=encode,
            clips=_clips(encode),
            versions=[f"{name} {version}" for name, version in facts["encoder"].items()],
            split=shards[0]["split"] if shards else "train",
        )
    )
    body = re.sub(r"\n{3,}", "\n\n", body).strip("\n")  # where a part of the template had nothing to say
    return f"---\n{front_matter(facts, shards)}---\n\n{body}\n"


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # with `finalize`, escaping is what happens to every value that is not marked as Markdown already
    env = Environment(
        loader=PackageLoader("vidkit.data.build"),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "bytes": bytes_words,
        "cell": cell,
        "code": code,
        "found": _found,
        "listed": listed,
        "number": "{:,}".format,
        "prose": prose,
    }
    return env


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


def escape(value: object) -> Markup:
    """One line of plain text: what a file or a class is called must not become markup."""
    return value if isinstance(value, Markup) else Markup(_BEGINNING.sub(r"\1\\\2", _escape(value), count=1))


def _escape(value: object) -> str:
    """As `escape`, within a line."""
    text = _MARKS.sub(r"\\\g<0>", _ENTITY.sub("&amp;", " ".join(str(value).split())))
    return text.replace("<", "&lt;")


def prose(text: str) -> Markup:
    """One line of Markdown that a spec's author wrote; without HTML, which could be anything."""
    return Markup(" ".join(text.split()).replace("<", "&lt;"))


def code(text: str) -> Markup:
    """A code span: set between more backticks than the text has in a row, as nothing can be escaped in it."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    room = " " if "`" in text else ""
    return Markup(f"{fence}{room}{text}{room}{fence}")


def cell(value: object) -> Markup:
    """A value in a table, whose columns `|` ends, even within code."""
    return Markup((value if isinstance(value, Markup) else _escape(value)).replace("|", r"\|"))


def listed(values: Iterable[object]) -> Markup:
    """Values on one line, with commas between them."""
    return Markup(", ").join(map(escape, values))


def _found(matching: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count:,} {words}" for words, count in matching["counts"].items())
    return "; ".join(part for part in (matching["layout"], counts) if part)


def _tally(of: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{of[name]:,}" for name in _TALLY)


def _rows(facts: Mapping[str, Any]) -> dict[str, list[tuple[object, ...]]]:
    """The rows of the card's tables, by what they are about."""
    sources = facts["sources"]
    nowhere = Markup("none: `label-set-not-kept`")
    return {
        "splits": [
            *((name, *_tally(of)) for name, of in facts["splits"].items()),
            ("all", *_tally(facts["counts"])),
        ],
        "sources": [(name, of["version"] or "", *_tally(of)) for name, of in sources.items()],
        "reconciliation": [
            (
                row["what"],
                f"{row['expected']:,}",
                f"{row['planned']:,}",
                f"{row['found']:,}",
                "equal" if row["found"] == row["expected"] else f"{row['found'] - row['expected']:+,}",
                row["where"],
            )
            for row in facts["reconciliation"]
        ],
        "folded": [(f["label_set"], f"{f['clips']:,}", f["into"] or nowhere) for f in facts["folded"][:_SHOWN]],
        "errors": [(code(name), f"{n:,}", CLIP_ERRORS.get(name, "")) for name, n in facts["errors"].items()],
        "leaks": [
            (
                leak["kind"],
                leak["source"],
                leak["value"][:40],
                ", ".join(leak["splits"]),
                f"{len(leak['clip_ids']):,}",
            )
            for leak in facts["leaks"][:_SHOWN]
        ],
        "settings": [(code(name), "" if value is None else value) for name, value in facts["settings"].items()],
        "annotations": [
            (name, file, code(sha256)) for name, of in sources.items() for file, sha256 in of["annotations"].items()
        ],
    }


def _encode(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name[7:]: value for name, value in facts["settings"].items() if name.startswith("encode.")}


def _clips(encode: Mapping[str, Any]) -> dict[str, str]:
    size, limit, fps = encode["size"], encode["max_frames"], encode["fps"]
    return {
        "shape": f"centre square scaled to {size}x{size}"
        if encode["fit"] == "crop"
        else f"short side {size} pixels",
        "frames": f"at most {limit} frames, uniformly over the whole clip" if limit else "every frame",
        "rate": f"resampled to {fps:g} frames a second" if fps else "the source's own timing",
    }

"""The clip table and the ledger: the two Arrow tables that everything in `vidkit.data` passes on.

The clip table says what is planned; the ledger says what became of it, one row for each planned clip.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import pyarrow as pa

from vidkit.data.paths import path_to_text

#: One row a clip. Written by sources, merged by `composite`, carried out by `build`.
CLIP_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),  # "<source>/<native id>", unique in the table
        pa.field("source", pa.string(), nullable=False),  # name of the source in the spec
        pa.field("path", pa.string()),  # relative to the source's root, see `paths.path_to_text`; null: not found
        pa.field("split", pa.string(), nullable=False),  # "train", "val" or "test"
        pa.field("labels", pa.list_(pa.string()), nullable=False),  # names; empty where labels are withheld
        pa.field("group", pa.string()),  # what must not cross splits: YouTube id, VIRAT video
        pa.field("start_s", pa.float64()),  # cut an untrimmed original here; null: already trimmed
        pa.field("end_s", pa.float64()),
        pa.field("error", pa.string()),  # a key of CLIP_ERRORS where the plan alone rules the clip out
        pa.field("message", pa.string()),
    ]
)

#: A column that a clip table and a plan have only where some clip needs it: the files to try one after another,
#: the first of them `path`. `whole` marks a file that must be a whole video, to be cut: were it trimmed already,
#: nothing would tell which of several annotated segments it holds. Where it is null there is `path` alone.
TRIES_FIELD = pa.field(
    "tries",
    pa.list_(
        pa.struct(
            [
                pa.field("path", pa.string(), nullable=False),
                pa.field("start_s", pa.float64()),
                pa.field("end_s", pa.float64()),
                pa.field("whole", pa.bool_(), nullable=False),
            ]
        )
    ),
)

#: One row for each planned clip, whatever became of it.
LEDGER_SCHEMA = pa.schema(
    [
        *CLIP_SCHEMA,
        pa.field("class_id", pa.int32()),  # under the spec's label rule; null where it gives none
        pa.field("class_name", pa.string()),
        pa.field("multi_hot", pa.list_(pa.int32()), nullable=False),  # ids over the base labels, ascending
        pa.field("status", pa.string(), nullable=False),  # "ok", "failed" or "missing"
        pa.field("warnings", pa.list_(pa.string()), nullable=False),
        pa.field("shard", pa.string()),  # "train/000000.tar"; the slot is planned for every clip
        pa.field("key", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),  # of the mp4 payload within its tar
        pa.field("nbytes", pa.int64()),
        pa.field("frames", pa.int32()),  # of the stored clip
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source_sha256", pa.string()),
        pa.field("source_bytes", pa.int64()),
        pa.field("source_frames", pa.int32()),  # frames the source shows between start_s and end_s
        pa.field("source_width", pa.int32()),  # as shown, after rotation
        pa.field("source_height", pa.int32()),
    ]
)

#: Columns that key.json repeats beside each clip: the labels under every reading, and what a loader must know.
SAMPLE = (
    *("clip_id", "source", "split", "labels", "class_id", "class_name", "multi_hot", "group"),
    *("frames", "fps", "duration_s", "width", "height"),
)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Try:
    """A file that a clip may be made from; see `TRIES_FIELD`."""

    path: str
    start_s: float | None = None
    end_s: float | None = None
    whole: bool = False


@dataclass(slots=True)
class ClipRows:
    """Columns of a clip table under construction. Appending to lists keeps 500,000 rows cheap."""

    source: str
    clip_id: list[str] = field(default_factory=list)
    path: list[str | None] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    group: list[str | None] = field(default_factory=list)
    start_s: list[float | None] = field(default_factory=list)
    end_s: list[float | None] = field(default_factory=list)
    error: list[str | None] = field(default_factory=list)
    message: list[str | None] = field(default_factory=list)
    tries: dict[int, list[Try]] = field(default_factory=dict)
    """Row -> files to try, for the few rows that have several."""

    def add(
        self,
        native_id: str,
        path: str | None,
        split: str,
        labels: list[str],
        group: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        error: str | None = None,
        message: str | None = None,
    ) -> None:
        """Append one clip. `path` is a real path (surrogate escapes allowed), relative to the root."""
        self.clip_id.append(f"{self.source}/{native_id}")
        self.path.append(None if path is None else path_to_text(path))
        self.split.append(split)
        self.labels.append(labels)
        self.group.append(group)
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.error.append(error)
        self.message.append(message)

    def __len__(self) -> int:
        return len(self.clip_id)

    def table(self) -> pa.Table:
        """The clip table (`CLIP_SCHEMA`), rows in the order in which they were added."""
        columns = {name: getattr(self, name) for name in CLIP_SCHEMA.names if name != "source"}
        columns["source"] = pa.repeat(self.source, len(self))
        table = pa.table([columns[name] for name in CLIP_SCHEMA.names], schema=CLIP_SCHEMA)
        if not self.tries:
            return table
        tries = [self._tries(i) if i in self.tries else None for i in range(len(self))]
        return table.append_column(TRIES_FIELD, pa.array(tries, TRIES_FIELD.type))

    def _tries(self, row: int) -> list[dict[str, object]]:
        return [{**asdict(one), "path": path_to_text(one.path)} for one in self.tries[row]]


@dataclass(slots=True)
class Matching:
    """What a source found when it joined annotations with files; printed and stored with the dataset.

    `examples` holds a few names under each heading, so that a user sees what is meant.
    """

    source: str
    layout: str = ""
    annotation_files: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    """Those of `notes` that `--strict` makes an error."""
    unread: list[str] = field(default_factory=list)
    """Annotation files beside the folder that this source could not use; another one may."""

    #: a few examples say what is meant; the ledger has them all
    KEEP = 5

    def count(self, heading: str, example: str | None = None, by: int = 1) -> None:
        """Add to a heading's count; the first `KEEP` examples of a heading are kept."""
        self.counts[heading] = self.counts.get(heading, 0) + by
        if example is not None and len(kept := self.examples.setdefault(heading, [])) < self.KEEP:
            kept.append(example)

    def uncount(self, heading: str, example: str) -> None:
        """Take back one that was counted."""
        self.counts[heading] -= 1
        if not self.counts[heading]:
            del self.counts[heading]
        if example in (kept := self.examples.get(heading, [])):
            kept.remove(example)

    def doubt(self, text: str) -> None:
        """A note of something that was decided, and could have been meant otherwise."""
        self.notes.append(text)
        self.doubts.append(text)

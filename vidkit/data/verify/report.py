"""What a verification found: problems with their kind and place, and how much was checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

#: Kinds of problems. Part of `vidkit verify --json`: add, never rename.
KINDS: dict[str, str] = {
    "unreadable-file": "a file of the dataset cannot be read as what it should be",
    "unfinished": "the build has not finished",
    "missing-shard": "a shard that is recorded is not on disk",
    "extra-shard": "a tar on disk is not in shards.json",
    "shards-json": "shards.json says something that cannot be, or that the ledger does not say",
    "checksum": "a shard's bytes are not the ones that were written",
    "shard-size": "a shard has another length than recorded",
    "damaged-tar": "a tar ends early, or holds something that is no member",
    "webdataset": "plain webdataset cannot read a shard to its end",
    "duplicate-key": "a sample's key, or a clip's id, is there more than once",
    "sample-without-row": "a shard holds a sample that the ledger does not have there",
    "row-without-sample": "the ledger says that a clip is stored, and its sample is not there",
    "incomplete-sample": "a sample lacks its mp4 or its json",
    "place": "a clip's offset or length in the ledger is not where it lies",
    "sample-json": "a sample's json is damaged, or differs from the ledger",
    "undecodable": "a stored clip cannot be decoded",
    "frames": "a stored clip has another number of frames or another duration than recorded",
    "size": "a stored clip has another width or height than recorded",
    "ledger": "a row of the ledger contradicts itself",
    "label": "a label, class or multi-hot id does not fit the label map",
    "label-map": "the label map is damaged, or has another sha256 than recorded",
    "counts": "a count in dataset.json is not what the ledger or the shards give",
}

#: Problems of one kind that are listed; more are counted.
_LISTED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong. `where` names a file, a shard and key, or a ledger row."""

    kind: str
    where: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` did and found. `unlisted` counts, by kind, problems beyond those in `problems`."""

    checks: dict[str, int]
    problems: tuple[Problem, ...]
    unlisted: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        problems = [{"kind": p.kind, "where": p.where, "message": p.message} for p in self.problems]
        return {"ok": self.ok, "checks": self.checks, "problems": problems, "unlisted": self.unlisted}


class Report:
    """Collects problems and counts while a verification runs."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.checks: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()

    def add(self, kind: str, where: str, message: str) -> None:
        """Note a problem; of each kind (a key of `KINDS`) so many are listed, and the others counted."""
        assert kind in KINDS, kind
        self._kinds[kind] += 1
        if self._kinds[kind] <= _LISTED:
            self.problems.append(Problem(kind=kind, where=where, message=message))

    def result(self) -> Verification:
        """What was checked and found until now."""
        unlisted = {kind: count - _LISTED for kind, count in self._kinds.items() if count > _LISTED}
        return Verification(checks=dict(self.checks), problems=tuple(self.problems), unlisted=unlisted)

"""Label rules: how the label names of a clip become a class id and multi-hot ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidkit.data.manifests import source_classes
from vidkit.errors import ConfigError
from vidkit.settings.encode import DatasetSpec, Rule

#: a label set by the names of its base labels, sorted
LabelSet = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMap:
    """Class ids and multi-hot ids: positions in `classes` and in `base_labels`."""

    rule: Rule
    classes: tuple[str, ...]
    """Empty under "multi-hot", which has no class ids."""
    base_labels: tuple[str, ...]
    sha256: str
    """Over the compact JSON list (UTF-8) of `names`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a model predicts: the classes, or the base labels under "multi-hot"."""
        return self.base_labels if self.rule == "multi-hot" else self.classes

    def __repr__(self) -> str:
        return (
            f"LabelMap({self.rule!r}, {len(self.classes)} classes, {len(self.base_labels)} base labels, "
            f"sha256 {self.sha256[:12]})"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """A label set that is no class of its own."""

    label_set: str
    into: str | None
    """The class that its clips go to; None: they fail with `label-set-not-kept`."""
    clips: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a rule makes of one clip's labels."""

    class_id: int | None = None
    class_name: str | None = None
    multi_hot: tuple[int, ...] = ()
    error: str | None = None
    message: str | None = None


def make_label_map(rule: Rule, classes: Sequence[str], base_labels: Sequence[str]) -> LabelMap:
    """A label map with its digest."""
    names = base_labels if rule == "multi-hot" else classes
    text = json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return LabelMap(rule=rule, classes=tuple(classes), base_labels=tuple(base_labels), sha256=digest)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseLabels:
    """Base labels of a dataset: the class lists of its sources, one after another."""

    names: tuple[str, ...]
    of_source: Mapping[str, Mapping[str, str]]
    """Source -> its own label name -> the base label."""
    ids: Mapping[str, int]


def base_labels(spec: DatasetSpec, classes: Mapping[str, Sequence[str]]) -> BaseLabels:
    """Number the labels of all sources, in the order of the spec and of each class list.

    Sources with lists of one origin share labels. A name that another list has already is a label of its own, and
    gets the source's name in front ("tinyvirat:Riding").
    """
    names: dict[str, str] = {}  # base label -> origin
    of_source: dict[str, dict[str, str]] = {}
    for source in spec.sources:
        listed = source_classes(source)
        origin = listed.origin if listed is not None else f"folders of {source.name}"
        mine = of_source[source.name] = {}
        for name in classes.get(source.name, ()):
            base = name if names.get(name, origin) == origin else f"{source.name}:{name}"
            names.setdefault(base, origin)
            mine[name] = base
    return BaseLabels(names=tuple(names), of_source=of_source, ids={name: i for i, name in enumerate(names)})


class LabelRule:
    """A spec's label rule over the label sets that a dataset has.

    Args:
        spec: rule, number of classes, which sources are multi-label.
        base: base labels.
        counts: planned clips of each label set of the multi-label sources, over all splits.

    Raises:
        ConfigError: the single-label classes alone are more than `max_classes`.
    """

    def __init__(self, spec: DatasetSpec, base: BaseLabels, counts: Mapping[LabelSet, int]) -> None:
        self.spec = spec
        self.base = base
        self.rule: Rule = spec.labels.rule
        self.multi_label = {source.name for source in spec.sources if source.multi_label}
        self.ranked: list[LabelSet] = []
        self.kept: list[LabelSet] = []
        self.single: list[str] = []
        if self.rule == "single":
            classes = list(base.names)
        elif self.rule == "multi-hot":
            classes = []
        else:
            single = [set(mine.values()) for name, mine in base.of_source.items() if name not in self.multi_label]
            self.single = sorted(set().union(*single))
            self.ranked = sorted(counts, key=lambda labels: (-counts[labels], set_name(labels)))
            self.kept = self.ranked[: self._room()]
            classes = self.single + [set_name(labels) for labels in self.kept]
        twice = {name for name in classes if classes.count(name) > 1} if len(set(classes)) < len(classes) else set()
        if twice:
            raise ConfigError(
                f"two classes have the name {min(twice)!r}", hint="rename a label; `+` joins label sets"
            )
        self.label_map = make_label_map(self.rule, classes, base.names)
        self.class_ids = {name: i for i, name in enumerate(classes)}
        self._kept_names = {frozenset(labels): set_name(labels) for labels in self.kept}

    def _room(self) -> int | None:
        most = self.spec.labels.max_classes
        if most is None:
            return None
        if len(self.single) > most:
            raise ConfigError(
                f"{len(self.single)} classes of single-label sources are more than max_classes = {most}",
                hint="raise labels.max_classes in the spec",
            )
        return most - len(self.single)

    def fold(self, labels: LabelSet) -> str | None:
        """The class of a label set: itself if kept, else the largest kept subset, ties by rank; None if none is."""
        wanted = frozenset(labels)
        if wanted in self._kept_names:
            return self._kept_names[wanted]
        best: tuple[int, str] | None = None
        for kept, name in self._kept_names.items():  # in rank order, so the first of a size wins
            if kept <= wanted and (best is None or len(kept) > best[0]):
                best = (len(kept), name)
        return best[1] if best is not None else None

    def decide(self, source: str, labels: Sequence[str]) -> Decision:
        """What becomes of a clip of `source` with these labels; their order means nothing."""
        mine = self.base.of_source[source]
        unknown = [label for label in labels if label not in mine]
        if unknown:
            return Decision(error="unknown-label", message=f"{unknown[0]!r} is no class of source {source!r}")
        named = tuple(sorted({mine[label] for label in labels}))
        hot = tuple(sorted(self.base.ids[name] for name in named))
        if not named or self.rule == "multi-hot":
            return Decision(multi_hot=hot)
        if self.rule == "label-set" and source in self.multi_label:
            name = self.fold(named)
            if name is None:
                text = (
                    f"{set_name(named)!r} and all of its subsets rank below the {len(self.class_ids)} classes kept"
                )
                return Decision(multi_hot=hot, error="label-set-not-kept", message=text)
        elif len(named) > 1:
            text = f"{len(named)} labels ({', '.join(named)}) where the label rule takes one"
            return Decision(error="bad-annotation", message=text)
        else:
            name = named[0]
        return Decision(class_id=self.class_ids[name], class_name=name, multi_hot=hot)

    def folded(self, counts: Mapping[LabelSet, int]) -> tuple[Folded, ...]:
        """Label sets that are no class of their own, by rank."""
        return tuple(
            Folded(label_set=set_name(labels), into=self.fold(labels), clips=counts[labels])
            for labels in self.ranked[len(self.kept) :]
        )


def set_name(labels: LabelSet) -> str:
    """Name of a label set: its labels, sorted, joined by `+`."""
    return "+".join(sorted(labels))

"""Settings as frozen dataclasses. Values are checked here once, and every fault is reported together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vidkit.errors import ConfigError

Fit = Literal["crop", "short-side"]
Rule = Literal["single", "label-set", "multi-hot"]
SPLIT_NAMES = ("train", "val", "test")
SOURCE_KINDS = ("kinetics", "minikinetics", "ssv2", "tinyvirat", "ucf101", "hmdb51", "listfile", "folders")


class Faults:
    """Collects what is wrong with a config, so that one run shows all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, ok: bool, name: str, value: object, expected: str) -> None:
        """Note that a setting's value is not what was expected, unless it is `ok`."""
        if not ok:
            self.found.append(f"{name} is {value!r}; expected {expected}")

    def raise_if_any(self, what: str) -> None:
        """Raise one error that names all faults.

        Raises:
            ConfigError: there are some.
        """
        if self.found:
            raise ConfigError(f"bad {what}: " + "; ".join(self.found))


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSettings:
    """How a stored clip looks. Part of what fixes the bytes of a build."""

    size: int = 64
    """Pixels: the side of the square for fit "crop", the short side for "short-side"."""
    fit: Fit = "crop"
    """"crop": centre square scaled to size x size. "short-side": aspect kept, both sides even."""
    max_frames: int | None = 100
    """At most so many frames, uniformly over the whole clip; None keeps every frame."""
    fps: float | None = None
    """Resample to this rate before `max_frames` applies; None keeps the clip's own timing."""
    min_frames: int = 1
    """A clip that gives fewer frames has failed (`too-short`)."""
    crf: int = 23
    """x264's constant rate factor, 0 (lossless) to 51."""
    preset: str = "medium"
    """x264's speed preset."""
    gop: int = 30
    """Largest distance between keyframes, in frames: the cost of a random seek."""
    tune: str | None = None
    """x264's tuning, e.g. "fastdecode"."""
    map: int | None = None
    """Which of a file's video streams, from 0, covers not counted (ffmpeg's V:n); None: what ffmpeg takes."""

    def __post_init__(self) -> None:
        presets = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
        tunes = (None, "film", "animation", "grain", "stillimage", "fastdecode", "zerolatency", "psnr", "ssim")
        faults = Faults()
        faults.check(self.fit in ("crop", "short-side"), "fit", self.fit, "'crop' or 'short-side'")
        faults.check(16 <= self.size <= 4096, "size", self.size, "16 to 4096 pixels")
        faults.check(self.size % 2 == 0, "size", self.size, "an even number (H.264 4:2:0 has no odd sizes)")
        faults.check(self.max_frames is None or self.max_frames >= 1, "frames", self.max_frames, "at least 1")
        faults.check(self.fps is None or 0 < self.fps <= 1000, "fps", self.fps, "above 0, at most 1000")
        faults.check(self.min_frames >= 1, "min_frames", self.min_frames, "at least 1")
        faults.check(0 <= self.crf <= 51, "crf", self.crf, "0 to 51")
        faults.check(self.preset in presets, "preset", self.preset, f"one of {', '.join(presets)}")
        faults.check(self.gop >= 1, "gop", self.gop, "at least 1")
        faults.check(self.tune in tunes, "tune", self.tune, f"one of {', '.join(t for t in tunes if t)}")
        faults.check(self.map is None or self.map >= 0, "map", self.map, "the number of a video stream, from 0")
        faults.raise_if_any("encode settings")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """One source of a dataset: which reader, which class list, which of its splits go where."""

    name: str
    """Name in clip ids and reports; also the flag that gives its folder (`--kinetics DIR`)."""
    kind: str
    """A reader in `vidkit.data.sources.READERS`."""
    classes: str | None = None
    """A published list (kinetics400, minikinetics200, ssv2, tinyvirat26, ucf101, hmdb51), or a text file
    beside the spec with one name a line. None: the names of the class folders, sorted (kind "folders" only)."""
    class_names: tuple[str, ...] = ()
    """The names themselves where `classes` is no published list, so that a spec is whole without its files."""
    multi_label: bool = False
    """Clips can have several labels: under "label-set" their sets become classes, not their labels."""
    splits: Mapping[str, str] = field(default_factory=lambda: {s: s for s in SPLIT_NAMES})
    """Their split -> ours. Splits that are not named are not planned, and the report counts them."""
    version: str | None = None
    """Which release, where the source has several on disk (TinyVIRAT "v1" or "v2"), or which of its official
    divisions (UCF101 and HMDB51, "1" to "3"); None: what is found."""
    required: bool = True
    """Whether the dataset can be built without this source."""
    sidecar: str | None = None
    """Ending of a JSON file beside each video, in the place of the video's own, such as ".moving.json". What it
    says goes into the sample's JSON."""

    def __post_init__(self) -> None:
        faults = Faults()
        sidecar = self.sidecar is None or re.fullmatch(r"(\.[A-Za-z0-9_-]+)*\.json", self.sidecar) is not None
        faults.check(sidecar, "sidecar", self.sidecar, "an ending such as '.moving.json'")
        # the name goes into clip ids ("<source>/<native id>") and is a command-line flag
        plain = re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name) is not None
        faults.check(plain, "name", self.name, "small letters, digits, - and _")
        faults.check(self.kind in SOURCE_KINDS, "kind", self.kind, f"one of {', '.join(SOURCE_KINDS)}")
        named = self.classes is not None or bool(self.class_names) or self.kind == "folders"
        faults.check(named, "classes", self.classes, "a class list (only kind 'folders' can do without)")
        faults.check(
            len(set(self.class_names)) == len(self.class_names), "class_names", "repeated", "each name once"
        )
        faults.check(bool(self.splits), "splits", "empty", "at least one split")
        for theirs, ours in self.splits.items():
            faults.check(ours in SPLIT_NAMES, f"splits.{theirs}", ours, f"one of {', '.join(SPLIT_NAMES)}")
        faults.raise_if_any(f"source {self.name!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSpec:
    """How a clip's label names become a class id."""

    rule: Rule = "single"
    """"single": one label a clip. "label-set": each distinct set is a class. "multi-hot": no class id."""
    max_classes: int | None = None
    """For "label-set": classes kept in all, base classes of single-label sources included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """A published count to stand beside what is found."""

    what: str
    """"classes", "clips", "clips/<source>", "clips/<split>" or "clips/<source>/<split>"."""
    value: int
    where: str
    """Where the number comes from."""
    version: str | None = None
    """Holds for this release of the source only (TinyVIRAT "v1" or "v2"); None: always."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """A dataset: sources, split rule, label rule, encode settings, expected counts."""

    name: str
    title: str
    description: str = ""
    sources: tuple[SourceSpec, ...]
    labels: LabelSpec = LabelSpec()
    encode: EncodeSettings = EncodeSettings()
    flip: bool = True
    """Whether a left-right flip keeps every label; loaders must not flip where it is false."""
    clips_per_shard: int = 1000
    expect: tuple[Expectation, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of the dataset card must know: inferences, conventions, licences."""
    synthetic: bool = False

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(bool(self.sources), "sources", "none", "at least one [[sources]] table")
        names = [source.name for source in self.sources]
        faults.check(len(set(names)) == len(names), "sources", names, "each name once")
        rules = ("single", "label-set", "multi-hot")
        faults.check(self.labels.rule in rules, "labels.rule", self.labels.rule, f"one of {', '.join(rules)}")
        faults.check(self.clips_per_shard >= 1, "clips_per_shard", self.clips_per_shard, "at least 1")
        for expectation in self.expect:
            head, *rest = expectation.what.split("/")
            known = head == "classes" and not rest
            if head == "clips":
                of = rest[1:] if rest and rest[0] in names else rest
                known = len(of) <= 1 and all(part in SPLIT_NAMES for part in of)
            forms = "classes, clips, clips/<source>, clips/<split> or clips/<source>/<split>"
            faults.check(known, "expect.what", expectation.what, f"{forms}, of the spec's own sources")
        faults.raise_if_any(f"spec {self.name!r}")

    @property
    def sidecars(self) -> dict[str, str]:
        """Source -> ending of the JSON file beside each of its videos."""
        return {source.name: source.sidecar for source in self.sources if source.sidecar is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """What the user chose about reading sources; part of what fixes the plan."""

    kinetics_classes: Literal["all", "minikinetics-200"] = "all"
    kinetics_fraction: float | None = None
    """Seeded, class-balanced part of the Kinetics clips, in (0, 1]."""
    present_only: bool = False
    """Plan only clips whose files are on disk."""
    follow_symlinks: bool = False
    """Accept links that lead out of the source folder."""
    seed: int = 0
    ids_from: Literal[0, 1] = 0
    """The first label id in list files."""

    def __post_init__(self) -> None:
        faults = Faults()
        choices = ("all", "minikinetics-200")
        faults.check(
            self.kinetics_classes in choices, "--kinetics-classes", self.kinetics_classes, " or ".join(choices)
        )
        fraction = self.kinetics_fraction
        faults.check(fraction is None or 0 < fraction <= 1, "--kinetics-fraction", fraction, "above 0, at most 1")
        faults.check(self.ids_from in (0, 1), "--ids-from", self.ids_from, "0 or 1")
        faults.raise_if_any("options")

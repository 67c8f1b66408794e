"""Settings of a probe of a frozen encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vidkit.settings.encode import SPLIT_NAMES, Faults

Probe = Literal["knn", "ridge", "logistic", "attentive"]
PROBES: tuple[Probe, ...] = get_args(Probe)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """Probes, read-outs, splits, and how the attentive probe is trained."""

    probes: tuple[Probe, ...] = PROBES
    readouts: tuple[str, ...] | None = None
    """None: all that the features allow. The attentive probe reads the fullest sequence among them alone."""
    fit: str = "train"
    """Split that probes learn from."""
    choose: str = "val"
    """Split that layer, read-out, probe and its setting are chosen on."""
    test: str = "test"
    """Split of the one figure."""
    seed: int = 0
    """Of the attentive probe's weights and batches, and of intervals that are drawn."""
    steps: int = 400
    """Of the attentive probe."""
    batch: int = 64
    """Clips in such a step."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    heads: int = 4

    def __post_init__(self) -> None:
        faults = Faults()
        known = bool(self.probes) and set(self.probes) <= set(PROBES) and len(set(self.probes)) == len(self.probes)
        named = ", ".join(self.probes) or "none"
        faults.check(known, "probe", named, f"some of {', '.join(PROBES)}, each once")
        for name in ("fit", "choose", "test"):
            value = getattr(self, name)
            faults.check(value in SPLIT_NAMES, name, value, "one of " + ", ".join(SPLIT_NAMES))
        parts = (self.fit, self.choose, self.test)
        faults.check(len(set(parts)) == 3, "splits", ", ".join(parts), "three different ones")
        for name in ("steps", "batch", "heads"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        faults.check(self.seed >= 0, "seed", self.seed, "at least 0")
        faults.check(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        faults.check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        faults.raise_if_any("probe settings")

"""Settings of a few-shot evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vidkit.settings.encode import Faults

Learner = Literal[
    "proto",
    "nn",
    "linear",
    "simpleshot",
    "cosine",
    "diagonal",
    "chamfer",
    "otam",
    "baseline++",
    "trx",
    "mann",
    "blackbox",
    "maml",
    "finetune",
    "scratch",
]
LEARNERS: tuple[Learner, ...] = get_args(Learner)

Discriminant = Literal["none", "clip", "steps"]
DISCRIMINANTS: tuple[Discriminant, ...] = get_args(Discriminant)

#: Learners that train a whole network on the support of each test episode. All others learn from features.
PIXEL_LEARNERS: frozenset[Learner] = frozenset({"finetune", "scratch"})

#: Learners whose encoder can be trained with them on episodes of meta-train.
TUNABLE: frozenset[Learner] = frozenset({"proto", "cosine", "trx", "mann", "blackbox", "maml"})

#: Value of `tune`: the whole encoder learns.
ALL_BLOCKS = -1

#: Longest sequence of one class where no number is given: that of the published tables.
MOST_INSTANCES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class FewshotConfig:
    """Episodes, learners, and how these are trained."""

    way: int = 5
    """N: classes of an episode."""
    shot: int = 1
    """K: labelled clips of each class."""
    query: int = 15
    """Q: clips of each class to be classified."""
    episodes: int = 600
    """Test episodes of each seed."""
    learners: tuple[Learner, ...] = ("proto",)
    seeds: tuple[int, ...] = (0,)
    """Of test episodes, training episodes and initial weights: one result each."""
    allow_shared_groups: bool = False
    """Whether support and query may show the same video."""
    instances: int | None = None
    """Clips of each class in the MANN's sequences; None: 10, or fewer where the dataset has no more."""
    project: int = 0
    """Width of a linear projection that "proto" learns on meta-train; 0: distances in the features themselves."""
    ridge: float = 1.0
    """Penalty of "linear" as a multiple of the mean squared norm of the centred support features."""
    standardise: bool = True
    """Whether each number of a feature is divided by its deviation over meta-train clips; its mean there is taken
    away either way. SimpleShot was published without."""
    discriminant: Discriminant = "none"
    """Whether clips are seen along the directions in which meta-train classes differ most against their own spread
    (Fisher's linear discriminants), at most one fewer than there are meta-train classes; every learner then profits
    from the labels of meta-train. "clip": each learner sees those of the whole clip. "steps": learners that compare
    or read its steps see what it has shown of them by each; those that take a mean of the steps, the whole clip."""
    reduce: int = 64
    """Principal components of meta-train that learners with networks see instead of longer features: with few clips
    to learn from, each further input is one more to learn to ignore. Of a clip as a sequence these are those
    of its steps. 0: the features themselves."""
    steps: int = 600
    """Training steps of the learners that train."""
    batch: int = 16
    """Episodes in a step."""
    learning_rate: float = 3e-3
    """Of Adam. It falls in a straight line over the last 30 % of the steps."""
    clip: float = 10.0
    """Largest norm of the gradient."""
    val_episodes: int = 100
    """Meta-val episodes that choose among ten states of the training."""
    hidden: int = 128
    """Width of the LSTM of "mann", of each of the two of "blackbox", of the hidden layer of "maml", and of the keys
    and values of "trx" (published: 1152)."""
    slots: int = 64
    """Rows of the MANN's memory."""
    width: int = 40
    """Numbers in a row."""
    reads: int = 4
    """Read heads."""
    tune: int = 0
    """Blocks of the encoder, from the last, that go on learning with "proto", "cosine", "trx", "mann", "blackbox"
    and "maml" on episodes of meta-train, once these have learned from its features. `ALL_BLOCKS`: the tokenizer
    too. 0: it is frozen."""
    tune_steps: int = 200
    """Steps of this. With 0 the encoder stays as it was."""
    tune_batch: int = 1
    """Episodes in such a step. Each of their clips goes through the encoder."""
    tune_rate: float = 1e-4
    """Adam's learning rate of the encoder's blocks; that of the learner's own weights is `learning_rate` / 10."""
    tune_episodes: int = 50
    """Test episodes of "finetune" and "scratch", which train for each: the first ones of those that the others
    get."""
    finetune_steps: int = 40
    """AdamW steps of "finetune" and "scratch" on an episode's support clips, all of them in each step."""
    finetune_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates of which meta-val episodes choose one, for each of the two; the middle one without
    meta-val classes."""
    finetune_val_episodes: int = 10
    """Meta-val episodes on which each rate is tried."""
    layer_decay: float = 1.0
    """Of "finetune" and "scratch": each layer's rate as a share of the next one's (BEiT)."""

    def __post_init__(self) -> None:
        faults = Faults()
        for name, least in (("way", 2), ("shot", 1), ("query", 1), ("episodes", 2), ("steps", 1), ("batch", 1)):
            faults.check(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        for name in ("hidden", "slots", "width", "reads", "val_episodes"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "clip", "ridge", "tune_rate"):
            faults.check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("project", "reduce", "tune_steps"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("tune_batch", "finetune_steps", "finetune_val_episodes"):
            faults.check(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        # an interval needs two
        faults.check(self.tune_episodes >= 2, "tune_episodes", self.tune_episodes, "at least 2")
        rates = self.finetune_rates
        good = bool(rates) and min(rates, default=0) > 0 and list(rates) == sorted(set(rates))
        faults.check(good, "finetune_rates", rates, "numbers above 0, each larger than the one before")
        faults.check(0 < self.layer_decay <= 1, "layer_decay", self.layer_decay, "above 0, at most 1")
        faults.check(self.instances is None or self.instances >= 2, "instances", self.instances, "at least 2")
        named = ", ".join(DISCRIMINANTS)
        faults.check(self.discriminant in DISCRIMINANTS, "discriminant", self.discriminant, f"one of {named}")
        whole = self.discriminant == "clip" and "trx" in self.learners
        faults.check(not whole, "discriminant", self.discriminant, "steps with trx, which compares pairs of steps")
        known = bool(self.learners) and set(self.learners) <= set(LEARNERS)
        named = ", ".join(self.learners) or "none"
        faults.check(known, "learner", named, f"some of {', '.join(LEARNERS)}")
        faults.check(len(set(self.learners)) == len(self.learners), "learner", named, "each once")
        good = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds) and min(self.seeds, default=-1) >= 0
        faults.check(good, "seeds", self.seeds, "at least one seed, from 0, each once")
        faults.check(
            self.tune >= ALL_BLOCKS, "tune", self.tune, f"a number of blocks from 0, or {ALL_BLOCKS} for all"
        )
        fixed = [name for name in self.learners if name not in TUNABLE]
        tunable = ", ".join(name for name in LEARNERS if name in TUNABLE)
        faults.check(
            not self.tune or not fixed, "tune", self.tune, f"0 with {', '.join(fixed)}: it is for {tunable}"
        )
        faults.raise_if_any("few-shot settings")

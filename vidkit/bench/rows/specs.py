"""What each study asks, which arms it has, what is measured and what arms are compared with.

The questions are those that arXiv 2308.01916 (Semi Supervised Meta Learning for Spatiotemporal Learning) leaves
open. Importing this module brings no torch along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from vidkit.errors import ConfigError
from vidkit.settings.ablation import Study

#: Where nothing else is asked for: an interval over seeds needs some.
SEEDS = (0, 1, 2)

#: Of the tokens that the classification head does without.
MASK_RATIOS = (0.5, 0.7, 0.8, 0.9)
NO_MASK = "no masking"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A column of a study's table."""

    name: str
    """Key of a row's `metrics`."""
    title: str
    short: str
    """In the headings of what is derived from it."""
    factor: float = 1.0
    """From the metric to what is shown."""
    digits: int = 2
    lower: bool = False
    """Whether less is better."""
    relative: bool = False
    """Differences are shown as percent of the reference's value, not in the measure's own unit."""
    plotted: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A study."""

    title: str
    question: str
    """The paper's open question, in its words where they are short."""
    arms: dict[str, str]
    """Name -> what it is, in the order of the table."""
    reference: str
    """The arm that others are compared with, seed by seed."""
    measures: tuple[Measure, ...]
    within: str
    """What a row's own interval is over."""
    quoted: dict[str, dict[str, float]] = field(default_factory=dict)
    """Arm -> metric -> the paper's figure."""
    remark: str = ""
    """What the paper says, where it is no figure of an arm."""


RECONSTRUCTION = Spec(
    title="Reconstruction of a small dataset",
    question=(
        "Does a masked autoencoder that was pre-trained on a larger set reconstruct a small one better than one "
        "that was trained on the small set from scratch? (open question 1)"
    ),
    arms={
        "pre-trained": "pre-trained on the larger part, as it is",
        "continued": "pre-trained on the larger part, then on the small one",
        "scratch": "on the small part from scratch, as many steps as the continuation",
        "scratch, all steps": "on the small part from scratch, as many steps as pre-training and continuation",
        "mean colour": "nothing learnt: each hidden patch has the mean colour of the clip's visible ones",
    },
    reference="pre-trained",
    measures=(
        Measure(name="psnr", title="PSNR of hidden patches, dB", short="PSNR"),
        Measure(
            name="mse_pixels",
            title="MSE in pixels x 1000",
            short="MSE",
            factor=1000,
            digits=3,
            lower=True,
            relative=True,
        ),
        Measure(
            name="loss",
            title="loss (the recipe's target)",
            short="loss",
            digits=5,
            lower=True,
            relative=True,
            plotted=False,
        ),
    ),
    within="clips",
    remark=(
        "Paper (quoted): fine-tuning the pre-trained autoencoder on the small set improved on the pre-trained one "
        "by 0.3 %, a negligible difference."
    ),
)

MASKING = Spec(
    title="Masking in training a classification head",
    question=(
        "How does the mask ratio affect a video autoencoder with a classification head on a small dataset? "
        "(open question 2)"
    ),
    arms={
        NO_MASK: "all tokens in training",
        **{f"{ratio:g}": f"{ratio:.0%} of the tokens dropped in training" for ratio in MASK_RATIOS},
    },
    reference=NO_MASK,
    measures=(
        Measure(name="top1", title="top-1 %, all tokens", short="top-1", factor=100),
        Measure(name="top5", title="top-5 %, all tokens", short="top-5", factor=100),
        Measure(
            name="top1_masked", title="top-1 %, same ratio", short="top-1, same ratio", factor=100, plotted=False
        ),
        Measure(
            name="top5_masked", title="top-5 %, same ratio", short="top-5, same ratio", factor=100, plotted=False
        ),
        Measure(name="mAP", title="mAP %, all tokens", short="mAP", factor=100),
        Measure(name="mAP_masked", title="mAP %, same ratio", short="mAP, same ratio", factor=100, plotted=False),
    ),
    within="clips",
    quoted={NO_MASK: {"top5": 0.745}, "0.8": {"top5": 0.76}},
    remark=(
        "Paper (quoted): one run each on its own 518-class dataset. It does not say whether tokens were dropped in "
        "its test as well, so both tests are here: all tokens, and the training's ratio under fixed masks."
    ),
)

META = Spec(
    title="Few-shot learning on a masked autoencoder's features",
    question=(
        "Does a MANN profit from a pre-trained masked autoencoder, and do other learners serve as well? "
        "(open question 3, and the baselines that the paper lacks)"
    ),
    arms={
        "mann": "memory-augmented network on features of the pre-trained encoder",
        "mann, random encoder": "memory-augmented network on features of the encoder with its initial weights",
        "mann, pixels": "memory-augmented network on averaged pixels",
        "mann, tuned": "memory-augmented network, and the pre-trained encoder goes on learning with it",
        "mann, tuned from random": "the same from the encoder's initial weights",
        "mann, by steps": "memory-augmented network on what each clip has shown by each step, pre-trained features",
        "mann, components": "memory-augmented network on principal components, pre-trained features",
        "blackbox": "two stacked LSTMs (the paper's simplified form), pre-trained features",
        "blackbox, random encoder": "the same, encoder with its initial weights",
        "blackbox, pixels": "the same on averaged pixels",
        "maml": "first-order MAML on a head, pre-trained features",
        "maml, random encoder": "the same, encoder with its initial weights",
        "maml, pixels": "the same on averaged pixels",
        "proto": "nearest class mean, pre-trained features",
        "proto, random encoder": "nearest class mean, encoder with its initial weights",
        "proto, pixels": "nearest class mean, averaged pixels",
        "proto, tuned": "prototypical network: the pre-trained encoder goes on learning on episodes",
        "proto, tuned from random": "the same from the encoder's initial weights",
        "proto, components": "nearest class mean of the pre-trained encoder's features as they are",
        "nn": "nearest neighbour, pre-trained features",
        "simpleshot": "SimpleShot: nearest class mean of centred, normalised features; pre-trained",
        "simpleshot, random encoder": "the same, encoder with its initial weights",
        "simpleshot, pixels": "the same on averaged pixels",
        "otam": "OTAM: soft alignment of the sequences of steps, pre-trained features",
        "otam, random encoder": "the same, encoder with its initial weights",
        "otam, pixels": "the same on averaged pixels",
        "trx": "TRX: pairs and triples of steps, trained on meta-train; pre-trained features",
        "trx, random encoder": "the same, encoder with its initial weights",
        "trx, pixels": "the same on averaged pixels",
        "linear": "ridge regression on each episode, pre-trained features",
        "linear, random encoder": "the same, encoder with its initial weights",
        "linear, pixels": "the same on averaged pixels",
        "meta-baseline": "Meta-Baseline: encoder fine-tuned on the meta-train classes, then cosine to class means",
        "finetune": "encoder fine-tuned on each episode, from the pre-trained weights",
        "scratch": "the same network trained on each episode from initial weights",
    },
    reference="mann",
    measures=(Measure(name="accuracy", title="accuracy %", short="accuracy", factor=100),),
    within="episodes",
    remark=(
        "The paper prints no accuracy of its MANN, and no baseline. All learners on features, published ones too, "
        "see linear discriminants of the meta-train classes, but for the arms named components."
    ),
)

STUDIES: dict[Study, Spec] = {"reconstruction": RECONSTRUCTION, "mask-ratio": MASKING, "meta": META}


def chosen(presets: tuple[str, ...]) -> Study | None:
    """The study among these presets, which must then be alone; None: there is none.

    Raises:
        ConfigError: a study beside other presets.
    """
    studies: list[Study] = [name for name in get_args(Study) if name in presets]
    if not studies:
        return None
    if len(presets) > 1:
        raise ConfigError(
            f"{studies[0]} has a table of its own and cannot be run together with another preset",
            field="--preset",
            hint="run one after the other, each with its own --out",
        )
    return studies[0]

"""Which arms are compared with which: by rule before the run, or as `--contrast` says.

All pairs of all arms would be too many questions: corrected for their number, no answer would be left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vidkit.bench.rows.schema import Contrast, GridCell, Planned
from vidkit.errors import ConfigError
from vidkit.settings.ablation import Cell

#: What every other strategy is compared with.
REFERENCE = "random"
#: Their difference says whether masks can be told apart at all.
ORACLES = ("oracle", "anti-oracle")

#: Among the texts of `--contrast`: what would be compared without any.
DEFAULT = "default"
_TREND = "trend:"


def default(planned: Iterable[Planned]) -> tuple[Contrast, ...]:
    """Each strategy against random masks at the same ratio, the oracle against its opposite, and each strategy's
    trend over ratios. Arms that differ otherwise too (in loss or decoder, say) are not compared.
    """
    arms = _arms(planned)
    called = names(arms.values())
    pairs = [(one, REFERENCE) for one in dict.fromkeys(arm.settings.mask for arm in arms.values())]
    found = [pair for one, other in [*pairs, ORACLES] if one != other for pair in _pairs(arms, called, one, other)]
    return (*found, *_trends(arms))


def asked(texts: Sequence[str], planned: Iterable[Planned]) -> tuple[Contrast, ...]:
    """What `--contrast` names: "tube:random" at every ratio that both have, "tube@0.9:random@0.95", "trend:tube",
    or "default".

    Raises:
        ConfigError: a text that names no arm.
    """
    planned = tuple(planned)
    arms = _arms(planned)
    called = names(arms.values())
    found: dict[tuple[str, tuple[str, ...]], Contrast] = {}
    for text in texts:
        if text == DEFAULT:
            some: Sequence[Contrast] = default(planned)
        elif text.startswith(_TREND):
            some = [one for one in _trends(arms) if _mask_of(arms[one.groups[0]]) == text.removeprefix(_TREND)]
        else:
            # the mask of one's own has a colon in its name
            cuts = (i for i, letter in enumerate(text) if letter == ":")
            some = [one for cut in cuts for one in _pairs(arms, called, text[:cut], text[cut + 1 :])]
        if not some:
            raise ConfigError(
                f"contrast {text!r} names no two arms of this ablation that differ in nothing else",
                field="--contrast",
                hint="write A:B or trend:A, of the arms "
                + ", ".join(dict.fromkeys(f"{arm.settings.mask}@{arm.settings.ratio:g}" for arm in arms.values())),
            )
        found |= {(one.kind, one.groups): one for one in some}
    return tuple(found.values())


def names(arms: Iterable[GridCell]) -> dict[Cell, str]:
    """Mask and ratio of each, and what else arms differ in."""
    every = [replace(arm.settings, seed=0) for arm in arms]
    words = {
        "decoder_depth": "decoder of {}",
        "loss": "{}",
        "sampler": "sampler {}",
        "epochs": "{} epochs",
        "tokenizer": "{}",
        "targets": "targets {}",
        "target_ratio": "{:.0%} of them",
        "decoder": "decoder {}",
    }
    varied = [name for name in words if len({_value(one, name) for one in every} - {None}) > 1]
    varied += [
        name
        for name in ("targets", "target_ratio", "decoder")
        if name not in varied and len({_value(one, name) for one in every}) > 1
    ]
    found = {}
    for one in every:
        more = [words[name].format(_value(one, name)) for name in varied if _value(one, name) is not None]
        found[one] = ", ".join([f"{one.mask} {one.ratio:g}", *more])
    return found


def _value(cell: Cell, name: str) -> object:
    return getattr(cell, name)


def _arms(planned: Iterable[Planned]) -> dict[str, GridCell]:
    """By group, those that are trained."""
    return {one.group: one.cell for one in planned if one.cell is not None and one.cell.kind == "full"}


def _mask_of(arm: GridCell) -> str:
    return arm.settings.mask


def _rest(arm: GridCell) -> tuple[object, ...]:
    """What two arms must have alike. A sampler belongs to its mask, and epochs follow from equal compute."""
    epochs = None if arm.equal == "compute" else arm.settings.epochs
    rest = replace(arm.settings, mask=REFERENCE, ratio=0.5, sampler=None, seed=0, epochs=epochs)
    return rest, arm.equal, arm.tokens


def _pairs(arms: dict[str, GridCell], called: dict[Cell, str], one: str, other: str) -> list[Contrast]:
    first, second = ([(g, arm) for g, arm in arms.items() if _is(arm, side)] for side in (one, other))
    free = not ("@" in one and "@" in other)
    found = []
    for group, arm in first:
        for rival, reference in second:
            same = _rest(arm) == _rest(reference) and not (free and arm.settings.ratio != reference.settings.ratio)
            if group != rival and same:
                sides = (called[replace(side.settings, seed=0)] for side in (arm, reference))
                found.append(Contrast(name=" against ".join(sides), kind="pair", groups=(group, rival)))
    return found


def _is(arm: GridCell, side: str) -> bool:
    mask, at, ratio = side.rpartition("@")
    if not at:
        return arm.settings.mask == side
    return arm.settings.mask == mask and f"{arm.settings.ratio:g}" in (ratio, ratio.rstrip("0"))


def _trends(arms: dict[str, GridCell]) -> list[Contrast]:
    """Of strategies with several ratios, all else alike."""
    some: dict[tuple[object, ...], list[tuple[float, str]]] = {}
    for group, arm in arms.items():
        some.setdefault((arm.settings.mask, arm.settings.sampler, *_rest(arm)), []).append(
            (arm.settings.ratio, group)
        )
    found = []
    for (mask, *_), places in some.items():
        low, *_, high = [*sorted(places), sorted(places)[-1]]
        if low[0] < high[0]:
            groups = tuple(group for _, group in sorted(places))
            found.append(Contrast(name=f"{mask}, from {low[0]:g} to {high[0]:g}", kind="trend", groups=groups))
    return found

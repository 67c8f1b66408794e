"""Study "meta": few-shot learners on a masked autoencoder's features, and without it.

Open question 3 of arXiv 2308.01916, and the baselines that it lacks. Classes are divided into meta-train, meta-val
and meta-test (`data.class_split`, seed 0). Each seed pre-trains the encoder without labels on the clips of the
meta-train classes alone, so that neither labels nor clips of meta-test classes were seen by anything. All arms of
all seeds are tested on one list of episodes, which is kept beside the results; a seed decides the encoder and the
training.

"meta-baseline" first learns the meta-train classes with the encoder, then compares by cosine (Chen et al. 2021). In
"tuned" arms the whole encoder goes on learning with the learner on episodes of meta-train, as the paper's third
stage has it; in the others it is frozen. The arms "finetune" and "scratch" train a network in each episode and get
the first `fewshot.tune_episodes` of the list. `accuracy` is the share of queries; its interval in a row is over
episodes. Features: mean and deviation over space for each time step of the encoder's output; the same encoder with
its initial weights; or averaged pixels (`fewshot.inputs.features`). All learners on features see them along the
directions in which the meta-train classes differ (`FewshotConfig.discriminant`): OTAM, TRX and "mann, by steps"
what a clip has shown by each step, the others the whole clip. In "components" arms they are as they come, and
networks see their principal components.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vidkit.bench.ablate.attempts import finetuned
from vidkit.bench.ablate.journal import Tell
from vidkit.bench.rows.specs import META
from vidkit.bench.studies.parts import Part, write_part
from vidkit.bench.studies.work import Arm, ArmConfig, ArmPlan, FewshotSettings, Work, arm, seeded
from vidkit.data.dataset import read_facts
from vidkit.errors import ConfigError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import SHARES, ClassSplit, MetaSplit, shared_groups, split_classes
from vidkit.fewshot.episodes.draw import draw_episodes
from vidkit.fewshot.episodes.labelled import LabelledClips, open_labelled
from vidkit.fewshot.episodes.lists import EpisodeList, read_episodes, write_episodes
from vidkit.fewshot.episodes.pool import EpisodeSettings, episode_pool
from vidkit.fewshot.inputs.encoder import open_encoder
from vidkit.fewshot.inputs.features import ClipFeatures, clip_features
from vidkit.fewshot.inputs.pixels import load_pixels, meta_splits_needed
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.settings.fewshot import ALL_BLOCKS, PIXEL_LEARNERS, Discriminant, FewshotConfig, Learner
from vidkit.settings.plain import config_hash, to_plain
from vidkit.settings.train import FinetuneConfig
from vidkit.train.inference import choose_device
from vidkit.train.runs import RunFolder

#: Of the class split and of the list of episodes; no arm's own seed.
SPLIT_SEED, EPISODE_SEED = 0, 0

#: Where classes are too few for three parts: half for training, half for the test, none to choose by.
TWO_PARTS = (0.5, 0.0, 0.5)

EPISODES = "episodes.jsonl"

#: What a learner sees; "classifier": features of the encoder that was then fine-tuned on the meta-train classes.
Source = Literal["pre-trained", "random", "pixels", "classifier"]


@dataclass(frozen=True, slots=True)
class Kind:
    """Of an arm."""

    learner: Learner
    source: Source = "pre-trained"
    tune: int = 0
    """As in `FewshotConfig`."""
    discriminant: Discriminant = "clip"
    """Likewise."""


ARMS: dict[str, Kind] = {
    "mann": Kind("mann"),
    "mann, random encoder": Kind("mann", "random"),
    "mann, pixels": Kind("mann", "pixels"),
    "mann, tuned": Kind("mann", tune=ALL_BLOCKS),
    "mann, tuned from random": Kind("mann", "random", ALL_BLOCKS),
    "mann, by steps": Kind("mann", discriminant="steps"),
    "mann, components": Kind("mann", discriminant="none"),
    "blackbox": Kind("blackbox"),
    "blackbox, random encoder": Kind("blackbox", "random"),
    "blackbox, pixels": Kind("blackbox", "pixels"),
    "maml": Kind("maml"),
    "maml, random encoder": Kind("maml", "random"),
    "maml, pixels": Kind("maml", "pixels"),
    "proto": Kind("proto"),
    "proto, random encoder": Kind("proto", "random"),
    "proto, pixels": Kind("proto", "pixels"),
    "proto, tuned": Kind("proto", tune=ALL_BLOCKS),
    "proto, tuned from random": Kind("proto", "random", ALL_BLOCKS),
    "proto, components": Kind("proto", discriminant="none"),
    "nn": Kind("nn"),
    "simpleshot": Kind("simpleshot"),
    "simpleshot, random encoder": Kind("simpleshot", "random"),
    "simpleshot, pixels": Kind("simpleshot", "pixels"),
    "otam": Kind("otam", discriminant="steps"),
    "otam, random encoder": Kind("otam", "random", discriminant="steps"),
    "otam, pixels": Kind("otam", "pixels", discriminant="steps"),
    "trx": Kind("trx", discriminant="steps"),
    "trx, random encoder": Kind("trx", "random", discriminant="steps"),
    "trx, pixels": Kind("trx", "pixels", discriminant="steps"),
    "linear": Kind("linear"),
    "linear, random encoder": Kind("linear", "random"),
    "linear, pixels": Kind("linear", "pixels"),
    "meta-baseline": Kind("cosine", "classifier"),
    "finetune": Kind("finetune", discriminant="none"),
    "scratch": Kind("scratch", "random", discriminant="none"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(ArmPlan):
    """The arms, and what all of them share: clips, class split, test episodes, meta-train part."""

    clips: LabelledClips
    split: ClassSplit
    episodes: EpisodeList
    train_part: Path
    """The meta-train classes' clips, as a dataset."""


def prepare(work: Work) -> Plan:
    """Divide the classes, write or read the list of episodes, and plan the arms.

    Raises:
        ConfigError: too few classes or clips for such episodes.
        DatasetError: clips without a single class.
    """
    asked = work.settings.fewshot
    clips = open_labelled(work.data)
    split = _divided(clips, asked.way)
    path = work.out / EPISODES
    if not path.exists():
        settings = EpisodeSettings(
            way=asked.way,
            shot=asked.shot,
            query=asked.query,
            seed=EPISODE_SEED,
            allow_shared_groups=asked.allow_shared_groups,
        )
        pool = episode_pool(clips, settings, split, "test")
        write_episodes(path, pool, draw_episodes(pool, asked.episodes))
    listed = read_episodes(path, clips)
    _check_list(listed, asked, split, path)
    part = Part(name="meta-train", classes=split.train)
    train_part = write_part(work.data, part, work.out / "parts" / "meta-train")
    trained = work.settings.pretrain.data.split
    seen = read_facts(train_part)["splits"].get(trained, {}).get("ok", 0)
    chosen = (
        f"states of the training are chosen on {len(split.val)} meta-val classes"
        if split.val
        else "with no class left for meta-val, the last state of the training is tested"
    )
    notes = (
        f"{asked.way}-way {asked.shot}-shot, {asked.query} queries a class, chance {1 / asked.way:.1%}; one list "
        f"of {len(listed.episodes):,} test episodes for all arms and seeds ({EPISODES}, sha256 "
        f"{listed.sha256[:12]}).",
        f"Classes are disjoint: {len(split.train)} for meta-train, {len(split.test)} for meta-test; {chosen}.",
        f"The encoder was pre-trained without labels on {seen:,} clips of the meta-train classes (split "
        f"{trained!r}); it has seen no clip of a meta-test class{_shared(clips, split)}.",
    )
    configs = (_config(work, name, seed, split, listed) for seed in work.seeds for name in META.arms)
    return Plan(
        arms=tuple(arm(config, work.recipe) for config in configs),
        notes=notes,
        clips=clips,
        split=split,
        episodes=listed,
        train_part=train_part,
    )


def _shared(clips: LabelledClips, split: ClassSplit) -> str:
    """What is to be said of videos that show classes of both; empty for none."""
    count = shared_groups(clips, split)["train-test"]
    return f", but {count:,} videos have clips in classes of both" if count else ""


def _divided(clips: LabelledClips, way: int) -> ClassSplit:
    """By the usual shares where each part has `way` classes, else in two halves without meta-val."""
    usual = split_classes(clips, seed=SPLIT_SEED, shares=SHARES)
    if min(len(usual.train), len(usual.val), len(usual.test)) >= way:
        return usual
    halves = split_classes(clips, seed=SPLIT_SEED, shares=TWO_PARTS)
    if len(halves.test) < way:
        raise ConfigError(
            f"{clips.name!r} has {len(clips.classes)} classes; {way}-way episodes need {2 * way}, half of them to "
            "train on",
            field="fewshot.way",
            hint=f"lower it by --set fewshot.way={max(2, len(clips.classes) // 2)}, or give a dataset with more",
        )
    return halves


def _check_list(listed: EpisodeList, asked: FewshotSettings, split: ClassSplit, path: Path) -> None:
    settings = listed.settings
    same = (settings.way, settings.shot, settings.query, len(listed.episodes), listed.split.sha256)
    if same != (asked.way, asked.shot, asked.query, asked.episodes, split.sha256):
        raise ConfigError(
            f"the list is of {settings.way}-way {settings.shot}-shot episodes with {settings.query} queries, "
            f"{len(listed.episodes):,} of them; now {asked.way}-way {asked.shot}-shot with {asked.query} queries, "
            f"{asked.episodes:,}, are asked for, or other classes",
            file=path,
            hint="give the settings that the study was begun with, or another --out",
        )


def _config(work: Work, name: str, seed: int, split: ClassSplit, listed: EpisodeList) -> ArmConfig:
    kind = ARMS[name]
    encoder = None if kind.source == "pixels" else seeded(work.settings.pretrain, seed)
    return ArmConfig(
        study="meta",
        arm=name,
        seed=seed,
        split="meta-test",
        pretrain=encoder,
        finetune=_classifier(work, seed, split) if kind.source == "classifier" else None,
        fewshot=to_plain(_fewshot(work, name, seed)),
        features=kind.source,
        classes=split.sha256,
        episodes=listed.sha256,
    )


def _classifier(work: Work, seed: int, split: ClassSplit) -> FinetuneConfig:
    """Of the meta-train classes. Nothing is chosen on its way: the last weights are read."""
    config = work.settings.finetune
    data = replace(config.data, classes=tuple(split.train))
    return replace(config, seed=seed, val_epochs=config.optim.epochs, data=data)


def _fewshot(work: Work, name: str, seed: int) -> FewshotConfig:
    kind = ARMS[name]
    return work.settings.fewshot.config(kind.learner, seed, kind.tune, kind.discriminant)


def run(work: Work, plan: Plan, one: Arm) -> dict[str, Any]:
    """Fields of the arm's row. Raises VidkitError: the arm has failed."""
    config = one.config
    init, runs, steps = _encoder(work, plan, config)
    started = time.perf_counter()
    asked = _fewshot(work, config.arm, config.seed)
    pixels = meta_splits_needed(asked)
    alone = not PIXEL_LEARNERS.isdisjoint(asked.learners)
    result = fewshot.evaluate(
        plan.clips,
        None if alone else features_of(work, plan.clips, init),
        plan.split,
        asked,
        **(_network_inputs(work, plan, init, pixels) if pixels else {}),
        published=plan.episodes,
        device=choose_device(None),
        report=None if work.quiet else _reporter(work.tell),
    )
    (row,) = result.rows
    return {
        "metrics": {"accuracy": row.accuracy},
        "half_widths": {"accuracy": row.half_width},
        "counts": {
            "episodes": row.episodes,
            "classes": row.classes,
            "pre-training steps": steps,
            "seen classes": row.seen_classes,
        },
        "found": {"chance": row.chance, "fewshot": asdict(row)},
        "runs": runs,
        "seconds": {"arm": time.perf_counter() - started},
    }


def _encoder(work: Work, plan: Plan, config: ArmConfig) -> tuple[Path | None, dict[str, str], int]:
    """(checkpoint or None for pixels, folders, steps of pre-training)."""
    if config.features == "pixels":
        return None, {}, 0
    assert config.pretrain is not None
    if config.features == "random":
        path = Path("encoders") / f"random-{config.seed}.pt"
        _write_random(work.out / path, config)
        return work.out / path, {"encoder": path.as_posix()}, 0
    first = work.pretrained(config.pretrain, plan.train_part)
    runs = {"pretrain": first.folder.as_posix()}
    if config.finetune is None:
        return first.checkpoint, runs, first.steps
    folder = Path("finetune") / f"{first.folder.name}-{config_hash(config.finetune)}"
    finetuned(config.finetune, plan.train_part, work.out / folder, init=first.checkpoint, quiet=work.quiet)
    return RunFolder(work.out / folder).last, {**runs, "finetune": folder.as_posix()}, first.steps


def _write_random(path: Path, config: ArmConfig) -> None:
    """The encoder as pre-training begins with it: the same seed draws the same weights."""
    if path.exists():
        return
    assert config.pretrain is not None
    settings = config.pretrain
    model = AdaMAE(settings.model, torch.Generator().manual_seed(settings.seed))
    facts = {"step": 0, "epoch": 0, "stride": settings.data.stride, "mode": settings.data.mode}
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(path, Checkpoint(config=settings.model, model=model.state_dict(), facts=facts))


def features_of(work: Work, clips: LabelledClips, init: Path | None) -> ClipFeatures:
    """From the results' folder if they are there: arms and resumed studies share them."""
    return clip_features(
        clips,
        init,
        cache=work.out / "features",
        workers=work.settings.pretrain.data.workers,
        quiet=work.quiet,
    )


def _network_inputs(
    work: Work, plan: Plan, init: Path | None, meta_splits: tuple[MetaSplit, ...]
) -> dict[str, Any]:
    """For arms that train an encoder: the encoder, and the clips as it looks at them."""
    assert init is not None, "pixels are for learners on features"
    encoder = open_encoder(plan.clips, init)
    workers = work.settings.pretrain.data.workers
    pixels = load_pixels(
        plan.clips, plan.split, meta_splits, encoder.vit, encoder.views, workers=workers, quiet=work.quiet
    )
    return {"encoder": encoder, "pixels": pixels}


def _reporter(tell: Tell) -> Callable[[str, int, int, float], None]:
    def report(name: str, step: int, steps: int, loss: float) -> None:
        if step == steps or step % max(1, steps // 5) < max(1, steps // 100):
            tell(f"{name}: step {step:,} of {steps:,}, loss {loss:.3f}")

    return report

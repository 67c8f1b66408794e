"""`vidkit fewshot`: few-shot accuracy with intervals, as a table or JSON; and the self-test of the MANN."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from vidkit.cli.fewshot.episodes import class_split_of
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.fewshot.encoder import Init
    from vidkit.fewshot.episodes.lists import EpisodeList
    from vidkit.fewshot.evaluate import Result, Row
    from vidkit.fewshot.features import ClipFeatures


def run(
    data: Path | None,
    *,
    init: str | None,
    learners: tuple[str, ...],
    way: int | None,
    shot: int | None,
    query: int | None,
    episodes: int | None,
    seeds: tuple[int, ...],
    episodes_list: Path | None,
    split_seed: int,
    shares: str | None,
    class_split: Path | None,
    splits: str | None,
    allow_shared_groups: bool,
    instances: int | None,
    training: dict[str, Any],
    out: Path | None,
    cache: Path | None,
    stride: int | None,
    batch_size: int,
    workers: int,
    device: str | None,
    as_json: bool,
) -> int:
    """Evaluate and print.

    Args:
        seeds: each with test episodes, training episodes and weights of its own.
        episodes_list: test episodes, which bring their class split and settings with them.
        training: further fields of `FewshotConfig`.
        init: a checkpoint, or "random".
        cache: where features are kept; None: beside `out`, or nowhere without it.
    """
    if data is None:
        raise ConfigError("needs a dataset", field="--data", hint="give --data DIR, or run --self-test without one")
    from vidkit.fewshot import evaluate as fewshot
    from vidkit.fewshot.config import PIXEL_LEARNERS, FewshotConfig
    from vidkit.fewshot.encoder import RANDOM, check_blocks, check_encoder, open_encoder
    from vidkit.fewshot.episodes.draw import open_labelled
    from vidkit.fewshot.episodes.lists import read_episodes
    from vidkit.fewshot.features import clip_features
    from vidkit.fewshot.pixels import load_pixels, meta_splits_needed
    from vidkit.train.inference import choose_device

    asked: dict[str, Any] = {"way": way, "shot": shot, "query": query, "episodes": episodes}
    config = FewshotConfig(
        learners=learners,  # type: ignore[arg-type]
        seeds=seeds,
        allow_shared_groups=allow_shared_groups,
        instances=instances,
        **{name: value for name, value in asked.items() if value is not None},
        **training,
    )
    start: Init | None = None if init is None else RANDOM if init == RANDOM else Path(init)
    check_encoder(config, start)
    if out is not None:
        fewshot.check_target(out)
    place = choose_device(device)
    published: EpisodeList | None = None
    if episodes_list is not None:
        others = {**asked, "shares": shares, "class-split": class_split, "splits": splits}
        _alone(others, allow_shared_groups, split_seed)
        published = read_episodes(episodes_list, data)
        clips, divided = published.clips, published.split
    else:
        clips = open_labelled(data, None if splits is None else [name.strip() for name in splits.split(",")])
        divided = class_split_of(clips, split_seed, shares, class_split)
    # before the encoder runs: whatever the episodes lack is known already
    fewshot.check(clips, divided, config, published=published)
    needed = meta_splits_needed(config)
    encoder = pixels = features = None
    if needed:
        encoder = open_encoder(clips, start or RANDOM, seed=seeds[0], stride=stride)
        check_blocks(config.tune, encoder.vit.depth)
        pixels = load_pixels(
            clips,
            divided,
            needed,
            encoder.vit,
            encoder.views,
            batch_size=batch_size,
            workers=workers,
            quiet=as_json,
        )
    if set(learners) - PIXEL_LEARNERS:
        features = clip_features(
            clips,
            start,
            cache=cache if cache is not None or out is None else out.parent,
            seed=seeds[0],
            stride=stride,
            batch_size=batch_size,
            workers=workers,
            device=device,
            quiet=as_json,
        )
    result = fewshot.evaluate(
        clips,
        features,
        divided,
        config,
        published=published,
        encoder=encoder,
        pixels=pixels,
        device=place,
        report=None if as_json else _Told(),
    )
    if out is not None:
        fewshot.write_rows(out, result)
    if as_json:
        print_json(
            {
                "rows": [asdict(row) for row in result.rows],
                "summary": [asdict(summary) for summary in result.summaries],
                "interval_over_seeds": fewshot.SEED_INTERVAL,
                "features": None if features is None or features.file is None else str(features.file),
                "file": None if out is None else str(out),
            }
        )
    else:
        _render(result, features, out)
    return 0


class _Told:
    """Prints some lines about each training, with the time that it still takes."""

    EVERY_S = 30.0

    def __init__(self) -> None:
        self.log = console(stderr=True)
        self.name, self.last, self.printed_s = "", 0, 0.0
        self.first = (0, 0.0)
        """The first step that was told, and when."""

    def __call__(self, name: str, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if name != self.name or step <= self.last:
            self.name, self.first, self.last, self.printed_s = name, (step, now), 0, now
        a_fifth_more = 5 * step // steps > 5 * self.last // steps
        self.last = step
        if not a_fifth_more and now - self.printed_s < self.EVERY_S:
            return
        self.printed_s = now
        done, seconds = step - self.first[0], now - self.first[1]
        left = f", about {seconds * (steps - step) / done:,.0f} s left" if done and step < steps else ""
        unit = "episode" if name in ("finetune", "scratch") else "step"
        self.log.print(f"{name}: {unit} {step:,} of {steps:,}, loss {loss:.3f}{left}")


def _alone(others: dict[str, Any], allow_shared_groups: bool, split_seed: int) -> None:
    """A list of episodes has settings of its own: others beside it would not be heard."""
    given = [name for name, value in others.items() if value is not None]
    given += ["allow-shared-groups"] * allow_shared_groups + ["split-seed"] * (split_seed != 0)
    if given:
        named = ", ".join(f"--{name}" for name in given)
        raise ConfigError(
            f"--episodes-list brings its own settings; {named} cannot change them",
            field="--episodes-list",
            hint=f"leave out {named}, or make another list with `vidkit episodes`",
        )


def _render(result: Result, features: ClipFeatures | None, out: Path | None) -> None:
    screen, rows = console(), result.rows
    first = max(rows, key=lambda row: row.episodes)
    seeds = len(result.config.seeds)
    kind = f"{first.way}-way {first.shot}-shot, {first.query} queries a class"
    tested = f"{first.episodes:,} episodes of {first.classes} meta-test classes"
    several = f" for each of {seeds} seeds" if seeds > 1 else ""
    if features is not None:
        made = "computed" if features.computed else "from the cache"
        kept = "" if features.file is None else f", {features.file}"
        width = features.array.shape[1]
        screen.print(escape(f"features: {features.name}, {width} numbers a clip ({made}{kept})"))
    table = Table(
        title=f"{kind}: {tested}{several}, chance {first.chance:.1%}",
        title_justify="left",
    )
    table.add_column("learner")
    table.add_column("accuracy", justify="right")
    if seeds > 1:
        table.add_column("over seeds", justify="right")
    counts = {row.learner: row.episodes for row in rows}
    fewer = len(set(counts.values())) > 1
    if fewer:
        table.add_column("episodes", justify="right")
    for item in result.summaries:
        cells = [item.learner, f"{item.accuracy:.1%} ± {item.half_width:.1%}"]
        if item.half_width_seeds is not None:
            cells.append(f"± {item.half_width_seeds:.1%}")
        if fewer:
            cells.append(f"{counts[item.learner]:,}")
        table.add_row(*cells)
    screen.print(table)
    for row in rows:
        which = f" (seed {row.seed})" if seeds > 1 else ""
        if row.by_instance:
            cells = [f"{one.instance}: {one.accuracy:.1%} ± {one.half_width:.1%}" for one in row.by_instance]
            screen.print(f"{row.learner} by instance{which}  " + "   ".join(cells))
        if row.tune:
            screen.print(escape(f"{row.learner}{which}: {_trained(row)}"))
    over = "; over seeds by Student's t" if seeds > 1 else ""
    screen.print(f"± is half of a 95 % interval: 1.96 standard errors over episodes{over}")
    if fewer:
        screen.print("fewer episodes are the first ones of the others' list")
    seen = max(row.seen_classes for row in rows)
    if seen:
        screen.print(f"the encoder learned labels of {seen} meta-test classes: they are not unseen")
    if features is not None and not all(row.standardised for row in rows if "rates" not in row.training):
        screen.print("no meta-train clips: features are not standardised")
    if out is not None:
        screen.print(f"wrote {escape(str(out))}")


def _trained(row: Row) -> str:
    """How the encoder was trained with a learner."""
    facts = row.training
    if "rates" in facts:
        named = ", ".join(f"{rate:g}" for rate in facts["rates"])
        chosen = (
            f"best on {facts['val_episodes']} meta-val episodes" if facts["val_accuracies"] else "the middle one"
        )
        how = f"rate {facts['rate']:g} of {named} ({chosen})" if len(facts["rates"]) > 1 else f"rate {named}"
        start = "random weights" if row.features == "random" else row.features
        return f"a network from {start} for each episode, {facts['steps']} steps, {how}"
    tuned = facts["tune"]
    which = "the whole encoder" if row.tune == "all" else f"the last {row.tune} of {tuned['of']} blocks"
    found = ""
    if tuned["val_accuracy"] is not None:
        found = f", {tuned['val_accuracy']:.1%} on meta-val after {tuned['val_accuracy_before']:.1%}"
    return f"{which} of {row.features} trained, step {tuned['kept_step']} of {tuned['steps']} kept{found}"


def self_test(preset: str, *, data: Path | None, seed: int, device: str | None, as_json: bool) -> int:
    """Train a MANN and an LSTM on generated characters; exit 1 if the MANN misses its goal."""
    from vidkit.fewshot import selftest
    from vidkit.train.inference import choose_device

    if data is not None:
        raise ConfigError("--self-test makes its own data", field="--data", hint="leave out --data")
    log = console(stderr=True)

    def report(progress: selftest.Progress) -> None:
        if progress.step == progress.steps or progress.step % max(1, progress.steps // 10) == 0:
            log.print(f"{progress.learner}: step {progress.step:,} of {progress.steps:,}, loss {progress.loss:.3f}")

    result = selftest.run(
        preset, seed=seed, device=str(choose_device(device)), progress=None if as_json else report
    )
    print(selftest.to_json(result) if as_json else selftest.table(result))
    return 1 if result.faults() else 0

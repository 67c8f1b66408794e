"""`vidkit fewshot`: few-shot accuracy with intervals, as a table or JSON; and the self-test of the MANN."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from vidkit.commands.episodes import class_split_of
from vidkit.commands.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.data.episode_lists import EpisodeList
    from vidkit.train.fewshot import Result
    from vidkit.train.fewshot_features import ClipFeatures


def run(
    data: Path | None,
    *,
    init: Path | None,
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
        cache: where features are kept; None: beside `out`, or nowhere without it.
    """
    if data is None:
        raise ConfigError("needs a dataset", field="--data", hint="give --data DIR, or run --self-test without one")
    from vidkit.data.episode_lists import read_episodes
    from vidkit.data.episodes import open_labelled
    from vidkit.train import fewshot
    from vidkit.train.fewshot_config import FewshotConfig
    from vidkit.train.fewshot_features import clip_features
    from vidkit.train.inference import choose_device

    asked = {"way": way, "shot": shot, "query": query, "episodes": episodes}
    config = FewshotConfig(
        learners=learners,  # type: ignore[arg-type]
        seeds=seeds,
        allow_shared_groups=allow_shared_groups,
        instances=instances,
        **{name: value for name, value in asked.items() if value is not None},
        **training,
    )
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
    features = clip_features(
        clips,
        init,
        cache=cache if cache is not None or out is None else out.parent,
        stride=stride,
        batch_size=batch_size,
        workers=workers,
        device=device,
        quiet=as_json,
    )
    log = console(stderr=True)

    def report(name: str, step: int, steps: int, loss: float) -> None:
        if step == steps or step % max(1, steps // 5) < max(1, steps // 100):
            log.print(f"{name}: step {step:,} of {steps:,}, loss {loss:.3f}")

    result = fewshot.evaluate(
        clips,
        features,
        divided,
        config,
        published=published,
        device=place,
        report=None if as_json else report,
    )
    if out is not None:
        fewshot.write_rows(out, result)
    if as_json:
        print_json(
            {
                "rows": [asdict(row) for row in result.rows],
                "summary": [asdict(summary) for summary in result.summaries],
                "interval_over_seeds": fewshot.SEED_INTERVAL,
                "features": None if features.file is None else str(features.file),
                "file": None if out is None else str(out),
            }
        )
    else:
        _render(result, features, out)
    return 0


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


def _render(result: Result, features: ClipFeatures, out: Path | None) -> None:
    screen, first = console(), result.rows[0]
    seeds = len(result.config.seeds)
    kind = f"{first.way}-way {first.shot}-shot, {first.query} queries a class"
    tested = f"{first.episodes:,} episodes of {first.classes} meta-test classes"
    several = f" for each of {seeds} seeds" if seeds > 1 else ""
    made = "computed" if features.computed else "from the cache"
    kept = "" if features.file is None else f", {features.file}"
    screen.print(escape(f"features: {features.name}, {first.width} numbers a clip ({made}{kept})"))
    table = Table(
        title=f"{kind}: {tested}{several}, chance {first.chance:.1%}",
        title_justify="left",
    )
    table.add_column("learner")
    table.add_column("accuracy", justify="right")
    if seeds > 1:
        table.add_column("over seeds", justify="right")
    for item in result.summaries:
        cells = [item.learner, f"{item.accuracy:.1%} ± {item.half_width:.1%}"]
        if item.half_width_seeds is not None:
            cells.append(f"± {item.half_width_seeds:.1%}")
        table.add_row(*cells)
    screen.print(table)
    for row in result.rows:
        if row.by_instance:
            cells = [f"{one.instance}: {one.accuracy:.1%} ± {one.half_width:.1%}" for one in row.by_instance]
            which = f" (seed {row.seed})" if seeds > 1 else ""
            screen.print(f"{row.learner} by instance{which}  " + "   ".join(cells))
    over = "; over seeds by Student's t" if seeds > 1 else ""
    screen.print(f"± is half of a 95 % interval: 1.96 standard errors over episodes{over}")
    if first.seen_classes:
        screen.print(f"the encoder learned labels of {first.seen_classes} meta-test classes: they are not unseen")
    if not first.standardised:
        screen.print("no meta-train clips: features are not standardised")
    if out is not None:
        screen.print(f"wrote {escape(str(out))}")


def self_test(preset: str, *, data: Path | None, seed: int, device: str | None, as_json: bool) -> int:
    """Train a MANN and an LSTM on generated characters; exit 1 if the MANN misses its goal."""
    from vidkit.train import selftest
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

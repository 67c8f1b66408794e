"""`vidkit fewshot`: few-shot accuracy with intervals, as a table or JSON; and the self-test of the MANN."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.cli import options
from vidkit.cli.fewshot.classes import Chosen, by_protocol, choose, too_few_clips
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.fewshot.episodes.lists import EpisodeList
    from vidkit.fewshot.inputs.encoder import Init

EXAMPLE = "vidkit fewshot --data k400 --init runs/pre/checkpoints/last.pt --learner proto --learner mann --shot 5"

_EPISODES = "Episodes"
_NETWORKS = "Learners with networks"
_TUNING = "Encoders that learn"
_FEATURES = "Features"

#: Of --layer: the one that does best on meta-val.
BEST = "best"
_SELF_TEST = "Self-test"


def run(
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="A built dataset.", show_default=False)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="CKPT|random",
            help="Its encoder, or one with random weights; without it, pixels.",
            show_default=False,
        ),
    ] = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(
            help="May be repeated; by default proto. On clips as one vector: proto, nn, linear, maml. On their "
            "steps: simpleshot, cosine, diagonal, chamfer, otam, baseline++, trx, mann, blackbox. On clips "
            "themselves: finetune, scratch.",
            show_default=False,
        ),
    ] = None,
    way: options.Way = None,
    shot: options.Shot = None,
    query: options.Query = None,
    episodes: Annotated[
        int | None,
        typer.Option(
            help="Test episodes of each seed; by default 600.", min=2, show_default=False, rich_help_panel=_EPISODES
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(help="How many, each with its own episodes and weights.", min=1, rich_help_panel=_EPISODES),
    ] = 1,
    seed: Annotated[int, typer.Option(help="The first of them.", min=0, rich_help_panel=_EPISODES)] = 0,
    episodes_list: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Test episodes of `vidkit episodes`.",
            show_default=False,
            rich_help_panel=_EPISODES,
        ),
    ] = None,
    split_seed: options.SplitSeed = 0,
    shares: options.Shares = None,
    class_split: options.ClassSplit = None,
    benchmark: options.Benchmark = None,
    clip_lists: options.ClipLists = None,
    splits: options.Splits = None,
    allow_shared_groups: options.SharedGroups = None,
    instances: Annotated[
        int | None,
        typer.Option(
            help="Clips of each class in the MANN's sequences; by default 10, or what there are.",
            min=2,
            show_default=False,
            rich_help_panel=_NETWORKS,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            help="Training steps of trx, mann, blackbox, maml and --project.", min=1, rich_help_panel=_NETWORKS
        ),
    ] = 600,
    batch: Annotated[int, typer.Option(help="Episodes in a step.", min=1, rich_help_panel=_NETWORKS)] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.", rich_help_panel=_NETWORKS)] = 3e-3,
    hidden: Annotated[int, typer.Option(help="Width of the networks.", min=1, rich_help_panel=_NETWORKS)] = 128,
    reduce: Annotated[
        int,
        typer.Option(
            help="Principal components that networks see; 0: the features.", min=0, rich_help_panel=_NETWORKS
        ),
    ] = 64,
    project: Annotated[
        int,
        typer.Option(
            help="Width of a projection that proto learns on meta-train; 0: none.",
            min=0,
            rich_help_panel=_NETWORKS,
        ),
    ] = 0,
    tune: Annotated[
        str,
        typer.Option(
            metavar="BLOCKS",
            help="Last blocks of the encoder that learn with proto, cosine, trx, mann, blackbox and maml, or all; "
            "0: frozen.",
            rich_help_panel=_TUNING,
        ),
    ] = "0",
    tune_steps: Annotated[
        int,
        typer.Option(help="Steps of --tune, after the learner's own.", min=0, rich_help_panel=_TUNING),
    ] = 200,
    tune_batch: Annotated[int, typer.Option(help="Episodes in such a step.", min=1, rich_help_panel=_TUNING)] = 1,
    tune_rate: Annotated[
        float, typer.Option(help="Learning rate of those blocks.", rich_help_panel=_TUNING)
    ] = 1e-4,
    tune_episodes: Annotated[
        int,
        typer.Option(
            help="Test episodes of finetune and scratch, which train for each.", min=2, rich_help_panel=_TUNING
        ),
    ] = 50,
    finetune_steps: Annotated[
        int,
        typer.Option(help="Steps of finetune and scratch in an episode.", min=1, rich_help_panel=_TUNING),
    ] = 40,
    finetune_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Their learning rate; repeated: meta-val chooses one. By default 1e-4, 3e-4 and 1e-3.",
            show_default=False,
            rich_help_panel=_TUNING,
        ),
    ] = None,
    layer_decay: Annotated[
        float,
        typer.Option(
            help="Of finetune and scratch: a layer's rate as a share of the next one's.", rich_help_panel=_TUNING
        ),
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="A line for each result.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keeps features; by default beside --out.",
            show_default=False,
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Of the encoder, from 1; by default the last. best: what does best on meta-val classes.",
            show_default=False,
            rich_help_panel=_FEATURES,
        ),
    ] = None,
    norm: Annotated[
        bool,
        typer.Option("--norm/--no-norm", help="After the encoder's final norm.", rich_help_panel=_FEATURES),
    ] = True,
    standardise: Annotated[
        bool,
        typer.Option(
            "--standardise/--no-standardise",
            help="Divide each number by its deviation over meta-train clips; its mean goes either way.",
            rich_help_panel=_FEATURES,
        ),
    ] = True,
    discriminant: Annotated[
        str,
        typer.Option(
            help="See clips along the directions in which meta-train classes differ (LDA): none, of the whole "
            "clip, or by its steps.",
            metavar="none|clip|steps",
            rich_help_panel=_FEATURES,
        ),
    ] = "none",
    readout: Annotated[
        str,
        typer.Option(
            help="mean, mean-std, slots, slots-std or tokens, as of `vidkit extract`.", rich_help_panel=_FEATURES
        ),
    ] = "slots-std",
    stride: options.Stride = None,
    batch_size: Annotated[
        int, typer.Option(help="Clips at a time, of the encoder.", min=1, rich_help_panel=_FEATURES)
    ] = 16,
    workers: Annotated[
        int, typer.Option(help="Loader processes, of the encoder.", min=0, rich_help_panel=_FEATURES)
    ] = 2,
    device: options.Device = None,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Instead: does the MANN learn generated characters? Exit 1 if not.",
            rich_help_panel=_SELF_TEST,
        ),
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Of the self-test: quick or full; by default quick.",
            show_default=False,
            rich_help_panel=_SELF_TEST,
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Accuracy on classes that were not seen in training, from a few labelled clips each, with 95 % intervals."""
    if self_test:
        return _self_test(preset or "quick", data=data, seed=seed, device=device, as_json=as_json)
    if preset is not None:
        raise ConfigError("--preset is of the self-test", field="--preset", hint="add --self-test, or leave it out")
    if tune != "all" and not tune.isdecimal():
        raise ConfigError(f"--tune is {tune!r}; expected a number of blocks, or all", field="--tune")
    if layer not in (None, BEST) and not (layer.isdecimal() and int(layer) > 0):
        raise ConfigError(f"--layer is {layer!r}; expected a number from 1, or {BEST}", field="--layer")
    if data is None:
        raise ConfigError("needs a dataset", field="--data", hint="give --data DIR, or run --self-test without one")
    from vidkit.cli.fewshot import result_report
    from vidkit.fewshot import evaluate as fewshot
    from vidkit.fewshot.episodes.lists import read_episodes
    from vidkit.fewshot.inputs.encoder import RANDOM, Seen, check_blocks, check_encoder, open_encoder
    from vidkit.fewshot.inputs.features import clip_features
    from vidkit.fewshot.inputs.leaks import leaks
    from vidkit.fewshot.inputs.pixels import load_pixels, meta_splits_needed
    from vidkit.fewshot.reading import best_reading
    from vidkit.settings.fewshot import ALL_BLOCKS, PIXEL_LEARNERS, FewshotConfig
    from vidkit.train.inference import choose_device

    typed: dict[str, Any] = {"way": way, "shot": shot, "query": query, "episodes": episodes}
    asked, shared = by_protocol(benchmark, typed, allow_shared_groups)
    given: dict[str, Any] = {**asked, "finetune_rates": tuple(sorted(finetune_rate or ())) or None}
    config = FewshotConfig(
        learners=tuple(learner or ("proto",)),  # type: ignore[arg-type]  # checked there
        seeds=tuple(range(seed, seed + seeds)),
        allow_shared_groups=shared,
        instances=instances,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        hidden=hidden,
        project=project,
        standardise=standardise,
        discriminant=discriminant,  # type: ignore[arg-type]  # likewise
        reduce=reduce,
        tune=ALL_BLOCKS if tune == "all" else int(tune),
        tune_steps=tune_steps,
        tune_batch=tune_batch,
        tune_rate=tune_rate,
        tune_episodes=tune_episodes,
        finetune_steps=finetune_steps,
        layer_decay=layer_decay,
        **{name: value for name, value in given.items() if value is not None},
    )
    number = None if layer in (None, BEST) else int(layer)
    seen = Seen(layer=number, norm=norm, readout=readout)  # type: ignore[arg-type]  # checked there
    start: Init | None = None if init is None else RANDOM if init == RANDOM else Path(init)
    check_encoder(config, start)
    if out is not None:
        fewshot.check_target(out)
    place = choose_device(device)
    published: EpisodeList | None = None
    if episodes_list is not None:
        others = {
            **typed,
            "shares": shares,
            "class-split": class_split,
            "benchmark": benchmark,
            "clips": clip_lists,
            "splits": splits,
        }
        _alone(others, allow_shared_groups, split_seed)
        published = read_episodes(episodes_list, data)
        chosen = Chosen(clips=published.clips, drawn=published.clips, split=published.split)
    else:
        chosen = choose(
            data,
            splits=splits,
            split_seed=split_seed,
            shares=shares,
            class_split=class_split,
            benchmark=benchmark,
            clip_lists=clip_lists,
            asked={name: getattr(config, name) for name in ("way", "query", "episodes")},
            allow_shared_groups=shared,
        )
    clips, divided = chosen.drawn, chosen.split
    # before the encoder runs: whatever the episodes lack is known already
    unusable = fewshot.check(clips, divided, config, published=published)
    said = [*chosen.said, *too_few_clips(unusable)]
    if benchmark is not None:
        looked = None if start is None else open_encoder(clips, start, seen=seen, seed=seed, stride=stride)
        said += leaks(looked, clips, divided)
    if not as_json:
        for text in said:
            console().print(text, markup=False)
    kept = cache if cache is not None or out is None else out.parent
    spare = tempfile.TemporaryDirectory() if layer == BEST and kept is None else None
    look: dict[str, Any] = {
        "cache": kept if spare is None else Path(spare.name),
        "seed": seed,
        "stride": stride,
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "quiet": as_json,
    }
    if layer == BEST:
        best = best_reading(chosen.clips, start, divided, config, seen, drawn=clips, **look)
        seen, said = best.seen, [*said, str(best)]
        if not as_json:
            console().print(str(best), markup=False)
    needed = meta_splits_needed(config)
    encoder = pixels = features = None
    if needed:
        encoder = open_encoder(clips, start or RANDOM, seen=seen, seed=seed, stride=stride)
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
    if set(config.learners) - PIXEL_LEARNERS:
        features = clip_features(chosen.clips, start, seen=seen, **look)
    if spare is not None:
        spare.cleanup()
    result = fewshot.evaluate(
        clips,
        features,
        divided,
        config,
        published=published,
        encoder=encoder,
        pixels=pixels,
        benchmark=chosen.benchmark,
        departures=chosen.departures,
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
                "notes": said,
                "features": None if features is None or features.file is None else str(features.file),
                "file": None if out is None else str(out),
            }
        )
    else:
        result_report.render(result, features, out)
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


def _alone(others: dict[str, Any], allow_shared_groups: bool | None, split_seed: int) -> None:
    """A list of episodes has settings of its own: others beside it would not be heard."""
    given = [name for name, value in others.items() if value is not None]
    given += ["allow-shared-groups"] * (allow_shared_groups is not None) + ["split-seed"] * (split_seed != 0)
    if given:
        named = ", ".join(f"--{name}" for name in given)
        raise ConfigError(
            f"--episodes-list brings its own settings; {named} cannot change them",
            field="--episodes-list",
            hint=f"leave out {named}, or make another list with `vidkit episodes`",
        )


def _self_test(preset: str, *, data: Path | None, seed: int, device: str | None, as_json: bool) -> int:
    """Train a MANN and an LSTM on generated characters; exit 1 if the MANN misses its goal."""
    from vidkit.fewshot.selftest import run as selftest
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

"""The command line of few-shot learning. As in `cli`, imports live in the bodies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidkit.cli.options import Device, Json, Stride
from vidkit.errors import ConfigError

_SplitSeed = Annotated[int, typer.Option(help="Of the choice of classes.", min=0)]
_Shares = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Of classes for training, validation, test.", show_default=False),
]
_ClassSplit = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Take the choice of classes from a file.", show_default=False),
]
_Splits = Annotated[
    str | None, typer.Option(help="Clips of these splits only, such as train,val.", show_default=False)
]
_SharedGroups = Annotated[
    bool, typer.Option("--allow-shared-groups", help="Let one video be in support and query.")
]


def episodes(
    dataset: Annotated[Path, typer.Argument(metavar="DIR", help="A built dataset.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="The list; without it, only report.", show_default=False),
    ] = None,
    way: Annotated[int, typer.Option(help="Classes of an episode.", min=1)] = 5,
    shot: Annotated[int, typer.Option(help="Labelled clips of each class.", min=1)] = 1,
    query: Annotated[int, typer.Option(help="Clips of each class to be classified.", min=1)] = 15,
    episodes: Annotated[int, typer.Option(help="Episodes.", min=1)] = 600,
    seed: Annotated[int, typer.Option(help="Of the episodes.", min=0)] = 0,
    meta_split: Annotated[str, typer.Option(help="Classes of train, val or test.")] = "test",
    split_seed: _SplitSeed = 0,
    shares: _Shares = None,
    class_split: _ClassSplit = None,
    splits: _Splits = None,
    allow_shared_groups: _SharedGroups = False,
    json: Json = False,
) -> None:
    """Draw few-shot episodes from a dataset, reproducibly, and write them as a list that others can use."""
    from vidkit.cli.fewshot import episodes as command

    code = command.run(
        dataset,
        out=out,
        way=way,
        shot=shot,
        query=query,
        episodes=episodes,
        seed=seed,
        meta_split=meta_split,
        split_seed=split_seed,
        shares=shares,
        class_split=class_split,
        splits=splits,
        allow_shared_groups=allow_shared_groups,
        as_json=json,
    )
    raise typer.Exit(code)


def fewshot(
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
            help="proto, nn, linear, mann, blackbox, maml, finetune or scratch; may be repeated. By default proto.",
            show_default=False,
        ),
    ] = None,
    way: Annotated[
        int | None, typer.Option(help="Classes of an episode; by default 5.", min=1, show_default=False)
    ] = None,
    shot: Annotated[
        int | None, typer.Option(help="Labelled clips of each class; by default 1.", min=1, show_default=False)
    ] = None,
    query: Annotated[
        int | None,
        typer.Option(help="Clips of each class to be classified; by default 15.", min=1, show_default=False),
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(help="Test episodes of each seed; by default 600.", min=2, show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many, each with its own episodes and weights.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 0,
    episodes_list: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="Test episodes of `vidkit episodes`.", show_default=False),
    ] = None,
    split_seed: _SplitSeed = 0,
    shares: _Shares = None,
    class_split: _ClassSplit = None,
    splits: _Splits = None,
    allow_shared_groups: _SharedGroups = False,
    instances: Annotated[
        int | None,
        typer.Option(
            help="Clips of each class in the MANN's sequences; by default 10, or what there are.",
            min=2,
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps of mann, blackbox, maml and --project.", min=1)] = 600,
    batch: Annotated[int, typer.Option(help="Episodes in a step.", min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 3e-3,
    hidden: Annotated[int, typer.Option(help="Width of the networks.", min=1)] = 128,
    reduce: Annotated[
        int, typer.Option(help="Principal components that networks see; 0: the features.", min=0)
    ] = 64,
    project: Annotated[
        int, typer.Option(help="Width of a projection that proto learns on meta-train; 0: none.", min=0)
    ] = 0,
    tune: Annotated[
        str,
        typer.Option(
            metavar="BLOCKS",
            help="Last blocks of the encoder that learn with proto, mann, blackbox and maml, or all; 0: frozen.",
        ),
    ] = "0",
    tune_steps: Annotated[int, typer.Option(help="Steps of --tune, after the learner's own.", min=0)] = 200,
    tune_batch: Annotated[int, typer.Option(help="Episodes in such a step.", min=1)] = 1,
    tune_rate: Annotated[float, typer.Option(help="Learning rate of those blocks.")] = 1e-4,
    tune_episodes: Annotated[
        int, typer.Option(help="Test episodes of finetune and scratch, which train for each.", min=2)
    ] = 50,
    finetune_steps: Annotated[int, typer.Option(help="Steps of finetune and scratch in an episode.", min=1)] = 40,
    finetune_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Their learning rate; repeated: meta-val chooses one. By default 1e-4, 3e-4 and 1e-3.",
            show_default=False,
        ),
    ] = None,
    layer_decay: Annotated[
        float, typer.Option(help="Of finetune and scratch: a layer's rate as a share of the next one's.")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="A line for each result.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps features; by default beside --out.", show_default=False),
    ] = None,
    stride: Stride = None,
    batch_size: Annotated[int, typer.Option(help="Clips at a time, of the encoder.", min=1)] = 16,
    workers: Annotated[int, typer.Option(help="Loader processes, of the encoder.", min=0)] = 2,
    device: Device = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Instead: does the MANN learn generated characters? Exit 1 if not.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="Of the self-test: quick or full; by default quick.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Accuracy on classes that were not seen in training, from a few labelled clips each, with 95 % intervals."""
    from vidkit.cli.fewshot import fewshot as command

    if self_test:
        raise typer.Exit(command.self_test(preset or "quick", data=data, seed=seed, device=device, as_json=json))
    if preset is not None:
        raise ConfigError("--preset is of the self-test", field="--preset", hint="add --self-test, or leave it out")
    if tune != "all" and not tune.isdecimal():
        raise ConfigError(f"--tune is {tune!r}; expected a number of blocks, or all", field="--tune")
    from vidkit.fewshot.config import ALL_BLOCKS

    code = command.run(
        data,
        init=init,
        learners=tuple(learner or ("proto",)),
        way=way,
        shot=shot,
        query=query,
        episodes=episodes,
        seeds=tuple(range(seed, seed + seeds)),
        episodes_list=episodes_list,
        split_seed=split_seed,
        shares=shares,
        class_split=class_split,
        splits=splits,
        allow_shared_groups=allow_shared_groups,
        instances=instances,
        training={
            "steps": steps,
            "batch": batch,
            "learning_rate": learning_rate,
            "hidden": hidden,
            "project": project,
            "reduce": reduce,
            "tune": ALL_BLOCKS if tune == "all" else int(tune),
            "tune_steps": tune_steps,
            "tune_batch": tune_batch,
            "tune_rate": tune_rate,
            "tune_episodes": tune_episodes,
            "finetune_steps": finetune_steps,
            "layer_decay": layer_decay,
            **({"finetune_rates": tuple(sorted(finetune_rate))} if finetune_rate else {}),
        },
        out=out,
        cache=cache,
        stride=stride,
        batch_size=batch_size,
        workers=workers,
        device=device,
        as_json=json,
    )
    raise typer.Exit(code)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (episodes, fewshot):
        app.command()(command)

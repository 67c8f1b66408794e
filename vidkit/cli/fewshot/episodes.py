"""`vidkit episodes`: what few-shot episodes a dataset allows, and a list of them to publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from vidkit.cli import options
from vidkit.cli.fewshot.classes import by_protocol, choose
from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

EXAMPLE = "vidkit episodes k400 --way 5 --shot 1 --out episodes.jsonl"

_SHOWN = 20


def run(
    dataset: options.Dataset,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="The list; without it, only report.", show_default=False),
    ] = None,
    way: options.Way = None,
    shot: options.Shot = None,
    query: options.Query = None,
    episodes: Annotated[
        int | None,
        typer.Option(help="Episodes; by default 600.", min=1, show_default=False, rich_help_panel="Episodes"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the episodes.", min=0, rich_help_panel="Episodes")] = 0,
    meta_split: Annotated[
        str, typer.Option(help="Classes of train, val or test.", rich_help_panel="Classes and clips")
    ] = "test",
    split_seed: options.SplitSeed = 0,
    shares: options.Shares = None,
    class_split: options.ClassSplit = None,
    benchmark: options.Benchmark = None,
    clip_lists: options.ClipLists = None,
    splits: options.Splits = None,
    allow_shared_groups: options.SharedGroups = None,
    as_json: options.Json = False,
) -> int:
    """Draw few-shot episodes from a dataset, reproducibly, and write them as a list that others can use."""
    from vidkit.fewshot.episodes.class_split import META_SPLITS, MetaSplit, shared_groups
    from vidkit.fewshot.episodes.draw import (
        EpisodeSettings,
        class_counts,
        draw_episodes,
        episode_pool,
        needed_clips,
    )
    from vidkit.fewshot.episodes.lists import write_episodes

    if episodes is not None and episodes < 1:
        raise ConfigError(f"episodes is {episodes}; expected at least 1", field="--episodes")
    if meta_split not in META_SPLITS:
        raise ConfigError(
            f"meta-split is {meta_split!r}; expected one of {', '.join(META_SPLITS)}", field="--meta-split"
        )
    part: MetaSplit = get_args(MetaSplit)[META_SPLITS.index(meta_split)]
    asked, shared = by_protocol(
        benchmark, {"way": way, "shot": shot, "query": query, "episodes": episodes}, allow_shared_groups
    )
    number = asked.pop("episodes") or 600
    given = {name: value for name, value in asked.items() if value is not None}
    settings = EpisodeSettings(seed=seed, allow_shared_groups=shared, **given)
    chosen = choose(
        dataset,
        splits=splits,
        split_seed=split_seed,
        shares=shares,
        class_split=class_split,
        benchmark=benchmark,
        clip_lists=clip_lists,
        asked={**asked, "episodes": number},
        allow_shared_groups=shared,
    )
    clips, divided = chosen.drawn, chosen.split
    pool = episode_pool(clips, settings, divided, part)
    drawn = draw_episodes(pool, number)
    counts = class_counts(pool, drawn)
    sha256 = None if out is None else write_episodes(out, pool, drawn)
    facts: dict[str, Any] = {
        "dataset": str(dataset),
        "name": clips.name,
        "splits": list(clips.splits),
        "clips": {"ok": len(clips), "unlabelled": clips.unlabelled, "failed_or_missing": clips.unusable},
        "class_split": {
            "seed": divided.seed,
            "shares": divided.shares,
            "sha256": divided.sha256,
            "classes": {name: len(divided.names(name)) for name in META_SPLITS},
            "shared_groups": shared_groups(clips, divided),
        },
        "meta_split": meta_split,
        "way": settings.way,
        "shot": settings.shot,
        "query": settings.query,
        "seed": seed,
        "allow_shared_groups": shared,
        "benchmark": chosen.benchmark,
        "departures": list(chosen.departures),
        "notes": list(chosen.notes),
        "episodes": number,
        "classes": len(pool.classes),
        "usable": len(pool.usable),
        "unusable": [bad._asdict() for bad in pool.unusable],
        "episodes_per_class": {"fewest": min(counts.values()), "most": max(counts.values())},
        "never_drawn": [name for name, count in counts.items() if not count],
        "redraws": sum(episode.redraws for episode in drawn),
        "needed_clips": len(needed_clips(drawn)),
        "file": None if out is None else str(out),
        "sha256": sha256,
        "exit_code": 0,
    }
    if as_json:
        print_json(facts)
    else:
        for text in chosen.said:
            console().print(text, markup=False)
        _render(facts)
    return 0


def _render(facts: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = console()
    split, clips = facts["class_split"], facts["clips"]
    sizes = ", ".join(f"meta-{name} {count:,}" for name, count in split["classes"].items())
    made = f"split seed {split['seed']}" if split["seed"] is not None else facts["benchmark"] or "made by hand"
    out.print(f"classes: {sizes} ({made}, sha256 {split['sha256'][:12]})")
    left_out = [f"{clips[name]:,} {name.replace('_', ' ')}" for name in clips if name != "ok" and clips[name]]
    out.print(
        f"clips: {clips['ok']:,} of splits {', '.join(facts['splits'])}"
        + (f" ({', '.join(left_out)})" if left_out else "")
    )
    for pair, count in split["shared_groups"].items():
        if count:
            out.print(f"videos with clips in classes of both meta-{pair.replace('-', ' and meta-')}: {count:,}")
    part = f"meta-{facts['meta_split']}"
    if facts["unusable"]:
        few = f"{len(facts['unusable']):,} of {facts['classes']:,} classes of {part}"
        table = Table(title=f"{few} have too few clips, and are in no episode", title_justify="left")
        for column in ("class", "clips", "videos", "why"):
            table.add_column(column, overflow="fold")
        for bad in facts["unusable"][:_SHOWN]:
            table.add_row(escape(bad["name"]), str(bad["clips"]), str(bad["groups"]), escape(bad["reason"]))
        out.print(table)
        if len(facts["unusable"]) > _SHOWN:
            out.print(f"... and {len(facts['unusable']) - _SHOWN:,} more; --json lists all")
    kind = f"{facts['way']}-way {facts['shot']}-shot with {facts['query']} queries (seed {facts['seed']})"
    out.print(f"episodes: {facts['episodes']:,}, {kind}, of {facts['usable']:,} classes of {part}")
    each = facts["episodes_per_class"]
    out.print(
        f"a class is in {each['fewest']:,} to {each['most']:,} episodes; all use {facts['needed_clips']:,} clips"
    )
    if facts["redraws"]:
        out.print(f"classes drawn anew because they show the same few videos: {facts['redraws']:,} times")
    if facts["file"] is not None:
        out.print(f"wrote {escape(facts['file'])} (sha256 {facts['sha256']})")
    else:
        out.print("nothing was written: give --out FILE for the list")

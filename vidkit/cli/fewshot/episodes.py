"""`vidkit episodes`: what few-shot episodes a dataset allows, and a list of them to publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.markup import escape
from rich.table import Table

from vidkit.cli.output import console, print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.fewshot.episodes.class_split import ClassSplit
    from vidkit.fewshot.episodes.draw import LabelledClips

_SHOWN = 20


def run(
    dataset: Path,
    *,
    out: Path | None,
    way: int,
    shot: int,
    query: int,
    episodes: int,
    seed: int,
    meta_split: str,
    split_seed: int,
    shares: str | None,
    class_split: Path | None,
    splits: str | None,
    allow_shared_groups: bool,
    as_json: bool,
) -> int:
    """Draw episodes and say what they are made of; write the list where `out` is given.

    Args:
        shares: three numbers with commas, or None for miniImageNet's.
        class_split: a file to take the division of classes from, instead of `split_seed` and `shares`.
        splits: the dataset's own splits to draw clips from, with commas; None: all.
    """
    from vidkit.fewshot.episodes.class_split import META_SPLITS, MetaSplit, shared_groups
    from vidkit.fewshot.episodes.draw import (
        EpisodeSettings,
        class_counts,
        draw_episodes,
        episode_pool,
        needed_clips,
        open_labelled,
    )
    from vidkit.fewshot.episodes.lists import write_episodes

    if episodes < 1:
        raise ConfigError(f"episodes is {episodes}; expected at least 1", field="--episodes")
    if meta_split not in META_SPLITS:
        raise ConfigError(
            f"meta-split is {meta_split!r}; expected one of {', '.join(META_SPLITS)}", field="--meta-split"
        )
    part: MetaSplit = get_args(MetaSplit)[META_SPLITS.index(meta_split)]
    settings = EpisodeSettings(way=way, shot=shot, query=query, seed=seed, allow_shared_groups=allow_shared_groups)
    clips = open_labelled(dataset, None if splits is None else [name.strip() for name in splits.split(",")])
    divided = class_split_of(clips, split_seed, shares, class_split)
    pool = episode_pool(clips, settings, divided, part)
    drawn = draw_episodes(pool, episodes)
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
        "way": way,
        "shot": shot,
        "query": query,
        "seed": seed,
        "allow_shared_groups": allow_shared_groups,
        "episodes": episodes,
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
        _render(facts)
    return 0


def class_split_of(clips: LabelledClips, seed: int, shares: str | None, file: Path | None) -> ClassSplit:
    """The division of classes that the options ask for.

    Raises:
        ConfigError: options that exclude each other, or shares that are no numbers.
        AnnotationError, DatasetError: a file that is no class split, or one of other classes.
    """
    from vidkit.fewshot.episodes.class_split import SHARES, read_class_split, split_classes

    if file is not None:
        if shares is not None:
            raise ConfigError(
                "--class-split and --shares exclude each other", hint="leave one out: the file has its own shares"
            )
        return read_class_split(file, clips)
    try:
        numbers = SHARES if shares is None else tuple(float(text) for text in shares.split(","))
    except ValueError:
        raise ConfigError(
            f"--shares {shares!r} is not three numbers", hint="for example --shares 0.64,0.16,0.2"
        ) from None
    return split_classes(clips, seed=seed, shares=numbers)


def _render(facts: dict[str, Any]) -> None:
    out = console()
    split, clips = facts["class_split"], facts["clips"]
    sizes = ", ".join(f"meta-{name} {count:,}" for name, count in split["classes"].items())
    made = f"split seed {split['seed']}" if split["seed"] is not None else "made by hand"
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

"""Generated Something-Something v2, TinyVIRAT v1 and v2, and the demo: file names and annotation files.

Each function plans one dataset: which clip lies where, which video it shows, and the text of every
annotation file. Nothing is drawn or written here (`synthetic_layouts` does that), so a plan is quick
to make and easy to check. All of it is a function of the request.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vidkit.data.manifests import class_list
from vidkit.data.synth.clips import NUM_CLASSES, ClipLook, class_name
from vidkit.data.synth.plan import (
    IDS,
    LOOKS,
    SETS,
    THREE_SPLITS,
    Plan,
    PlannedClip,
    Request,
    apportion,
    balanced,
    json_text,
    share_videos,
    split_counts,
)
from vidkit.errors import ConfigError

# --- Something-Something v2 --------------------------------------------------------------------

_THINGS = ("a cup", "a book", "blue pen", "scissors", 'a "tin" box', "keys", "teddy bear", "café menu")


def ssv2(ask: Request) -> Plan:
    """Something-Something v2: one folder of numbered WebM files, and JSON label files (test without labels)."""
    templates = class_list("ssv2").names
    keys = balanced(ask, THREE_SPLITS)
    videos = share_videos(keys, ask.distinct)
    rng = ask.rng(IDS)
    numbers = rng.choice(
        np.arange(1, max(220848, 4 * (ask.clips + ask.extra))), ask.clips + ask.extra, replace=False
    )
    clips: list[PlannedClip] = []
    records: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    answers = []
    for number, (split, c), video in zip(numbers, keys, videos, strict=False):
        frames = int(ask.rng(LOOKS, video).integers(24, 73))  # 2 to 6 s
        look = ask.look(c, 427, 240, frames, 12.0)
        path = f"20bn-something-something-v2/{number}.webm"
        clips.append(PlannedClip(path=path, split=split, video=video, look=look, codec="vp9"))
        if split == "test":
            records[split].append({"id": str(number)})
            answers.append(f"{number};{templates[c]}\n")
        else:
            records[split].append(_ssv2_record(str(number), templates[c], rng))
    extras = tuple(
        PlannedClip(
            path=f"20bn-something-something-v2/{number}.webm",
            split=clip.split,
            video=clip.video,
            look=clip.look,
            codec="vp9",
        )
        for number, clip in zip(numbers[ask.clips :], itertools.cycle(clips), strict=False)
    )
    name = "something-something-v2-{}.json"
    texts = {
        name.format("validation" if split == "val" else split): json_text(found)
        for split, found in records.items()
        if found
    }
    texts[name.format("labels")] = json_text({template: str(i) for i, template in enumerate(templates)})
    if answers:
        texts["test-answers.csv"] = "".join(answers)
    return Plan(clips=tuple(clips), extras=extras, texts=texts, classes=templates[: ask.classes])


def _ssv2_record(number: str, template: str, rng: np.random.Generator) -> dict[str, Any]:
    words: list[str] = []

    def thing(match: re.Match[str]) -> str:
        words.append(_THINGS[int(rng.integers(0, len(_THINGS)))])
        return words[-1]

    label = re.sub(r"\bsomething\b", thing, template, flags=re.IGNORECASE)
    bracketed = re.sub(r"\b(something)\b", r"[\1]", template, flags=re.IGNORECASE)
    return {"id": number, "label": label[0].lower() + label[1:], "template": bracketed, "placeholders": words}


# --- TinyVIRAT ---------------------------------------------------------------------------------


def label_sets(labels: Sequence[str], count: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """`count` different sets of 1 to 3 labels, each sorted; the ones to be frequent come first.

    Raises:
        ConfigError: there are not so many sets.
    """
    every = [list(itertools.combinations(sorted(labels), size)) for size in (1, 2, 3)]
    if not 1 <= count <= (most := sum(map(len, every))):
        raise ConfigError(f"label_sets is {count}; {len(labels)} labels make 1 to {most} sets of up to 3")
    wanted = [min(count, len(every[0])), 0, 0]
    wanted[2] = min(max((count - wanted[0]) // 4, count - wanted[0] - len(every[1])), len(every[2]))
    wanted[1] = count - wanted[0] - wanted[2]
    chosen = [every[k][i] for k in range(3) for i in rng.permutation(len(every[k]))[: wanted[k]]]
    frequency = {labels: len(labels) + 1.5 * rng.random() for labels in chosen}  # single labels mostly first
    return sorted(chosen, key=lambda labels: frequency[labels])


def _tinyvirat_clips(
    ask: Request, shares: Mapping[str, float]
) -> tuple[list[tuple[str, int]], list[tuple[str, ...]], list[int], list[ClipLook]]:
    """(split, set) of each clip, the sets, the video each shows, and its look."""
    labels = class_list("tinyvirat26").names[: ask.classes]
    sets = label_sets(labels, ask.label_sets or min(118, max(1, ask.clips // 3)), ask.rng(SETS))[: ask.clips]
    zipf = [1 / (rank + 1) for rank in range(len(sets))]
    counts = [1 + more for more in apportion(ask.clips - len(sets), zipf)]
    # splits are dealt out over all clips, so that a full-size tree has exactly the published split sizes
    drawn = ask.rng(SETS, 1).permutation([s for s, count in enumerate(counts) for _ in range(count)])
    keys = [(split, int(s)) for split, s in zip(split_counts(ask.clips, shares), drawn, strict=True)]
    videos = share_videos(keys, ask.distinct)
    looks = []
    for (_, s), video in zip(keys, videos, strict=True):
        rng = ask.rng(LOOKS, video)
        width = int(rng.integers(10, 129))
        height = int(np.clip(width + rng.integers(-6, 7), 10, 128))
        # Kinetics has the first 400 looks, so that the two together do not show one look as two classes
        looks.append(ask.look((400 + s) % NUM_CLASSES, width, height, int(rng.integers(2, 151)), 30.0))
    return keys, sets, videos, looks


def _tinyvirat(ask: Request, shares: Mapping[str, float], version: int) -> Plan:
    keys, sets, videos, looks = _tinyvirat_clips(ask, shares)
    rng = ask.rng(IDS)
    clips, extras = [], []
    records: dict[str, list[dict[str, Any]]] = {split: [] for split in shares}
    scene, left, number = 0, dict.fromkeys(shares, 0), dict.fromkeys(shares, 0)
    scene_of: dict[str, str] = {}
    for i in range(ask.clips + ask.extra):
        (split, s), video, look = keys[i % ask.clips], videos[i % ask.clips], looks[i % ask.clips]
        if left[split] == 0:  # a surveillance video gives some clips, all to one split
            scene, left[split] = scene + 1, int(rng.integers(3, 20))
            scene_of[split] = f"VIRAT_S_{scene:06d}"
        left[split] -= 1
        withheld = version == 2 and split == "test"
        # ids start again in each split, and have gaps
        number[split] += 1 if withheld else int(rng.integers(1, 5))
        name = (
            str(number[split])
            if version == 1
            else f"{number[split] - 1:05d}"
            if withheld
            else f"{number[split]:06d}"
        )
        path = f"{name}.mp4" if withheld else f"{scene_of[split]}/{name}.mp4"
        clip = PlannedClip(path=f"videos/{split}/{path}", split=split, video=video, look=look)
        if i >= ask.clips:
            extras.append(clip)
            continue
        clips.append(clip)
        record: dict[str, Any] = {"id": number[split] if version == 1 else name}
        if version == 2 and not withheld:
            record["video_id"] = scene_of[split]
            if rng.random() < 0.2:
                record["clip_id"] = int(rng.integers(0, 10**6))
        record |= {"path": path, "dim": [look.frames, look.height, look.width]}
        if not withheld:
            record["label"] = [sets[s][j] for j in rng.permutation(len(sets[s]))]  # their order means nothing
        records[split].append(record)
    if version == 1:
        texts = {f"tiny_{split}.json": json_text({"tubes": found}) for split, found in records.items() if found}
    else:
        names = {"train": "tiny_train_v2.json", "val": "tiny_val_v2.json", "test": "tiny_test_v2_public.json"}
        texts = {names[split]: json_text(found) for split, found in records.items() if found}
        texts["class_map.json"] = json_text(class_list("tinyvirat26").ids)
    classes = tuple("+".join(labels) for labels in sets)
    return Plan(clips=tuple(clips), extras=tuple(extras), texts=texts, classes=classes)


def tinyvirat_v1(ask: Request) -> Plan:
    """TinyVIRAT, first release: train and test, at the published 7,663 to 5,166."""
    return _tinyvirat(ask, {"train": 7663, "test": 5166}, version=1)


def tinyvirat_v2(ask: Request) -> Plan:
    """TinyVIRAT, second release: train, val and test, at the published 16,950 to 3,308 to 6,097."""
    return _tinyvirat(ask, {"train": 16950, "val": 3308, "test": 6097}, version=2)


# --- the demo ----------------------------------------------------------------------------------


def demo(ask: Request) -> Plan:
    """Class folders in split folders, small clips: what there is to try when no data are at hand."""
    keys = balanced(ask, ask.splits({"train": 0.7, "val": 0.15, "test": 0.15}))
    videos = share_videos(keys, ask.distinct)
    clips = tuple(
        PlannedClip(
            path=f"{split}/{class_name(c)}/{i:06d}.mp4", split=split, video=v, look=ask.look(c, 96, 72, 48, 24.0)
        )
        for i, ((split, c), v) in enumerate(zip(keys, videos, strict=True))
    )
    return Plan(clips=clips, texts={}, classes=tuple(class_name(c) for c in range(ask.classes)))

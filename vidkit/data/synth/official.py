"""Generated UCF101 and HMDB51: AVI files in class folders, and the official lists of which is for what."""

from __future__ import annotations

from collections import Counter

from vidkit.data.manifests import class_list
from vidkit.data.synth.plan import IDS, LOOKS, Plan, PlannedClip, Request, balanced, share_videos

_FILMS = ("April_09", "#20_Rhythm", "50_FIRST_DATES", "Fellowship_1", "The_Boondock_Saints", "veoh_harold")


def ucf101(ask: Request) -> Plan:
    """UCF101: groups of clips of one video, those from g01 to g07 for tests; lists of the first division."""
    names = class_list("ucf101").names
    keys = balanced(ask, {"train": 9537, "test": 3783})
    videos = share_videos(keys, ask.distinct)
    seen: Counter[tuple[str, int]] = Counter()
    clips, lines = [], {"train": [], "test": []}  # type: ignore[var-annotated]
    for (split, c), video in zip(keys, videos, strict=True):
        k, (first, groups) = seen[split, c], {"train": (8, 18), "test": (1, 7)}[split]
        seen[split, c] += 1
        # four clips of a group, then the next group; where there are more, further clips of each
        group, number = first + k // 4 % groups, 1 + k % 4 + 4 * (k // (4 * groups))
        name = f"{names[c]}/v_{names[c]}_g{group:02}_c{number:02}.avi"
        clips.append(_clip(ask, f"UCF-101/{name}", split, c, video, (320, 240), 25.0))
        lines[split].append(f"{name} {c + 1}" if split == "train" else name)
    texts = {f"ucfTrainTestlist/{part}list01.txt": _text(found) for part, found in lines.items() if found}
    texts["ucfTrainTestlist/classInd.txt"] = _text([f"{i} {name}" for i, name in enumerate(names, 1)])
    extras = [f"UCF-101/{names[0]}/v_{names[0]}_g99_c{i:02}.avi" for i in range(1, ask.extra + 1)]
    return _plan(ask, clips, extras, texts, names)


def hmdb51(ask: Request) -> Plan:
    """HMDB51: names that begin with a film; each class's list says 1 (training), 2 (test) or 0 (unused)."""
    names = class_list("hmdb51").names
    keys = balanced(ask, {"train": 3570, "test": 1530, "unused": 1666})
    videos = share_videos(keys, ask.distinct)
    rng = ask.rng(IDS)
    clips: list[PlannedClip] = []
    lines: dict[int, list[str]] = {}
    for i, ((split, c), video) in enumerate(zip(keys, videos, strict=True)):
        # films of one split are in no other
        film = f"{_FILMS[int(rng.integers(len(_FILMS)))]}_{split[:2]}"
        body, camera, view, quality = (
            words[int(rng.integers(len(words)))]
            for words in (("f", "h", "u", "l"), ("cm", "nm"), ("ba", "fr", "le", "ri"), ("goo", "med", "bad"))
        )
        name = f"{film}_{names[c]}_{body}_{camera}_np1_{view}_{quality}_{i}.avi"
        clips.append(_clip(ask, f"hmdb51_org/{names[c]}/{name}", split, c, video, (320, 240), 30.0))
        lines.setdefault(c, []).append(f"{name} {('unused', 'train', 'test').index(split)} ")
    folder = "testTrainMulti_7030_splits"
    texts = {f"{folder}/{names[c]}_test_split1.txt": _text(found) for c, found in lines.items()}
    extras = [f"hmdb51_org/{names[0]}/more_{names[0]}_u_nm_np1_ba_med_{i}.avi" for i in range(ask.extra)]
    return _plan(ask, clips, extras, texts, names)


def _clip(
    ask: Request, path: str, split: str, c: int, video: int, size: tuple[int, int], fps: float
) -> PlannedClip:
    frames = int(ask.rng(LOOKS, video).integers(40, 120))
    return PlannedClip(path=path, split=split, video=video, look=ask.look(c, *size, frames, fps), codec="mpeg4")


def _plan(
    ask: Request, clips: list[PlannedClip], extras: list[str], texts: dict[str, str], names: tuple[str, ...]
) -> Plan:
    first = clips[0]
    more = [
        PlannedClip(path=p, split=first.split, video=first.video, look=first.look, codec="mpeg4") for p in extras
    ]
    return Plan(clips=tuple(clips), extras=tuple(more), texts=texts, classes=names[: ask.classes])


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)

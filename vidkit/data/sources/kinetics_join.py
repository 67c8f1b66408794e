"""Kinetics annotation rows joined with the videos that carry their YouTube ids and times."""

from __future__ import annotations

from collections.abc import Iterable

from vidkit.data.paths import path_to_text, text_to_path
from vidkit.data.sources.kinetics_csv import KineticsRow
from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.data.sources.parts.endings import stem_of
from vidkit.data.sources.parts.rows import ANNOTATED, COPIES, FOUND, MISSING, UNANNOTATED, Rows, note
from vidkit.data.sources.youtube import (
    BARE,
    START_ALONE,
    TIMED,
    Fit,
    YoutubeIndex,
    is_youtube_id,
    parse_name,
    times_text,
)
from vidkit.data.tables import Matching, Try
from vidkit.errors import display_path

OTHER_FOLDER = "folder's class differs from the annotation (the annotation holds)"
OTHER_SPLIT = "folder's split differs from the annotation (the annotation holds)"
SHARED = "segments of one file without times (only a whole video can serve them)"


def join(annotated: Iterable[KineticsRow], index: YoutubeIndex, lookup: ClassLookup, rows: Rows) -> None:
    """One clip row for each annotation row, with the video that carries its YouTube id and times.

    Further videos of the same clip are tried where the first cannot be used. A file without times in its name may
    be the whole video or one segment, trimmed already: where several segments are annotated, it must be whole.
    """
    matching = rows.matching
    videos, outside = index.files.videos, index.files.outside
    count = matching.count
    untimed: dict[int, list[int]] = {}
    for item in annotated:
        count(ANNOTATED)
        label = lookup.find(item.label) if item.label is not None else None
        labels = [label] if label is not None else [item.label] if item.label else []
        times = None if item.start_s is None or item.end_s is None else times_text(item.start_s, item.end_s)
        known = is_youtube_id(item.youtube_id)
        native = item.youtube_id if known else f"{item.file}:{item.row}"
        if known and times is not None:
            native = f"{item.youtube_id}_{times}"
        found = index.find(item.youtube_id, times, label) if known else []
        path, start_s, end_s, error, message, tries = None, None, None, None, None, None
        if found:
            path = videos[found[0].video]
            count(FOUND)
            if len(found) > 1:
                count(COPIES, f"{native}: {display_path(path)} and {len(found) - 1} more")
                tries = _tries(found, item, videos)
            folder = index.folders.of(path)
            if folder.label is not None and label is not None and folder.label != label:
                count(OTHER_FOLDER, f"{display_path(path)}: annotated {label!r}")
            if folder.split is not None and folder.split != item.split:
                count(OTHER_SPLIT, f"{display_path(path)}: annotated {item.split!r}")
            if found[0].form == BARE:  # it may be the whole video; the build looks at its length
                start_s, end_s = item.start_s, item.end_s
        if path in outside:
            error, message = "unsafe-path", "the file is a link that leads out of the source folder"
        elif item.problem is not None:
            error, message = "bad-annotation", item.problem
        elif item.label is not None and label is None:
            error = "unknown-label"
            text = f"{item.label!r} is in no class list of this source"
            message = note(item.file, item.row, "label", text, unit=item.unit)
        elif path is None:
            count(MISSING, native)
            error, message = "missing", _looked_for(item.youtube_id, times, index)
        row = rows.add(
            native,
            None if error == "unsafe-path" else path,
            item.split,
            labels,
            file=item.file,
            row=item.row,
            unit=item.unit,
            group=item.youtube_id if known else None,
            start_s=start_s,
            end_s=end_s,
            error=error,
            message=message,
            tries=tries if error is None else None,
        )
        if error is None and row is not None and times is not None and (tries or found[0].form != TIMED):
            for fit in found:
                if fit.form >= START_ALONE:
                    untimed.setdefault(fit.video, []).append(row)
    for video, claimants in untimed.items():
        if len(claimants) > 1:
            _share(video, claimants, index, rows)


def _tries(found: list[Fit], item: KineticsRow, videos: list[str]) -> list[Try] | None:
    """The files of one clip in the order to try them. Without annotated times only those of one name are copies."""
    first = found[0]
    if item.start_s is None:
        stem = parse_name(stem_of(videos[first.video]))
        found = [fit for fit in found if parse_name(stem_of(videos[fit.video])) == stem]
    made = [
        Try(videos[fit.video], item.start_s, item.end_s) if fit.form == BARE else Try(videos[fit.video])
        for fit in found
        if fit.outside == first.outside
    ]
    return made if len(made) > 1 else None


def _share(video: int, claimants: list[int], index: YoutubeIndex, rows: Rows) -> None:
    """Several rows mean one file whose name does not say which segment it is.

    The one row that agrees with the file's folder in class, or in class and split, may have it as it is. The
    others can only be cut out of a whole video; a file that is named by its start is none.
    """
    clips = rows.clips
    path = index.files.videos[video]
    stem = stem_of(path)
    segments = {clips.clip_id[row].partition("#")[0] for row in claimants}
    if len(segments) < 2:  # the same segment in two splits
        return
    folder = index.folders.of(path)
    mine = [row for row in claimants if folder.label is not None and folder.label in clips.labels[row]]
    if len({clips.clip_id[row].partition("#")[0] for row in mine}) > 1:
        mine = [row for row in mine if folder.split == clips.split[row]]
    agree = {clips.clip_id[row].partition("#")[0] for row in mine}
    start_alone = parse_name(stem) is None
    for row in claimants:
        rows.matching.count(SHARED, clips.clip_id[row])
        if len(agree) == 1 and row in mine:
            continue
        if not start_alone:
            _must_be_whole(row, path, rows)
            continue
        left = [one for one in clips.tries.pop(row, []) if one.path != path]
        if left:
            _use(row, left, rows)
            continue
        clips.path[row] = None
        clips.error[row] = "missing"
        clips.message[row] = f"{stem} is there, but {len(segments)} annotated segments begin at that second"
        rows.matching.count(FOUND, by=-1)
        rows.matching.count(MISSING, clips.clip_id[row].partition("/")[2])


def _must_be_whole(row: int, path: str, rows: Rows) -> None:
    clips = rows.clips
    first = clips.path[row]
    assert first is not None
    tries = clips.tries.get(row) or [Try(text_to_path(first), clips.start_s[row], clips.end_s[row])]
    clips.tries[row] = [Try(one.path, one.start_s, one.end_s, one.whole or one.path == path) for one in tries]


def _use(row: int, tries: list[Try], rows: Rows) -> None:
    clips = rows.clips
    clips.path[row] = path_to_text(tries[0].path)
    clips.start_s[row], clips.end_s[row] = tries[0].start_s, tries[0].end_s
    if len(tries) > 1 or tries[0].whole:
        clips.tries[row] = tries


def _looked_for(youtube_id: str, times: str | None, index: YoutubeIndex) -> str:
    names = f"{youtube_id}_{times} or {youtube_id}" if times else youtube_id
    near = index.near(youtube_id)
    return f"looked for {names}, with any video ending{f'; {near}' if near else ''}"


def report_files(index: YoutubeIndex, matching: Matching) -> None:
    """Describe the layout, and count the videos that no annotation row took."""
    videos = index.files.videos
    kinds = {"flat": 0, "class folders": 0, "class folders, bare ids": 0, "flat, bare ids": 0}
    for i, path in enumerate(videos):
        if not index.claimed[i]:
            matching.count(UNANNOTATED, display_path(path))
            continue
        kind = "class folders" if index.folders.of(path).is_class else "flat"
        kinds[kind if stem_of(path)[11:] else f"{kind}, bare ids"] += 1
    matching.layout = "; ".join(f"{kind} ({n:,})" for kind, n in kinds.items() if n) or "no video that is annotated"

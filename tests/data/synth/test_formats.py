"""Generated datasets follow the published formats: read back by the simplest code that does so."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.data.sources.trees import read
from tests.data.synth.generated import KINETICS, TINYVIRAT, files, frames_and_size, rows, small, videos
from vidkit.data.manifests import class_list, load_spec
from vidkit.data.synth.kinds import label_sets, tinyvirat_v1, tinyvirat_v2
from vidkit.data.synth.kinetics import kinetics_bare_ids, youtube_ids
from vidkit.data.synth.layouts import write_layout
from vidkit.data.synth.plan import Request
from vidkit.errors import ConfigError

# --- Kinetics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split_folders", [False, True])
@pytest.mark.parametrize("underscores", [False, True])
@pytest.mark.parametrize("kind", ["kinetics-flat", "kinetics-class-folders"])
def test_kinetics_csvs_name_the_files(kind: str, underscores: bool, split_folders: bool, tmp_path: Path) -> None:
    options = {"split_folders": split_folders}
    if kind != "kinetics-flat":
        options["underscores"] = underscores
    report = small(kind, tmp_path, **options)
    expected = set()
    for split in ("train", "val", "test"):
        for row in (found := rows(tmp_path / f"{split}.csv")):
            assert row["split"] == split
            name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
            if kind == "kinetics-flat":
                folder = f"{split}/" if split_folders else ""
            elif split == "test":
                folder = "test/"
            else:
                label = row["label"].replace(" ", "_") if underscores else row["label"]
                folder = f"{split}/{label}/" if split_folders else f"{label}/"
            expected.add(folder + name)
        assert len(found) == report.splits[split]
        labelled = ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
        assert list(found[0]) == (labelled[1:5] if split == "test" else labelled)
    assert videos(tmp_path) == expected
    assert report.classes == KINETICS[:3]
    assert report.splits == {"train": 24, "val": 3, "test": 3}


def test_kinetics_bare_ids_are_class_folders_and_nothing_else(tmp_path: Path) -> None:
    small("kinetics-bare-ids", tmp_path)
    assert set(files(tmp_path)) == videos(tmp_path)
    for name in videos(tmp_path):
        label, file = name.split("/")
        assert label in KINETICS[:3]
        assert re.fullmatch(r"[A-Za-z0-9_-]{11}\.mp4", file)


def test_kinetics_list_files_hold_path_and_class(tmp_path: Path) -> None:
    small("kinetics-listfile", tmp_path, underscores=True)
    found = {}
    for split, count in (("train", 27), ("val", 3)):
        lines = (tmp_path / f"kinetics400_{split}_list_videos.txt").read_text().splitlines()
        assert len(lines) == count
        found.update(line.rsplit(" ", 1) for line in lines)
    assert set(found) == videos(tmp_path)
    assert all(KINETICS[int(label)].replace(" ", "_") == path.split("/")[0] for path, label in found.items())


def test_minikinetics_lists_join_with_the_csvs(tmp_path: Path) -> None:
    small("minikinetics", tmp_path, clips=36, classes=3)
    labels = {
        row["youtube_id"]: (row["label"], split)
        for split in ("train", "val")
        for row in rows(tmp_path / f"{split}.csv")
    }
    listed = {split: (tmp_path / f"{split}_ytid_list.txt").read_text().split() for split in ("train", "val")}
    assert not set(listed["train"]) & set(listed["val"])
    assert len(labels) > len(listed["train"]) + len(listed["val"]) == 36
    for split, ids in listed.items():
        for youtube_id in ids:
            label, csv_split = labels[youtube_id]
            assert csv_split == split
            assert label in class_list("minikinetics200").names[:3]
    assert {name.split("/")[1][:11] for name in videos(tmp_path)} == {*listed["train"], *listed["val"]}


def test_youtube_ids_have_the_true_form_and_the_awkward_ones_are_there() -> None:
    ids = youtube_ids(2000, np.random.default_rng(0))
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", i) for i in ids)
    assert sum(i.startswith("-") for i in ids) >= 100
    assert sum("_" in i for i in ids) >= 100
    assert sum(re.search(r"_\d{6}_", i) is not None for i in ids) >= 100


def test_annotations_can_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    small("kinetics-flat", tmp_path, annotations="annotations/k400")
    assert sorted(path.name for path in (tmp_path / "annotations" / "k400").iterdir()) == [
        "test.csv",
        "train.csv",
        "val.csv",
    ]
    assert not list(tmp_path.glob("*.csv"))


def test_400_classes_fit_and_all_occur() -> None:
    plan = kinetics_bare_ids(Request(kind="kinetics-bare-ids", clips=12098, classes=400, seed=0, distinct=400))
    counts = Counter(clip.path.split("/")[0] for clip in plan.clips)
    assert len(counts) == 400
    assert set(counts.values()) == {30, 31}
    assert len({clip.path for clip in plan.clips}) == 12098
    assert len({clip.video for clip in plan.clips}) == 400


# --- Something-Something v2 ------------------------------------------------------------------------


def test_ssv2_json_follows_the_published_form(tmp_path: Path) -> None:
    report = small("ssv2", tmp_path, clips=60, classes=6)
    templates = class_list("ssv2").names

    def load(name: str) -> Any:
        return json.loads((tmp_path / f"something-something-v2-{name}.json").read_text(encoding="utf-8"))

    labels = load("labels")
    assert list(labels) == list(templates)
    assert [labels[template] for template in templates] == [str(i) for i in range(174)]
    ids = []
    for name, split in (("train", "train"), ("validation", "val")):
        records = load(name)
        assert len(records) == report.splits[split]
        for record in records:
            assert list(record) == ["id", "label", "template", "placeholders"]
            assert re.sub(r"[\[\]]", "", record["template"]) in labels
            assert record["template"].lower().count("[something]") == len(record["placeholders"])
            assert all(thing in record["label"] for thing in record["placeholders"][1:])
            assert "something" not in record["label"]
            ids.append(record["id"])
    assert all(list(record) == ["id"] for record in load("test"))
    answers = dict(line.split(";", 1) for line in (tmp_path / "test-answers.csv").read_text().splitlines())
    assert set(answers) == {record["id"] for record in load("test")}
    assert set(answers.values()) <= set(templates[:6])
    ids += list(answers)
    assert videos(tmp_path) == {f"20bn-something-something-v2/{i}.webm" for i in ids}
    with av.open(os.fspath(tmp_path / min(videos(tmp_path)))) as container:
        assert container.streams.video[0].codec_context.name == "vp9"


# --- TinyVIRAT -------------------------------------------------------------------------------------


def tinyvirat_records(root: Path, version: int) -> dict[str, list[dict[str, Any]]]:
    if version == 1:
        return {s: json.loads((root / f"tiny_{s}.json").read_text())["tubes"] for s in ("train", "test")}
    names = {"train": "tiny_train_v2.json", "val": "tiny_val_v2.json", "test": "tiny_test_v2_public.json"}
    return {split: json.loads((root / name).read_text()) for split, name in names.items()}


@pytest.mark.parametrize("version", [1, 2])
def test_tinyvirat_records_tell_the_truth_about_the_files(version: int, tmp_path: Path) -> None:
    report = write_layout(f"tinyvirat-v{version}", tmp_path, clips=50, label_sets=20, frames=None)
    records = tinyvirat_records(tmp_path, version)
    paths = {f"videos/{split}/{record['path']}" for split, found in records.items() for record in found}
    assert videos(tmp_path) == paths
    sizes, lengths = set(), set()
    for split, found in records.items():
        assert len(found) == report.splits[split]
        for record in found:
            frames, height, width = record["dim"]
            assert frames_and_size(tmp_path / "videos" / split / record["path"]) == (frames, width, height)
            assert 2 <= frames <= 150
            assert 10 <= min(height, width) <= max(height, width) <= 128
            sizes |= {height % 2, width % 2}
            lengths.add(frames < 16)
    assert sizes == lengths == {0, 1}, "odd and even sides, long clips and very short ones"


def test_tinyvirat_v1_form(tmp_path: Path) -> None:
    small("tinyvirat-v1", tmp_path, classes=26, label_sets=10)
    for found in tinyvirat_records(tmp_path, 1).values():
        for record in found:
            assert list(record) == ["id", "path", "dim", "label"]
            assert re.fullmatch(rf"VIRAT_S_\d{{6}}/{record['id']}\.mp4", record["path"])


def test_tinyvirat_v2_form(tmp_path: Path) -> None:
    small("tinyvirat-v2", tmp_path, clips=80, classes=26, label_sets=10)
    assert json.loads((tmp_path / "class_map.json").read_text()) == {name: i for i, name in enumerate(TINYVIRAT)}
    records = tinyvirat_records(tmp_path, 2)
    for split in ("train", "val"):
        numbers = [int(record["id"]) for record in records[split]]
        assert numbers != list(range(numbers[0], numbers[0] + len(numbers))), "ids have gaps"
        for record in records[split]:
            assert record["path"] == f"{record['video_id']}/{record['id']}.mp4"
            assert len(record["id"]) == 6
            assert set(record["label"]) <= set(TINYVIRAT)
    assert {"clip_id" in record for record in records["train"]} == {True, False}
    assert [record["path"] for record in records["test"]] == [f"{i:05d}.mp4" for i in range(len(records["test"]))]
    assert all(list(record) == ["id", "path", "dim"] for record in records["test"])


@pytest.mark.parametrize(
    ("plan", "sizes"),
    [(tinyvirat_v1, {"train": 7663, "test": 5166}), (tinyvirat_v2, {"train": 16950, "val": 3308, "test": 6097})],
)
@pytest.mark.parametrize("count", [118, 150])
def test_full_size_tinyvirat(plan: Any, sizes: dict[str, int], count: int) -> None:
    made = plan(Request(kind="t", clips=sum(sizes.values()), classes=26, seed=3, label_sets=count, distinct=600))
    assert Counter(clip.split for clip in made.clips) == sizes
    assert len(set(made.classes)) == count
    by_look = Counter(clip.look.class_index for clip in made.clips)
    assert len(by_look) == count
    assert min(by_look) >= 400, "apart from the looks of the Kinetics classes"
    frequencies = sorted(by_look.values(), reverse=True)
    assert frequencies[0] > 0.1 * sum(sizes.values())
    assert frequencies[-1] < 0.005 * sum(sizes.values())
    assert len({clip.video for clip in made.clips}) == 600
    groups: dict[str, set[str]] = {}
    for clip in made.clips:
        if "VIRAT_S" in clip.path:
            groups.setdefault(clip.path.split("/")[2], set()).add(clip.split)
    assert all(len(splits) == 1 for splits in groups.values()), "no surveillance video in two splits"


def test_every_label_set_occurs_even_when_clips_are_few(tmp_path: Path) -> None:
    report = small("tinyvirat-v1", tmp_path, clips=40, classes=26, label_sets=40)
    found = Counter(
        "+".join(sorted(record["label"]))
        for records in tinyvirat_records(tmp_path, 1).values()
        for record in records
    )
    assert set(found) == set(report.classes)
    assert len(found) == 40
    assert {name.count("+") for name in found} == {0, 1, 2}


def test_order_of_labels_in_a_record_varies(tmp_path: Path) -> None:
    small("tinyvirat-v1", tmp_path, clips=120, classes=5, label_sets=12, size=(16, 16), frames=2)
    orders: dict[frozenset[str], set[tuple[str, ...]]] = {}
    for records in tinyvirat_records(tmp_path, 1).values():
        for record in records:
            orders.setdefault(frozenset(record["label"]), set()).add(tuple(record["label"]))
    assert any(len(seen) > 1 for seen in orders.values())


def test_label_sets_are_distinct_sorted_and_bounded() -> None:
    for count, labels in ((1, TINYVIRAT), (41, TINYVIRAT[:6]), (118, TINYVIRAT), (2951, TINYVIRAT)):
        sets = label_sets(labels, count, np.random.default_rng(0))
        assert len(set(sets)) == count
        assert all(list(s) == sorted(set(s)) and 1 <= len(s) <= 3 for s in sets)
    with pytest.raises(ConfigError, match="label_sets is 42; 6 labels make 1 to 41 sets of up to 3"):
        label_sets(TINYVIRAT[:6], 42, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["ucf101", "hmdb51"])
def test_official_lists_are_read_back_whole(kind: str, tmp_path: Path) -> None:
    """Every clip is found where its list says, with the class of its shape, and no group crosses a split."""
    report = small(kind, tmp_path, clips=90, classes=3, distinct=9, extra=2)
    result = read(kind, tmp_path, spec=load_spec("hmdb51-all" if kind == "hmdb51" else kind).sources[0])
    found = result.table.to_pylist()
    assert len(found) == report.clips == 90
    assert not any(clip["error"] for clip in found)
    assert {clip["path"] for clip in found} | set(report.extra) == videos(tmp_path)
    assert {clip["labels"][0] for clip in found} == set(report.classes) == set(result.classes[:3])
    by_split = {"unused": "val"}
    assert Counter(clip["split"] for clip in found) == {by_split.get(s, s): n for s, n in report.splits.items()}
    groups: dict[str, set[str]] = {}
    for clip in found:
        groups.setdefault(clip["group"], set()).add(clip["split"])
    assert len(groups) > 3
    assert all(len(splits) == 1 for splits in groups.values())
    assert result.matching.counts["present but unannotated"] == 2
    assert not any("not understood" in text for text in result.matching.notes)

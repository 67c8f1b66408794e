"""The merge: label sets, folding, multi-hot ids, leaks and counts, against plain loops."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sources.trees import touch, write
from tests.reference import ref_composite as ref
from vidkit.data.manifests import class_list, load_spec
from vidkit.data.plan.composite import PLAN_SCHEMA, Plan, find_leaks, merge, reconcile
from vidkit.data.sources import READERS, Roots, SourceResult
from vidkit.data.tables import CLIP_SCHEMA, Matching
from vidkit.errors import ConfigError
from vidkit.settings.encode import DatasetSpec, Expectation, LabelSpec, SourceOptions, SourceSpec

SINGLE = ["walk", "jump", "run"]  # not sorted, to see that classes are
MULTI = ["d", "b", "a", "c"]


def spec_of(rule: str = "label-set", most: int | None = 6, **more: Any) -> DatasetSpec:
    return DatasetSpec(
        name="s",
        title="t",
        sources=(
            SourceSpec(name="one", kind="listfile", class_names=tuple(SINGLE)),
            SourceSpec(name="many", kind="tinyvirat", class_names=tuple(MULTI), multi_label=True),
        ),
        labels=LabelSpec(rule=rule, max_classes=most),  # type: ignore[arg-type]
        **more,
    )


def row(source: str, number: int, labels: list[str], split: str = "train", **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(CLIP_SCHEMA.names)
    return (
        blank
        | {
            "clip_id": f"{source}/{number:05d}",
            "source": source,
            "split": split,
            "labels": labels,
            "path": f"{number}.mp4",
        }
        | more
    )


def results_of(rows: list[dict[str, Any]], spec: DatasetSpec) -> dict[str, SourceResult]:
    return {
        source.name: SourceResult(
            table=pa.Table.from_pylist([r for r in rows if r["source"] == source.name], schema=CLIP_SCHEMA),
            matching=Matching(source.name),
            classes=source.class_names,
            root=Path("/nowhere"),
            annotations={},
        )
        for source in spec.sources
    }


def plan_of(rows: list[dict[str, Any]], spec: DatasetSpec | None = None, **options: Any) -> Plan:
    spec = spec or spec_of()
    return merge(spec, results_of(rows, spec), SourceOptions(**options))


def sets(counts: dict[str, int], split: str = "train") -> list[dict[str, Any]]:
    """Rows of the multi-label source: {"a+b": 3} gives three clips of that set."""
    numbers = itertools.count()
    return [row("many", next(numbers), name.split("+"), split) for name, n in counts.items() for _ in range(n)]


def by_id(plan: Plan) -> dict[str, dict[str, Any]]:
    return {item["clip_id"]: item for item in plan.table.to_pylist()}


def test_label_map_has_single_classes_sorted_then_sets_by_rank() -> None:
    plan = plan_of([row("one", 0, ["run"]), *sets({"a": 1, "a+b": 3, "d": 2, "c": 2})], spec_of(most=10))
    assert plan.label_map.classes == ("jump", "run", "walk", "a+b", "c", "d", "a")
    assert plan.label_map.base_labels == (*SINGLE, *MULTI)  # base labels keep the order of their lists
    text = json.dumps(list(plan.label_map.classes), ensure_ascii=False, separators=(",", ":"))
    assert plan.label_map.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert plan.table.schema == PLAN_SCHEMA
    assert by_id(plan)["one/00000"]["class_id"] == 1
    assert by_id(plan)["one/00000"]["multi_hot"] == [2]


def test_sets_beyond_the_limit_go_to_the_largest_kept_subset() -> None:
    # room for 3 sets: a (4), b (3), b+c (3); then c (2), a+b+c (2), a+b (1), d (1), c+d (1)
    counts = {"a": 4, "b": 3, "b+c": 3, "c": 2, "a+b+c": 2, "a+b": 1, "d": 1, "c+d": 1}
    plan = plan_of(sets(counts), spec_of(most=6))
    assert plan.label_map.classes[3:] == ("a", "b", "b+c")
    assert {(item.label_set, item.into, item.clips) for item in plan.folded} == {
        ("a+b+c", "b+c", 2),
        ("a+b", "a", 1),  # a and b both fit; a ranks higher
        ("c", None, 2),
        ("d", None, 1),
        ("c+d", None, 1),
    }
    # in rank order
    assert [item.label_set for item in plan.folded] == ["a+b+c", "c", "a+b", "c+d", "d"]
    failed = [item for item in plan.table.to_pylist() if item["error"]]
    assert {item["error"] for item in failed} == {"label-set-not-kept"}
    assert len(failed) == 4
    assert "'c' and all of its subsets rank below the 6 classes kept" in {item["message"] for item in failed}
    assert all(item["class_id"] is None and item["multi_hot"] for item in failed)
    assert any("8 label sets were found and 3 kept" in note for note in plan.absent.notes)
    assert any(
        "2 sets (3 clips) go to kept subsets, 3 sets (4 clips) have none" in note for note in plan.absent.notes
    )


def test_rank_counts_all_splits_and_missing_clips_but_no_bad_rows() -> None:
    rows = [
        *sets({"a": 2}),
        row("many", 10, ["b"], "test"),
        row("many", 11, ["b"], error="missing", path=None),
        row("many", 12, ["b"], "val"),
        *(row("many", 20 + n, ["c"], error="unsafe-path") for n in range(9)),
        *(row("many", 40 + n, ["d"], error="bad-annotation") for n in range(9)),
    ]
    plan = plan_of(rows, spec_of(most=10))
    assert plan.label_map.classes[3:] == ("b", "a")
    assert by_id(plan)["many/00011"]["error"] == "missing"
    assert by_id(plan)["many/00011"]["class_name"] == "b"
    for number in (20, 40):
        bad = by_id(plan)[f"many/{number:05d}"]
        assert (bad["class_id"], bad["class_name"], bad["multi_hot"]) == (None, None, [])


def test_a_missing_clip_whose_set_is_not_kept_stays_missing() -> None:
    rows = [*sets({"a": 3}), row("many", 9, ["b"], error="missing", message="gone")]
    found = by_id(plan_of(rows, spec_of(most=4)))["many/00009"]
    assert (found["error"], found["message"], found["class_id"]) == ("missing", "gone", None)


def test_label_order_and_repeats_mean_nothing() -> None:
    rows = [row("many", 0, ["b", "a"]), row("many", 1, ["a", "b", "a"]), row("many", 2, ["a", "b"])]
    plan = plan_of(rows)
    assert plan.label_map.classes[3:] == ("a+b",)
    assert {(item["class_name"], tuple(item["multi_hot"])) for item in plan.table.to_pylist()} == {("a+b", (4, 5))}


def test_single_rule() -> None:
    rows = [row("one", 0, ["run"]), row("one", 1, []), row("one", 2, ["run", "walk"]), row("one", 3, ["fly"])]
    spec = spec_of(rule="single", most=None)
    plan = plan_of(rows, spec)
    found = by_id(plan)
    assert plan.label_map.classes == plan.label_map.base_labels == (*SINGLE, *MULTI)
    assert (found["one/00000"]["class_id"], found["one/00000"]["error"]) == (2, None)
    # no label is withheld, not wrong
    assert (found["one/00001"]["class_id"], found["one/00001"]["error"]) == (None, None)
    assert found["one/00002"]["error"] == "bad-annotation"
    assert found["one/00002"]["message"] == "2 labels (run, walk) where the label rule takes one"
    assert found["one/00003"]["error"] == "unknown-label"


def test_single_label_source_under_the_label_set_rule_takes_one_label() -> None:
    found = by_id(plan_of([row("one", 0, ["run", "walk"]), row("many", 0, [])]))
    assert found["one/00000"]["error"] == "bad-annotation"
    assert (found["many/00000"]["error"], found["many/00000"]["class_id"]) == (None, None)


def test_multi_hot_rule() -> None:
    plan = plan_of([row("one", 0, ["run"]), *sets({"a+d": 1})], spec_of(rule="multi-hot", most=None))
    assert plan.label_map.classes == ()
    assert plan.label_map.names == (*SINGLE, *MULTI)
    text = json.dumps([*SINGLE, *MULTI], separators=(",", ":"))
    assert plan.label_map.sha256 == hashlib.sha256(text.encode()).hexdigest()
    found = by_id(plan)
    assert (found["many/00000"]["class_id"], found["many/00000"]["multi_hot"]) == (None, [3, 5])
    assert found["one/00000"]["multi_hot"] == [2]


def test_a_name_in_two_lists_is_two_labels() -> None:
    spec = DatasetSpec(
        name="s",
        title="t",
        sources=(
            SourceSpec(name="one", kind="listfile", class_names=("run", "a")),
            SourceSpec(name="many", kind="tinyvirat", class_names=("a", "b"), multi_label=True),
        ),
        labels=LabelSpec(rule="label-set"),
    )
    plan = plan_of([row("one", 0, ["a"]), row("many", 0, ["a"]), row("many", 1, ["a", "b"])], spec)
    assert plan.label_map.base_labels == ("run", "a", "many:a", "b")
    assert plan.label_map.classes == ("a", "run", "b+many:a", "many:a")
    found = by_id(plan)
    assert found["one/00000"]["class_name"] == "a"
    assert found["many/00000"]["class_name"] == "many:a"
    assert found["many/00001"]["multi_hot"] == [2, 3]


def test_sources_with_lists_of_one_origin_share_their_labels() -> None:
    spec = DatasetSpec(
        name="s",
        title="t",
        sources=(
            SourceSpec(name="k", kind="kinetics", classes="kinetics400"),
            SourceSpec(name="m", kind="minikinetics", classes="minikinetics200"),
        ),
    )
    results = results_of([row("k", 0, ["yoga"]), row("m", 0, ["yoga"])], spec)
    results = {
        name: replace(result, classes=class_list({"k": "kinetics400", "m": "minikinetics200"}[name]).names)
        for name, result in results.items()
    }
    plan = merge(spec, results, SourceOptions())
    assert plan.label_map.classes == class_list("kinetics400").names
    assert plan.table["class_id"].to_pylist() == [class_list("kinetics400").ids["yoga"]] * 2


def test_no_room() -> None:
    with pytest.raises(ConfigError, match="3 classes of single-label sources are more than max_classes = 2"):
        plan_of([], spec_of(most=2))
    assert plan_of(sets({"a": 1}), spec_of(most=3)).label_map.classes == ("jump", "run", "walk")


def test_required_sources() -> None:
    spec = spec_of()
    results = results_of([row("one", 0, ["run"])], spec)
    with pytest.raises(ConfigError, match=r"s needs source 'many'\n  -> give its folder with --many DIR"):
        merge(spec, {"one": results["one"]}, SourceOptions())
    optional = replace(spec, sources=(spec.sources[0], replace(spec.sources[1], required=False)))
    plan = merge(optional, {"one": results["one"]}, SourceOptions())
    assert plan.table.num_rows == 1
    assert plan.label_map.base_labels == tuple(SINGLE)
    assert any("3 classes, not 6" in note for note in plan.absent.notes)


def test_rows_stay_in_the_order_of_the_spec() -> None:
    spec = spec_of()
    results = results_of([row("one", 1, ["run"]), *sets({"a": 2})], spec)
    plan = merge(spec, dict(reversed(results.items())), SourceOptions())
    assert plan.table["clip_id"].to_pylist() == ["one/00001", "many/00000", "many/00001"]
    assert [matching.source for matching in plan.matching] == ["one", "many"]


def test_leaks() -> None:
    rows = [
        row("one", 0, ["run"], "train", group="g"),
        row("one", 1, ["run"], "val", group="g"),
        row("one", 2, ["run"], "val", group="g"),
        row("many", 0, ["a"], "test", group="g"),  # another source's g is another video
        row("one", 3, ["run"], "train", group="h"),
        row("one", 4, ["run"], "test", group="h", error="missing"),
        row("one", 5, ["run"], "train", group="i"),
        row("one", 6, ["run"], "test", group="i", error="bad-annotation"),
        row("one", 7, ["run"], "train"),
        row("one", 8, ["run"], "test"),
    ]
    leaks = plan_of(rows).leaks
    assert [(leak.source, leak.value, leak.splits, leak.clip_ids) for leak in leaks] == [
        ("one", "g", ("train", "val"), ("one/00000", "one/00001", "one/00002")),
        ("one", "h", ("test", "train"), ("one/00003", "one/00004")),
    ]
    assert {leak.kind for leak in leaks} == {"group"}


def test_reconcile_plan_and_ledger() -> None:
    expect = tuple(
        Expectation(what=what, value=value, where="w", version=version)
        for what, value, version in [
            ("classes", 4, None),
            ("clips", 5, None),
            ("clips/one", 1, None),
            ("clips/many/test", 2, None),
            ("clips/train", 2, "v1"),
            ("clips/train", 99, "v2"),
        ]
    )
    spec = spec_of(expect=expect)
    rows = [
        row("one", 0, ["run"]),
        *sets({"a": 2}, "test"),
        row("many", 8, ["a"]),
        row("many", 9, ["a"], error="missing"),
    ]
    plan = plan_of(rows, spec)
    found = reconcile(spec, plan.table, classes=len(plan.label_map.names), versions={"one": None, "many": "v1"})
    assert [(item.what, item.expected, item.found, item.agrees) for item in found] == [
        ("classes", 4, 4, True),
        ("clips", 5, 4, False),
        ("clips/one", 1, 1, True),
        ("clips/many/test", 2, 2, True),
        ("clips/train", 2, 2, True),
    ]
    status = pa.array(["ok", "failed", "ok", "ok", "missing"])
    ledger = plan.table.append_column("status", status)
    assert [item.found for item in reconcile(spec, ledger, classes=4)] == [4, 3, 1, 1]


def test_absent_classes() -> None:
    plan = plan_of([row("one", 0, ["run"]), row("one", 1, ["walk"], error="missing"), *sets({"a": 1})])
    assert plan.absent.classes == ("jump", "walk")
    assert "2 of 4 classes have no clip on disk: jump, walk" in plan.absent.notes
    plan = plan_of([row("one", 0, ["run"])], spec_of(rule="multi-hot", most=None))
    assert plan.absent.classes == ("walk", "jump", *MULTI)


# --- against plain loops, on random tables -------------------------------------------------------

LABELS = st.lists(st.sampled_from(MULTI), max_size=4)
ERRORS = st.sampled_from([None, None, None, "missing", "bad-annotation", "unsafe-path"])
SPLITS = st.sampled_from(["train", "val", "test"])
GROUPS = st.sampled_from([None, "g", "h", "i"])


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    many = draw(st.lists(st.tuples(LABELS, ERRORS, SPLITS, GROUPS), max_size=25))
    ones = draw(
        st.lists(st.tuples(st.lists(st.sampled_from(SINGLE), max_size=2), ERRORS, SPLITS, GROUPS), max_size=6)
    )
    return [
        row(source, i, labels, split, error=error, group=group)
        for source, items in (("one", ones), ("many", many))
        for i, (labels, error, split, group) in enumerate(items)
    ]


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([None, 3, 4, 5, 8, 30]))
def test_merge_is_the_plain_loops(rows: list[dict[str, Any]], most: int | None) -> None:
    plan = plan_of(rows, spec_of(most=most))
    single, multi = {"one": SINGLE}, {"many": MULTI}
    classes = ref.classes_of(rows, single, multi, most)
    kept = ref.ranked_sets(rows, multi)
    assert list(plan.label_map.classes) == classes
    # nothing is lost, and nothing but error, message and targets is changed
    before = [r for name in ("one", "many") for r in rows if r["source"] == name]
    after = plan.table.to_pylist()
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert {k: new[k] for k in CLIP_SCHEMA.names if k not in ("error", "message")} == {
            k: old[k] for k in CLIP_SCHEMA.names if k not in ("error", "message")
        }
        name = ref.class_of(old, classes, kept, multi)
        assert new["class_name"] == name
        assert new["class_id"] == (None if name is None else classes.index(name))
        if old["error"] is not None:
            assert (new["error"], new["message"]) == (old["error"], old["message"])
        elif new["error"] == "bad-annotation":
            assert old["source"] == "one"
            assert len(set(old["labels"])) == 2
            assert new["multi_hot"] == []
            continue
        else:
            lost = name is None and bool(old["labels"])
            assert new["error"] == ("label-set-not-kept" if lost else None)
        if not (old["source"] == "one" and len(set(old["labels"])) > 1):
            assert new["multi_hot"] == ref.multi_hot_of(old, [*SINGLE, *MULTI])


@settings(max_examples=60, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_order_of_rows_and_labels_changes_nothing(rows: list[dict[str, Any]], rng: random.Random) -> None:
    shuffled = [r | {"labels": rng.sample(r["labels"], len(r["labels"]))} for r in rng.sample(rows, len(rows))]
    one, two = plan_of(rows, spec_of(most=5)), plan_of(shuffled, spec_of(most=5))
    assert one.label_map == two.label_map
    assert (one.folded, one.leaks, one.absent) == (two.folded, two.leaks, two.absent)
    targets = ("class_id", "class_name", "multi_hot", "error")
    assert {k: [v[t] for t in targets] for k, v in by_id(one).items()} == {
        k: [v[t] for t in targets] for k, v in by_id(two).items()
    }


@settings(max_examples=60, deadline=None)
@given(tables())
def test_leaks_are_the_plain_loops(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=CLIP_SCHEMA)
    found = {(leak.source, leak.value, leak.splits, leak.clip_ids) for leak in find_leaks(table)}
    assert found == ref.leaks_of(rows)


# --- the whole of composite-518, from folders ----------------------------------------------------


def composite_tree(root: Path, label_sets: int, classes: int = 400, most_clips: int = 3) -> int:
    """400 class folders and a TinyVIRAT v1 tree with so many label sets, of falling size; gives its clips."""
    names = class_list("kinetics400").names[:classes]
    touch(root, *(f"k/{name.replace(' ', '_')}/{i:011d}.mp4" for i, name in enumerate(names)))
    base = class_list("tinyvirat26").names
    pairs = [(a,) for a in base] + list(itertools.combinations(base, 2))
    tubes: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    number = 0
    for rank, labels in enumerate(pairs[:label_sets]):
        for k in range(max(1, most_clips - rank // 40)):
            split = "train" if k % 2 == 0 else "test"
            path = f"VIRAT_S_{number:06d}/{number}.mp4"
            tubes[split].append({"id": number, "path": path, "dim": [20, 40, 40], "label": list(labels)})
            number += 1
    for split, items in tubes.items():
        write(root, f"t/tiny_{split}.json", {"tubes": items})
        touch(root, *(f"t/videos/{split}/{item['path']}" for item in items))
    return number


def composite_plan(root: Path, **options: Any) -> tuple[DatasetSpec, Plan]:
    spec, chosen = load_spec("composite-518"), SourceOptions(**options)
    folders = {"kinetics": root / "k", "tinyvirat": root / "t"}
    results = {
        source.name: READERS[source.kind](source, Roots(folder=folders[source.name]), chosen)
        for source in spec.sources
    }
    return spec, merge(spec, results, chosen)


def test_400_folders_and_118_label_sets_are_518_classes(tmp_path: Path) -> None:
    clips = composite_tree(tmp_path, 118)
    spec, plan = composite_plan(tmp_path)
    assert len(plan.label_map.classes) == 518
    assert plan.label_map.classes[:400] == class_list("kinetics400").names
    assert plan.folded == ()
    assert plan.absent.classes == plan.absent.notes == ()
    found = {
        item.what: (item.expected, item.found)
        for item in reconcile(spec, plan.table, classes=len(plan.label_map.names), versions=plan.versions)
    }
    assert found == {
        "classes": (518, 518),
        "clips": (24927, clips + 400),
        "clips/tinyvirat": (12829, clips),
        "clips/kinetics": (12098, 400),
    }
    assert set(plan.table["split"].to_pylist()) == {"train", "test"}
    assert plan.versions == {"kinetics": None, "tinyvirat": "v1"}
    assert set(plan.annotations["tinyvirat"]) == {"tiny_train.json", "tiny_test.json"}


def test_fewer_sets_and_fewer_classes_are_explained(tmp_path: Path) -> None:
    composite_tree(tmp_path, 105)
    _, plan = composite_plan(tmp_path)
    assert len(plan.label_map.classes) == 505
    assert (
        "505 classes, not 518: 400 of single-label sources and 105 label sets, where 518 would take 118 label sets"
        in plan.absent.notes
    )
    _, plan = composite_plan(tmp_path, kinetics_classes="minikinetics-200")
    assert len(plan.label_map.classes) == 305
    assert plan.label_map.classes[:200] == class_list("minikinetics200").names
    assert any(
        "305 classes, not 518: 200 of single-label sources (--kinetics-classes minikinetics-200)" in note
        for note in plan.absent.notes
    )


def test_150_sets_are_folded_to_118(tmp_path: Path) -> None:
    composite_tree(tmp_path, 150)
    _, plan = composite_plan(tmp_path)
    assert len(plan.label_map.classes) == 518
    assert len(plan.folded) == 32
    # every pair holds a single label that is kept
    assert all(item.into is not None for item in plan.folded)
    assert not any(plan.table["error"].to_pylist())
    assert any("150 label sets were found and 118 kept" in note for note in plan.absent.notes)


def test_a_copy_without_some_files_has_the_same_label_map(tmp_path: Path) -> None:
    composite_tree(tmp_path, 130)
    _, whole = composite_plan(tmp_path)
    rng = random.Random(0)
    for path in sorted((tmp_path / "t/videos").rglob("*.mp4")):
        if rng.random() < 0.5:
            path.unlink()
    _, half = composite_plan(tmp_path)
    assert half.label_map == whole.label_map
    assert half.table.num_rows == whole.table.num_rows


def test_plan_is_the_same_wherever_the_data_lies(tmp_path: Path) -> None:
    for place in ("a", "b/c"):
        composite_tree(tmp_path / place, 20)
    (tmp_path / "a/t/videos/train/VIRAT_S_000000/0.mp4").unlink()
    (tmp_path / "b/c/t/videos/train/VIRAT_S_000000/0.mp4").unlink()
    one, two = composite_plan(tmp_path / "a")[1], composite_plan(tmp_path / "b/c")[1]
    assert one.table.equals(two.table)
    assert one.annotations == two.annotations
    assert one.matching == two.matching

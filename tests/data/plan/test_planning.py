"""From what the user typed to a plan: which spec and folders, which settings are compared on a resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.data import builds
from tests.data.builds import FOLDERS, LISTED, listed_tree, plan, write_clip
from tests.data.synth.generated import small
from vidkit.data.manifests import load_spec
from vidkit.data.plan import planning
from vidkit.data.plan.planning import Request, choose_spec, file_leaks, find_folders, prepare, resolve, tally
from vidkit.data.tables import LEDGER_SCHEMA
from vidkit.errors import AnnotationError, BuildError, ConfigError
from vidkit.settings.encode import DatasetSpec, EncodeSettings, Expectation, SourceOptions


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


# --- which folders, which spec ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("kinetics", "kinetics"),
        ("Kinetics-400", "kinetics"),
        ("kinetics400_5per", "kinetics"),
        ("k400", "kinetics"),
        ("mini_kinetics", "minikinetics"),
        ("MiniKinetics-200", "minikinetics"),
        ("ssv2", "ssv2"),
        ("something-something-v2", "ssv2"),
        ("20bn-something-something-v2", "ssv2"),
        ("TinyVIRAT", "tinyvirat"),
        ("tiny_virat_v2", "tinyvirat"),
        ("ucf101", None),
        (".kinetics.txt", "kinetics"),
    ],
)
def test_sources_are_found_by_the_names_people_give_them(name: str, source: str | None, tmp_path: Path) -> None:
    folders(tmp_path, name)
    (tmp_path / "k400.csv").touch()
    assert find_folders(tmp_path) == ({} if source is None else {source: tmp_path / name})


def test_a_data_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert find_folders(tmp_path / "none") == {}


def test_of_two_folders_for_one_source_the_first_by_name_is_taken(tmp_path: Path) -> None:
    folders(tmp_path, "k400-b", "k400-a")
    assert find_folders(tmp_path) == {"kinetics": tmp_path / "k400-a"}


def test_nothing_named_and_nothing_there_is_the_demo(tmp_path: Path) -> None:
    assert choose_spec(Request(data=tmp_path)) is None
    folders(tmp_path, "ucf101")
    assert choose_spec(Request(data=tmp_path)) is None


def test_the_default_takes_what_is_found(tmp_path: Path) -> None:
    folders(tmp_path, "data/k400", "data/tinyvirat", "data/ssv2", "other")
    chosen = choose_spec(Request(data=tmp_path / "data"))
    assert chosen is not None
    assert chosen[0].name == "composite-518"
    assert chosen[1] == {"kinetics": tmp_path / "data/k400", "tinyvirat": tmp_path / "data/tinyvirat"}
    chosen = choose_spec(Request(data=tmp_path / "data", folders={"kinetics": tmp_path / "other"}))
    assert chosen is not None
    assert chosen[1]["kinetics"] == tmp_path / "other", "a flag comes first"
    chosen = choose_spec(Request(spec="ssv2", data=tmp_path / "data"))
    assert chosen is not None
    assert chosen[1] == {"ssv2": tmp_path / "data/ssv2"}


def test_minikinetics_lists_choose_from_kinetics(tmp_path: Path) -> None:
    folders(tmp_path, "lists", "k400", "tinyvirat")
    given = {"minikinetics": tmp_path / "lists", "kinetics": tmp_path / "k400", "tinyvirat": tmp_path / "tinyvirat"}
    chosen = choose_spec(Request(spec="composite-518", folders=given, data=tmp_path / "none"))
    assert chosen is not None
    assert [(s.name, s.kind) for s in chosen[0].sources] == [
        ("minikinetics", "minikinetics"),
        ("tinyvirat", "tinyvirat"),
    ]
    assert chosen[1] == given
    whats = [item.what for item in chosen[0].expect]
    assert whats == ["classes", "clips", "clips/tinyvirat", "clips/minikinetics"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(spec="k4000"), ["k4000", "k400"]),
        (
            Request(spec="k400", folders={"ssv2": Path()}),
            ["k400 has no source 'ssv2'", "build-dataset ssv2 --ssv2"],
        ),
        (
            Request(spec="ssv2", folders={"kinetics": Path()}),
            ["ssv2 has no source 'kinetics'", "build-dataset k400 --kinetics"],
        ),
        (Request(spec="k400"), ["no source of k400 was found", "build-dataset k400 --kinetics DIR"]),
        (Request(spec="k400", folders={"kinetics": Path("nowhere")}), ["--kinetics nowhere is no folder"]),
        (Request(spec="demo", folders={"kinetics": Path()}), ["demo has no source 'kinetics'"]),
    ],
    ids=["unknown spec", "stranger", "other stranger", "nothing found", "no folder", "demo"],
)
def test_requests_that_cannot_be_met(request_: Request, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_spec(request_)
    for words in said:
        assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_was_found_instead_is_named(tmp_path: Path) -> None:
    folders(tmp_path, "k400", "tinyvirat")
    with pytest.raises(ConfigError, match=r"no source of ssv2 was found; under .* there is kinetics, tinyvirat"):
        choose_spec(Request(spec="ssv2", data=tmp_path))
    folders(tmp_path, "other/ssv2")
    with pytest.raises(ConfigError, match="name the dataset to build: vidkit build-dataset ssv2"):
        choose_spec(Request(data=tmp_path / "other"))


def test_a_folder_for_the_demo_spec(tmp_path: Path) -> None:
    chosen = choose_spec(Request(spec="demo", folders={"demo": tmp_path}))
    assert chosen is not None
    assert chosen[1] == {"demo": tmp_path}


# --- settings ---------------------------------------------------------------------------------------------


def test_flags_stand_in_place_of_the_specs_settings() -> None:
    spec = load_spec("composite-518")
    assert resolve(spec, Request()) == spec
    changed = resolve(spec, Request(size=32, frames=8, fps=5.0, clips_per_shard=10))
    encode = changed.encode
    assert (encode.size, encode.max_frames, encode.fps, changed.clips_per_shard) == (32, 8, 5.0, 10)
    assert (encode.gop, encode.fit) == (spec.encode.gop, spec.encode.fit)
    assert resolve(spec, Request(frames=0)).encode.max_frames is None, "0 is all of them"


@pytest.mark.parametrize(
    "request_", [Request(size=63), Request(size=2), Request(fps=-1.0), Request(fps=float("nan"))]
)
def test_bad_settings_are_errors_that_name_the_value(request_: Request) -> None:
    with pytest.raises(ConfigError, match="bad encode settings") as caught:
        resolve(load_spec("k400"), request_)
    assert "expected" in str(caught.value)


def test_everything_that_decides_the_bytes_is_compared(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8)
    base = plan(LISTED, source)
    changes: list[dict[str, Any]] = [
        {"size": 48},
        {"frames": 3},
        {"fps": 5.0},
        {"clips_per_shard": 3},
        {"limit": 5},
        {"strict_decode": True},
        {"transcoder": "ffmpeg"},
        {"options": SourceOptions(seed=1)},
        {"options": SourceOptions(present_only=True)},
        {"options": SourceOptions(follow_symlinks=True)},
        {"options": SourceOptions(kinetics_fraction=0.5)},
    ]
    for change in changes:
        other = plan(LISTED, source, **change)
        assert other.settings != base.settings, change
        assert set(other.settings) == set(base.settings)
    encode = {f"encode.{name}" for name in EncodeSettings.__dataclass_fields__}
    assert encode - {"encode.map"} <= set(base.settings)
    # an option that came later stands there only where it is used: older builds go on as they were
    mapped = plan(replace(LISTED, encode=replace(LISTED.encode, map=1)), source)
    assert mapped.settings == {**base.settings, "encode.map": 1}


def test_identity_is_plain_json_without_places(tmp_path: Path) -> None:
    import json

    first = plan(LISTED, listed_tree(tmp_path / "here", 8))
    second = plan(LISTED, listed_tree(tmp_path / "there", 8))
    facts = [planning.identity(p, {"x264": "1"}) for p in (first, second)]
    assert facts[0] == facts[1] == json.loads(json.dumps(facts[0]))
    assert str(tmp_path) not in json.dumps(facts)


# --- the plan ---------------------------------------------------------------------------------------------


def test_a_plan_without_a_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises((ConfigError, AnnotationError)) as caught:
        plan(FOLDERS, tmp_path)
    assert str(tmp_path) in str(caught.value)
    root = listed_tree(tmp_path / "t", 4, missing=3)
    for video in (root / "train").iterdir():
        video.unlink()
    (root / "weird.csv").write_text("what|where\n")
    with pytest.raises(ConfigError, match="no clip is planned; looked in") as caught:
        plan(LISTED, root, options=SourceOptions(present_only=True))
    assert "--dry-run" in str(caught.value)
    assert "; not understood, so not read: weird.csv\n" in str(caught.value)


def test_stages_are_told(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 4)
    told: list[str] = []
    prepare(LISTED, {"lists": source}, Request(), on_stage=told.append)
    assert told == [f"reading lists from {source}", "merging"]


def test_planning_opens_no_video(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8)
    for video in source.rglob("*.mp4"):
        video.write_bytes(b"")  # would be refused if it were looked at
    assert plan(LISTED, source).table["error"].null_count == 8


def ledger(*rows: tuple[str, str, str, str | None]) -> pa.Table:
    """(clip id, split, status, sha256) -> a ledger."""
    empty = dict.fromkeys(LEDGER_SCHEMA.names)
    made = [
        {
            **empty,
            "clip_id": clip,
            "source": clip.partition("/")[0],
            "split": split,
            "labels": [],
            "multi_hot": [],
            "warnings": [],
            "key": f"{i:08d}",
            "status": status,
            "source_sha256": sha256,
        }
        for i, (clip, split, status, sha256) in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=LEDGER_SCHEMA)


def test_the_same_file_in_two_splits_is_a_leak() -> None:
    found = file_leaks(
        ledger(
            ("a/1", "train", "ok", "x"),
            ("b/1", "val", "ok", "x"),
            ("a/2", "train", "ok", "y"),
            ("a/3", "train", "ok", "y"),  # twice in one split is no leak
            ("a/4", "train", "failed", "z"),
            ("a/5", "test", "failed", "z"),  # nothing of these is stored: all empty files are the same
            ("a/6", "train", "missing", None),
            ("a/7", "val", "missing", None),
            ("a/8", "test", "ok", "x"),
        )
    )
    assert len(found) == 1
    leak = found[0]
    assert (leak.kind, leak.source, leak.value) == ("file", "a, b", "x")
    assert (leak.splits, leak.clip_ids) == (("train", "val", "test"), ("a/1", "a/8", "b/1"))


def test_tally_adds_up() -> None:
    rows = ledger(("a/1", "train", "ok", "x"), ("a/2", "val", "failed", None), ("a/3", "val", "missing", None))
    assert tally(rows) == {"planned": 3, "ok": 1, "failed": 1, "missing": 1}
    assert tally(rows.slice(0, 0)) == {"planned": 0, "ok": 0, "failed": 0, "missing": 0}


def test_found_stands_beside_expected(tmp_path: Path) -> None:
    spec = DatasetSpec(
        name="listed",
        title="Listed",
        sources=LISTED.sources,
        encode=LISTED.encode,
        expect=(
            Expectation(what="clips", value=8, where="the list"),
            Expectation(what="clips/val", value=99, where="somewhere"),
            Expectation(what="classes", value=2, where="the names"),
        ),
    )
    source = listed_tree(tmp_path / "t", 8, missing=1, broken=1)
    prepared = plan(spec, source)
    before = planning.reconciliation(prepared)
    assert [(r["what"], r["expected"], r["planned"], r["found"]) for r in before] == [
        ("clips", 8, 6, 6),
        ("clips/val", 99, 1, 1),
        ("classes", 2, 2, 2),
    ]
    built = builds.run(prepared, tmp_path / "out")
    assert [(r["what"], r["planned"], r["found"]) for r in built.facts["reconciliation"]] == [
        ("clips", 6, 4),
        ("clips/val", 1, 0),
        ("classes", 2, 2),
    ]


def test_a_description_holds_no_place_and_adds_up(tmp_path: Path) -> None:
    small("tinyvirat-v1", tmp_path / "t", clips=24, classes=4, label_sets=6, missing=0.1, broken=0.1)
    spec = load_spec("tinyvirat")
    built = builds.run(prepare(spec, {"tinyvirat": tmp_path / "t"}, Request(size=32, frames=4)), tmp_path / "out")
    text = (tmp_path / "out" / "dataset.json").read_text()
    assert str(tmp_path) not in text
    facts = built.facts
    for part in (facts["splits"], facts["sources"]):
        assert sum(counts["planned"] for counts in part.values()) == facts["counts"]["planned"] == 24
        for counts in part.values():
            assert counts["planned"] == counts["ok"] + counts["failed"] + counts["missing"]
    assert facts["sources"]["tinyvirat"]["version"] == "v1"
    assert set(facts["sources"]["tinyvirat"]["annotations"]) == {"tiny_train.json", "tiny_test.json"}
    assert facts["counts"]["missing"] == facts["errors"]["missing"]
    assert sum(facts["errors"].values()) == facts["counts"]["failed"] + facts["counts"]["missing"]
    rows = builds.check_whole(tmp_path / "out")
    names = facts["label_map"]["base_labels"]
    for row in rows:
        assert sorted(row["labels"]) == sorted(names[i] for i in row["multi_hot"])


# --- rows that cannot be used, and guesses ----------------------------------------------------------------


def test_unusable_rows_are_counted_by_code(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8, missing=2)
    with (source / "train.csv").open("a") as lines:
        lines.write("train/train5.mp4 9\nno video\n")
    found = planning.unusable(plan(LISTED, source).table)
    assert [(item["error"], item["clips"]) for item in found] == [
        ("missing", 4),
        ("bad-annotation", 1),
        ("unknown-label", 1),
    ]
    assert all(item["example"].startswith("lists/") for item in found)
    assert planning.unusable(plan(LISTED, listed_tree(tmp_path / "good", 8)).table) == []


def test_strict_refuses_guesses(tmp_path: Path) -> None:
    for name in ("train/push up/1.mp4", "val/push_up/1.mp4"):
        write_clip(tmp_path / name)
    prepared = plan(FOLDERS, tmp_path)
    assert prepared.table["class_name"].to_pylist() == ["push up"] * 2
    with pytest.raises(BuildError, match="1 guess that --strict does not allow") as caught:
        planning.refuse_doubts(prepared)
    assert "mine: spellings of one class: 'push up' (1), 'push_up' (1)" in str(caught.value)
    (tmp_path / "val/push_up").rename(tmp_path / "val/push up")
    planning.refuse_doubts(plan(FOLDERS, tmp_path))


def test_ids_from_is_a_setting_only_where_it_is_used(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8)
    assert "ids_from" not in plan(LISTED, source).settings  # so that builds of before go on
    assert plan(LISTED, source, options=SourceOptions(ids_from=1)).settings["ids_from"] == 1
    with pytest.raises(ConfigError, match="--ids-from is 2; expected 0 or 1"):
        SourceOptions(ids_from=2)  # type: ignore[arg-type]


def test_annotations_that_no_source_can_use_are_named(tmp_path: Path) -> None:
    source = listed_tree(tmp_path / "t", 8)
    write_clip(tmp_path / "mine" / "run" / "1.mp4")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "test.txt").write_text("train/train0.mp4 0\n")
    (tmp_path / "more" / "what.csv").write_text("a;b\n")
    both = DatasetSpec(name="both", title="B", sources=(*LISTED.sources, *FOLDERS.sources), encode=LISTED.encode)
    folders = {"lists": source, "mine": tmp_path / "mine"}
    prepared = prepare(both, folders, Request(annotations=(tmp_path / "more",)))
    assert [matching.notes for matching in prepared.plan.matching] == [
        ["not understood, so not read: what.csv"],
        [],
    ]

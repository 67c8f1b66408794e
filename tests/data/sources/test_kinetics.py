"""Kinetics as people have it: four layouts, CSVs whole and broken, ids that look like options."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.data.sources.trees import CSV_HEAD, SPECS, csv_lines, raw_name, read, row, rows, touch, write
from vidkit.data.manifests import class_list
from vidkit.data.paths import text_to_path
from vidkit.data.sources import SourceResult
from vidkit.data.sources.youtube import parse_name
from vidkit.data.tables import CLIP_SCHEMA
from vidkit.errors import CLIP_ERRORS, AnnotationError, ConfigError
from vidkit.settings.encode import SourceSpec

A, B, C, D = "AbCdEfGhIjK", "-bCdEfGhIjK", "_______-___", "abc_def-012"
T = "000012_000022"


def plan_rows(result: SourceResult) -> set[tuple[str, str | None, str | None]]:
    return {(name, item["path"], item["error"]) for name, item in rows(result).items()}


@pytest.mark.parametrize(
    ("stem", "parsed"),
    [
        (f"{A}_{T}", (A, T)),
        (B, (B, None)),
        (f"{B}_{T}", (B, T)),
        (f"{C}_{T}", (C, T)),
        ("ab_000012_0_000012_000022", ("ab_000012_0", T)),
        (f"x{A}_{T}", None),
        (f"{A}_12_22", None),
        ("short", None),
        ("", None),
        ("ÄbCdEfGhIjK", None),
    ],
)
def test_names_are_parsed_from_the_right(stem: str, parsed: tuple[str, str | None] | None) -> None:
    assert parse_name(stem) == parsed


def three(tmp_path: Path, *, folder: str = "") -> None:
    write(
        tmp_path, f"{folder}train.csv", csv_lines(f"archery,{A},12,22,train,0", f"air drumming,{B},12,22,train,0")
    )
    write(tmp_path, f"{folder}val.csv", csv_lines(f"abseiling,{C},1,11,val,0"))
    write(tmp_path, f"{folder}test.csv", ("youtube_id,time_start,time_end,split", f"{D},5,15,test"))


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "layout", "cut"),
    [
        (f"{A}_{T}.mp4", f"{B}_{T}.mkv", f"{C}_000001_000011.webm", f"{D}_000005_000015.AVI", "flat (4)", False),
        (
            f"archery/{A}_{T}.mp4",
            f"air_drumming/{B}_{T}.mkv",
            f"Abseiling/{C}_000001_000011.webm",
            f"unknown/{D}_000005_000015.avi",
            "class folders (4)",
            False,
        ),
        (
            f"archery/{A}.mp4",
            f"air drumming/{B}.mp4",
            f"abseiling/{C}.mp4",
            f"x/{D}.mp4",
            "class folders, bare ids (4)",
            True,
        ),
        (
            f"videos/train/{A}_{T}.mp4",
            f"videos/train/{B}_{T}.mp4",
            f"videos/val/{C}_000001_000011.mp4",
            f"videos/test/{D}_000005_000015.mp4",
            "flat (4)",
            False,
        ),
        (f"k/train_256/archery/{A}.mp4", f"{B}.mp4", f"val/abseiling/{C}.mp4", f"test/{D}.mp4", "", True),
    ],
)
@pytest.mark.parametrize("folder", ["", "annotations/"])
def test_layouts(tmp_path: Path, a: str, b: str, c: str, d: str, layout: str, cut: bool, folder: str) -> None:
    three(tmp_path, folder=folder)
    touch(tmp_path, a, b, c, d)
    result = read("kinetics", tmp_path)
    assert result.table.schema == CLIP_SCHEMA
    assert result.root == tmp_path.resolve()
    assert result.classes == class_list("kinetics400").names
    assert layout in result.matching.layout
    assert sorted(result.annotations) == sorted(f"{folder}{split}.csv" for split in ("train", "val", "test"))
    found = row(result, f"{A}_{T}")
    assert found == {
        "clip_id": f"kinetics/{A}_{T}",
        "source": "kinetics",
        "path": a,
        "split": "train",
        "labels": ["archery"],
        "group": A,
        "start_s": 12.0 if cut else None,
        "end_s": 22.0 if cut else None,
        "error": None,
        "message": None,
    }
    assert row(result, f"{B}_{T}")["path"] == b
    assert row(result, f"{C}_000001_000011")["split"] == "val"
    withheld = row(result, f"{D}_000005_000015")
    assert (withheld["split"], withheld["labels"], withheld["error"], withheld["path"]) == ("test", [], None, d)
    assert result.matching.counts["annotated"] == result.matching.counts["annotated and found"] == 4
    assert result.table["clip_id"].to_pylist() == sorted(result.table["clip_id"].to_pylist())


def test_what_matched_and_what_did_not(tmp_path: Path) -> None:
    three(tmp_path)
    touch(tmp_path, f"archery/{A}_{T}.mp4", f"abseiling/{A}_{T}.mkv", f"{A}_{T}.webm")  # three files for one row
    touch(tmp_path, f"{B}_000100_000110.mp4", "val/unknown.mp4", f"train/yoga/{C}_000001_000011.mp4")
    result = read("kinetics", tmp_path)
    # the copy in the folder named as the label comes first
    assert row(result, f"{A}_{T}")["path"] == f"archery/{A}_{T}.mp4"
    missing = row(result, f"{B}_{T}")
    assert (missing["error"], missing["path"]) == ("missing", None)
    assert missing["message"] == (
        f"looked for {B}_{T} or {B}, with any video ending; {B}_000100_000110 is there, with other times"
    )
    counts, examples = result.matching.counts, result.matching.examples
    assert counts["annotated but missing"] == 2
    assert counts["present but unannotated"] == 2
    assert set(examples["present but unannotated"]) == {f"{B}_000100_000110.mp4", "val/unknown.mp4"}
    assert counts["matched twice (the first that can be used is)"] == 1
    assert f"{A}_{T}: archery/{A}_{T}.mp4 and 2 more" in examples["matched twice (the first that can be used is)"]
    assert counts["folder's class differs from the annotation (the annotation holds)"] == 1
    assert counts["folder's split differs from the annotation (the annotation holds)"] == 1
    assert row(result, f"{C}_000001_000011")["labels"] == ["abseiling"]
    assert row(result, f"{C}_000001_000011")["split"] == "val"


def test_trimmed_files_come_before_bare_ones(tmp_path: Path) -> None:
    three(tmp_path)
    touch(tmp_path, f"archery/{A}.mp4", f"z/{A}_{T}.mp4")
    found = row(read("kinetics", tmp_path), f"{A}_{T}")
    assert (found["path"], found["start_s"]) == (f"z/{A}_{T}.mp4", None)


def test_present_only(tmp_path: Path) -> None:
    three(tmp_path)
    touch(tmp_path, f"{A}.mp4")
    result = read("kinetics", tmp_path, present_only=True)
    assert plan_rows(result) == {(f"{A}_{T}", f"{A}.mp4", None)}
    assert result.matching.counts["not planned: no file (present only)"] == 3
    assert result.matching.counts["annotated but missing"] == 3


def test_splits_that_the_spec_does_not_name(tmp_path: Path) -> None:
    three(tmp_path)
    touch(tmp_path, f"{A}.mp4", f"{C}.mp4")
    spec = SourceSpec(name="kinetics", kind="kinetics", classes="kinetics400", splits={"train": "val"})
    result = read("kinetics", tmp_path, spec=spec)
    assert result.table["split"].to_pylist() == ["val", "val"]
    assert result.matching.counts["not planned: split val"] == 1
    assert result.matching.counts["not planned: split test"] == 1
    assert "present but unannotated" not in result.matching.counts


BAD_ROWS = {
    f"archery,{A}": ("bad-annotation", "train.csv, row 2, field 'time_start': 2 fields where the header has 6"),
    f"archery,{A},1,11,train,0,extra": ("bad-annotation", "7 fields where the header has 6"),
    "archery,#NAME?,1,11,train,0": ("bad-annotation", "row 2, field 'youtube_id': '#NAME?' is no YouTube id"),
    "archery,../../passw,1,11,train,0": ("bad-annotation", "field 'youtube_id': '../../passw' is no YouTube id"),
    f"archery,{A},11,1,train,0": ("bad-annotation", "field 'time_start': '11' to '1' are no seconds"),
    f"archery,{A},nan,inf,train,0": ("bad-annotation", "'nan' to 'inf'"),
    f"archery,{A},,,train,0": ("bad-annotation", "'' to ''"),
    f"archery,{A},1,11,everything,0": ("bad-annotation", "field 'split': 'everything' is none of train, val, test"),
    f",{A},1,11,train,0": ("bad-annotation", "field 'label': empty in the train split"),
    f"being a spy,{A},1,11,train,0": ("unknown-label", "row 2, field 'label': 'being a spy' is in no class list"),
}


@pytest.mark.parametrize("line", BAD_ROWS)
def test_bad_rows_stay_and_say_why(tmp_path: Path, line: str) -> None:
    write(tmp_path, "train.csv", csv_lines(line, f"yoga,{B},1,11,train,0"))
    touch(tmp_path, f"{A}.mp4", f"{B}.mp4")
    result = read("kinetics", tmp_path)
    code, text = BAD_ROWS[line]
    assert code in CLIP_ERRORS
    assert result.table.num_rows == 2
    bad = next(item for item in result.table.to_pylist() if item["error"])
    assert bad["error"] == code
    assert text in bad["message"]
    assert bad["split"] == "train"
    assert row(result, f"{B}_000001_000011")["error"] is None


def test_empty_split_takes_the_file_names(tmp_path: Path) -> None:
    write(tmp_path, "k400_validate.csv", csv_lines(f"yoga,{A},1,11,,0", f"yoga,{B},1,11,train,0"))
    result = read("kinetics", tmp_path)
    assert row(result, f"{A}_000001_000011")["split"] == "val"
    assert row(result, f"{B}_000001_000011")["split"] == "train"


def test_empty_split_without_a_hint_is_bad(tmp_path: Path) -> None:
    write(tmp_path, "all.csv", csv_lines(f"yoga,{A},1,11,,0", f"yoga,{B},1,11,validate,0"))
    result = read("kinetics", tmp_path)
    assert row(result, A)["error"] == "bad-annotation"
    assert "field 'split': '' is none of train, val, test" in row(result, A)["message"]
    assert row(result, f"{B}_000001_000011")["split"] == "val"


def test_columns_in_any_order_and_quoted_labels(tmp_path: Path) -> None:
    text = (
        f'\ufeffSplit,time_end,time_start, youtube_id ,label\r\ntrain,11,1,{A},"Petting Animal (not cat)"\r\n\r\n'
    )
    write(tmp_path, "x.csv", text.encode("utf-8"))
    found = row(read("kinetics", tmp_path), f"{A}_000001_000011")
    assert found["labels"] == ["petting animal (not cat)"]


STRUCTURAL = {
    "no youtube_id": (
        "train.csv",
        f"label,id,time_start,time_end,split\nyoga,{A},1,2,train\n",
        "no column 'youtube_id'; found: label, id, time_start, time_end, split",
    ),
    "no times": (
        "train.csv",
        f"label,youtube_id,split\nyoga,{A},train\n",
        "no column 'time_start' and no column 'time_end'",
    ),
    "no split": (
        "k400.csv",
        f"label,youtube_id,time_start,time_end\nyoga,{A},1,2\n",
        "no column 'split', and the file name",
    ),
    "no label": (
        "train.csv",
        f"youtube_id,time_start,time_end,split\n{A},1,2,train\n",
        "no column 'label' in a CSV of the train",
    ),
    "no rows": ("train.csv", f"{CSV_HEAD}\n", "a header, but no rows"),
    "nul": ("train.csv", f"{CSV_HEAD}\nyoga,{A},1,2,train,0\nyo\0ga,{B},1,2,train,0\n", "row 3: a NUL byte"),
    "other columns": ("train.csv", "name,class\na,b\n", "neither a Kinetics CSV nor a list file"),
}


@pytest.mark.parametrize("case", STRUCTURAL)
def test_files_that_are_no_kinetics_csv(tmp_path: Path, case: str) -> None:
    name, text, part = STRUCTURAL[case]
    path = write(tmp_path, name, text)
    touch(tmp_path, f"{A}.mp4")
    with pytest.raises(AnnotationError) as caught:
        read("kinetics", tmp_path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_empty_annotation_file_does_not_pass_for_no_annotations(tmp_path: Path) -> None:
    path = write(tmp_path, "train.csv", "")
    touch(tmp_path, f"yoga/{A}.mp4")
    with pytest.raises(AnnotationError, match="the annotation file is empty") as caught:
        read("kinetics", tmp_path)
    assert caught.value.file == str(path.resolve())


def test_one_empty_csv_among_good_ones(tmp_path: Path) -> None:
    three(tmp_path)
    write(tmp_path, "val.csv", "\n \n")
    with pytest.raises(AnnotationError, match=r"val\.csv: the annotation file is empty"):
        read("kinetics", tmp_path)


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", f"{CSV_HEAD}\nyoga,{A},1,2,train,0\ncaf\xe9,{B},1,2,train,0\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match=r"train\.csv, row 3: not UTF-8 text \(byte 0xe9"):
        read("kinetics", tmp_path)


def test_duplicates(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train.csv",
        csv_lines(
            f"yoga,{A},1,11,train,0", f"yoga,{A},1,11,train,0", f"yoga,{A},50,60,train,0", f"yoga,{B},1,11,train,0"
        ),
    )
    write(tmp_path, "val.csv", csv_lines(f"yoga,{B},1,11,val,0"))
    touch(tmp_path, f"{A}_000001_000011.mp4", f"{A}_000050_000060.mp4", f"{B}.mp4")
    result = read("kinetics", tmp_path)
    ids = [
        f"{B}_000001_000011",
        f"{B}_000001_000011#2",
        f"{A}_000001_000011",
        f"{A}_000001_000011#2",
        f"{A}_000050_000060",
    ]
    assert list(rows(result)) == sorted(ids)
    twice = row(result, f"{A}_000001_000011#2")
    assert twice["error"] == "duplicate-row"
    assert twice["message"] == "train.csv, row 3: the same clip as train.csv, row 2"
    # in two splits: both are planned, and share a group
    one, two = row(result, f"{B}_000001_000011"), row(result, f"{B}_000001_000011#2")
    assert (one["split"], two["split"]) == ("train", "val")
    assert one["error"] is two["error"] is None
    assert one["group"] == two["group"] == B


def test_the_same_rows_in_two_files_are_one_plan(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},1,11,train,0", f"zumba,{B},1,11,train,0"))
    write(tmp_path, "kinetics-400_all.csv", csv_lines(f"yoga,{A},1,11,train,0", f"yoga,{B},1,11,train,0"))
    result = read("kinetics", tmp_path)
    assert result.matching.counts["annotated alike in two files (planned once)"] == 1
    conflict = row(result, f"{B}_000001_000011#2")
    assert conflict["error"] == "duplicate-row"
    assert conflict["message"] == "kinetics-400_all.csv, row 3: the same clip as train.csv, row 3"
    assert result.table.num_rows == 3


def test_annotations_elsewhere(tmp_path: Path) -> None:
    three(tmp_path / "ann")
    touch(tmp_path / "vid", f"{A}.mp4")
    assert (
        row(read("kinetics", tmp_path / "vid", annotations=(tmp_path / "ann",)), f"{A}_{T}")["path"] == f"{A}.mp4"
    )
    result = read("kinetics", tmp_path / "vid", annotations=(tmp_path / "ann/val.csv",))
    assert list(result.annotations) == ["val.csv"]
    with pytest.raises(ConfigError, match="no such annotation folder or file"):
        read("kinetics", tmp_path / "vid", annotations=(tmp_path / "nowhere",))


def test_files_of_one_name_in_two_places_are_told_apart(tmp_path: Path) -> None:
    three(tmp_path / "vid")
    write(tmp_path / "ann", "train.csv", csv_lines(f"archery,{A},12,22,train,0"))
    result = read("kinetics", tmp_path / "vid", annotations=(tmp_path / "ann",))
    assert set(result.annotations) == {"train.csv", "val.csv", "test.csv", "ann/train.csv"}
    assert result.matching.counts["annotated alike in two files (planned once)"] == 1


def test_class_folders_without_annotations(tmp_path: Path) -> None:
    touch(
        tmp_path,
        f"archery/{A}_{T}.mp4",
        f"counting_money/{B}.mp4",
        f"val/Air-Drumming/{C}.mkv",
        "yoga/any name.mp4",
        f"being a spy/{D}.mp4",
        "stray.mp4",
    )
    raw_name(tmp_path / "yoga", b"caf\xe9.mp4")
    result = read("kinetics", tmp_path)
    assert row(result, f"{A}_{T}")["labels"] == ["archery"]
    bare = row(result, B)
    assert (bare["labels"], bare["split"], bare["group"], bare["start_s"]) == (["counting money"], "train", B, None)
    assert row(result, C)["split"] == "val"
    assert row(result, "yoga/any name")["group"] is None
    unknown = row(result, D)
    assert unknown["error"] == "unknown-label"
    assert unknown["message"] == f"being a spy/{D}.mp4: its folder is in no class list of this source"
    assert row(result, "stray")["error"] == "no-label"
    odd = next(item for name, item in rows(result).items() if name.startswith("raw-bytes:"))
    assert odd["error"] is None
    assert text_to_path(odd["path"]) == "yoga/caf\udce9.mp4"
    assert result.matching.counts["file names that hold no YouTube id"] == 3
    assert "videos under no split folder count as training" in result.matching.notes
    assert result.annotations == {}


def test_one_id_in_two_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, f"archery/{A}.mp4", f"yoga/{A}.mp4")
    result = read("kinetics", tmp_path)
    assert row(result, A)["error"] is None
    assert row(result, f"{A}#2")["error"] == "duplicate-row"
    assert row(result, f"{A}#2")["message"] == f"yoga/{A}.mp4: the same clip as archery/{A}.mp4"


def test_nothing_to_take_labels_from(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no videos, no CSV and no list file found"):
        read("kinetics", tmp_path)
    touch(tmp_path, f"{A}.mp4", f"videos/{B}.mp4", f"train/{C}.mp4")
    with pytest.raises(AnnotationError, match="3 videos, but neither annotations nor class folders"):
        read("kinetics", tmp_path)


def test_links_out_of_the_folder(tmp_path: Path) -> None:
    three(tmp_path / "k")
    touch(tmp_path, f"else/{A}.mp4")
    (tmp_path / "k" / f"{A}.mp4").symlink_to(tmp_path / f"else/{A}.mp4")
    bad = row(read("kinetics", tmp_path / "k"), f"{A}_{T}")
    assert (bad["error"], bad["path"]) == ("unsafe-path", None)
    good = row(read("kinetics", tmp_path / "k", follow_symlinks=True), f"{A}_{T}")
    assert (good["error"], good["path"]) == (None, f"{A}.mp4")
    # under --present-only it stays, as a failure: the file is there
    assert row(read("kinetics", tmp_path / "k", present_only=True), f"{A}_{T}")["error"] == "unsafe-path"


def test_all_400_folders_by_every_spelling(tmp_path: Path) -> None:
    names = class_list("kinetics400").names
    for i, name in enumerate(names):
        spelling = (name, name.replace(" ", "_"), name.upper(), name.replace(" ", "-"))[i % 4]
        touch(tmp_path, f"{spelling}/{i:011d}.mp4")
    result = read("kinetics", tmp_path)
    assert [row["labels"] for row in result.table.to_pylist()] == [[name] for name in names]


def many(tmp_path: Path, per_class: int = 20) -> None:
    names = class_list("kinetics400").names[:6]
    lines = [f"{name},{c:05d}{k:06d},1,11,train,0" for c, name in enumerate(names) for k in range(per_class + c)]
    random.Random(0).shuffle(lines)
    write(tmp_path, "train.csv", csv_lines(*lines))


def test_only_minikinetics_classes(tmp_path: Path) -> None:
    many(tmp_path)
    result = read("kinetics", tmp_path, kinetics_classes="minikinetics-200")
    assert result.classes == class_list("minikinetics200").names
    kept = {name for item in result.table["labels"].to_pylist() for name in item}
    assert kept == set(class_list("kinetics400").names[:6]) & set(class_list("minikinetics200").names)
    assert result.matching.counts["not planned: class not chosen, or label withheld"] + result.table.num_rows == 135


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.3, 0.5, 1.0])
def test_fraction_is_balanced_and_seeded(tmp_path: Path, fraction: float) -> None:
    many(tmp_path)
    result = read("kinetics", tmp_path, kinetics_fraction=fraction)
    labels = [item[0] for item in result.table["labels"].to_pylist()]
    for c, name in enumerate(class_list("kinetics400").names[:6]):
        assert labels.count(name) == max(1, int(fraction * (20 + c) + 0.5))
    again = read("kinetics", tmp_path, kinetics_fraction=fraction)
    assert again.table.equals(result.table)
    other = read("kinetics", tmp_path, kinetics_fraction=fraction, seed=1)
    assert other.table.equals(result.table) == (fraction == 1.0)


def test_fraction_depends_on_neither_row_nor_file_order(tmp_path: Path) -> None:
    many(tmp_path / "a")
    lines = (tmp_path / "a/train.csv").read_text().splitlines()[1:]
    write(tmp_path / "b", "train_2.csv", csv_lines(*sorted(lines)[:60]))
    write(tmp_path / "b", "train_1.csv", csv_lines(*sorted(lines)[60:]))
    one = read("kinetics", tmp_path / "a", kinetics_fraction=0.2)
    two = read("kinetics", tmp_path / "b", kinetics_fraction=0.2)
    assert one.table.equals(two.table)


def test_fractions_are_nested(tmp_path: Path) -> None:
    many(tmp_path)
    small = set(rows(read("kinetics", tmp_path, kinetics_fraction=0.1)))
    large = set(rows(read("kinetics", tmp_path, kinetics_fraction=0.4)))
    assert small < large


def test_classes_without_any_of_the_200(tmp_path: Path) -> None:
    three(tmp_path)
    spec = SourceSpec(name="k", kind="kinetics", classes="ssv2")
    with pytest.raises(ConfigError, match="none of the 200 is in class list 'ssv2'"):
        read("kinetics", tmp_path, spec=spec, kinetics_classes="minikinetics-200")


def test_list_file_as_the_fourth_layout(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", (f"/data/k400/train/{A}_{T}.mp4 5", f"/data/k400/train/{B}_{T}.mp4 1"))
    touch(tmp_path, f"vids/{A}_{T}.mp4")
    result = read("kinetics", tmp_path)
    assert row(result, f"{A}_{T}")["labels"] == ["archery"]
    assert row(result, f"{A}_{T}")["group"] == A
    assert row(result, f"{B}_{T}")["error"] == "missing"
    assert result.matching.layout == "list files"


def test_videomae_list_named_csv_is_a_list(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", (f"{A}_{T}.mp4 5",))
    assert row(read("kinetics", tmp_path), f"{A}_{T}")["labels"] == ["archery"]


def test_csvs_come_before_lists(tmp_path: Path) -> None:
    three(tmp_path)
    write(tmp_path, "train.txt", (f"{A}_{T}.mp4 7",))
    result = read("kinetics", tmp_path)
    assert row(result, f"{A}_{T}")["labels"] == ["archery"]
    assert "list files not used, as there are CSVs: train.txt" in result.matching.notes


def test_spec_of_the_fixture_is_the_shipped_one() -> None:
    assert SPECS["kinetics"].splits == {"train": "train", "val": "val", "test": "test"}

"""Something-Something v2: both sets of file names, label order checked, test answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.trees import read, row, rows, touch, write
from vidkit.data.manifests import class_list
from vidkit.errors import AnnotationError

NAMES = class_list("ssv2").names
LABELS = {name: str(i) for i, name in enumerate(NAMES)}


def record(number: object, template: object = "Holding [something] next to [something]") -> dict[str, Any]:
    return {
        "id": number,
        "label": "holding cup next to book",
        "template": template,
        "placeholders": ["cup", "book"],
    }


def annotate(
    root: Path, prefix: str = "something-something-v2-", train: list[Any] | None = None, answers: bool = False
) -> None:
    write(
        root,
        f"{prefix}train.json",
        train if train is not None else [record("1"), record("2", "Folding [something]")],
    )
    write(
        root,
        f"{prefix}validation.json",
        [record("3", "Holding [Something in front of] [something]".replace("S", "s"))],
    )
    write(root, f"{prefix}test.json", [{"id": "4"}, {"id": "5"}])
    write(root, f"{prefix}labels.json", LABELS)
    if answers:
        write(root, "test-answers.csv", ("id;label", "4;Holding something", '5;"Squeezing something"'))


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
@pytest.mark.parametrize("where", ["", "labels/"])
@pytest.mark.parametrize("videos", ["", "20bn-something-something-v2/"])
def test_both_names_and_places(tmp_path: Path, prefix: str, where: str, videos: str) -> None:
    annotate(tmp_path / where, prefix)
    touch(tmp_path, f"{videos}1.webm", f"{videos}2.mp4", f"{videos}4.webm", f"{videos}99.webm")
    result = read("ssv2", tmp_path)
    assert result.classes == NAMES
    one = row(result, "1")
    assert (one["path"], one["split"], one["labels"]) == (
        f"{videos}1.webm",
        "train",
        ["Holding something next to something"],
    )
    assert one["group"] == "1"
    assert row(result, "2")["path"] == f"{videos}2.mp4"
    assert row(result, "3")["labels"] == ["Holding something in front of something"]
    assert row(result, "3")["split"] == "val"
    assert row(result, "3")["error"] == "missing"
    assert row(result, "3")["message"] == "looked for 3.webm, 3.mp4 or another video ending"
    assert (row(result, "4")["labels"], row(result, "4")["error"]) == ([], None)
    assert set(result.annotations) == {
        f"{where}{prefix}{n}.json" for n in ("train", "validation", "test", "labels")
    }
    assert result.matching.counts["present but unannotated"] == 1
    assert result.matching.counts["annotated"] == 5


def test_answers_give_the_test_split_labels(tmp_path: Path) -> None:
    annotate(tmp_path, answers=True)
    result = read("ssv2", tmp_path)
    assert row(result, "4")["labels"] == ["Holding something"]
    assert row(result, "5")["labels"] == ["Squeezing something"]
    write(tmp_path, "test-answers.csv", ("4;Juggling something",))
    bad = row(read("ssv2", tmp_path), "4")
    assert bad["error"] == "unknown-label"
    assert "(from test-answers.csv, row 1)" in bad["message"]
    write(tmp_path, "test-answers.csv", ("4;Folding something", "nonsense"))
    with pytest.raises(AnnotationError, match=r"test-answers\.csv, row 2: 'nonsense' is not `id;label`"):
        read("ssv2", tmp_path)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {NAMES[19]: "20", NAMES[20]: "19"},
            f"label 19 should be {NAMES[19]!r}, but the file has {NAMES[20]!r} as 19",
        ),
        ({NAMES[0]: None}, f"label 0 should be {NAMES[0]!r}, but the file has {NAMES[1]!r} as 1"),
        ({NAMES[173]: None}, f"label 173 should be {NAMES[173]!r}, but the file ends before it"),
        (
            {"Doing nothing": "174"},
            "175 labels, where the published list has 174; the first that is too many: 'Doing",
        ),
        ({NAMES[3]: "three"}, "field 'Bending something until it breaks': 'three' is no whole number"),
    ],
)
def test_labels_in_another_order_stop_everything(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    annotate(tmp_path)
    labels = {name: number for name, number in (LABELS | change).items() if number is not None}
    write(tmp_path, "something-something-v2-labels.json", labels)
    with pytest.raises(AnnotationError) as caught:
        read("ssv2", tmp_path)
    assert part in str(caught.value)
    assert "labels.json" in str(caught.value)


def test_no_labels_file(tmp_path: Path) -> None:
    annotate(tmp_path)
    (tmp_path / "something-something-v2-labels.json").unlink()
    assert "no labels file: class ids are those of the published list" in read("ssv2", tmp_path).matching.notes


BAD: list[tuple[Any, str, str]] = [
    ("text", "bad-annotation", "record 2: expected an object, found text"),
    ({"template": "Folding [something]"}, "bad-annotation", "record 2, field 'id': missing"),
    (record("../1"), "bad-annotation", "record 2, field 'id': '../1' is no number"),
    (record(None), "bad-annotation", "field 'id': None is no number"),
    ({"id": "2"}, "bad-annotation", "field 'template': missing"),
    (record("2", 7), "bad-annotation", "field 'template': 7 is no text"),
    (record("2", "Eating [something]"), "unknown-label", "'Eating [something]' is none of the 174 templates"),
    (record("2", "\ud800"), "unknown-label", "none of the 174 templates"),
    (record("1"), "duplicate-row", "something-something-v2-train.json, record 1"),
]


@pytest.mark.parametrize(("bad", "code", "part"), BAD)
def test_bad_records(tmp_path: Path, bad: object, code: str, part: str) -> None:
    annotate(tmp_path, train=[record("1"), bad, record(7)])
    result = read("ssv2", tmp_path)
    failed = [item for item in result.table.to_pylist() if item["error"] not in (None, "missing")]
    assert [item["error"] for item in failed] == [code]
    assert part in failed[0]["message"]
    assert failed[0]["message"].startswith("something-something-v2-train.json, record 2")
    assert row(result, "7")["split"] == "train"  # a number that is no text is taken as it is meant
    assert len(rows(result)) == 6


def test_malformed_json_names_line_column_and_record(tmp_path: Path) -> None:
    annotate(tmp_path)
    text = '[{"id":"1","template":"Folding [something]"},\n {"id":"2","template" "x"}]'
    path = write(tmp_path, "something-something-v2-train.json", text)
    with pytest.raises(AnnotationError, match=r"malformed JSON at line 2, column 23, in record 2") as caught:
        read("ssv2", tmp_path)
    assert (caught.value.file, caught.value.row) == (str(path), 2)
    write(tmp_path, "something-something-v2-train.json", '[{"id":"1"},{"id":')
    with pytest.raises(AnnotationError, match="line 1, column 19, in record 2"):
        read("ssv2", tmp_path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{}", r"expected a list of records, found an object with the keys \(none\)"),
        ('{"a": 1}', "found an object with the keys 'a'"),
        ("[]", "the list of records is empty"),
        ("", "the annotation file is empty"),
        ("3", "found a number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, part: str) -> None:
    annotate(tmp_path)
    write(tmp_path, "something-something-v2-validation.json", text)
    with pytest.raises(AnnotationError, match=part):
        read("ssv2", tmp_path)


def test_no_annotations(tmp_path: Path) -> None:
    touch(tmp_path, "1.webm")
    with pytest.raises(AnnotationError, match="no annotation file found"):
        read("ssv2", tmp_path)


def test_short_names_of_others_are_left_alone(tmp_path: Path) -> None:
    annotate(tmp_path)
    write(tmp_path, "other/train.json", {"not": "ours"})
    assert len(rows(read("ssv2", tmp_path))) == 5


def test_two_files_for_one_number(tmp_path: Path) -> None:
    annotate(tmp_path)
    touch(tmp_path, "1.webm", "1.mp4")
    result = read("ssv2", tmp_path)
    assert row(result, "1")["path"] == "1.mp4"
    assert result.matching.counts["matched twice (the first that can be used is)"] == 1
    assert "present but unannotated" not in result.matching.counts


def test_links_and_present_only(tmp_path: Path) -> None:
    annotate(tmp_path / "s")
    touch(tmp_path, "out.webm", "s/2.webm")
    (tmp_path / "s/1.webm").symlink_to(tmp_path / "out.webm")
    result = read("ssv2", tmp_path / "s", present_only=True)
    assert {name: item["error"] for name, item in rows(result).items()} == {"1": "unsafe-path", "2": None}

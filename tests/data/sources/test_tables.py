"""Kinetics tables in other clothes: semicolons, tabs, UTF-16, JSON; and tables that are not understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.trees import CSV_HEAD, SPECS, csv_lines, read, row, rows, touch, write
from vidkit.errors import AnnotationError

A, B, C = "AbCdEfGhIjK", "-bCdEfGhIjK", "_______-___"
PLAIN = f'{CSV_HEAD}\nyoga,{A},12,22,train,0\n"petting animal (not cat)",{B},1,11,val,0\n'


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    touch(tmp_path, f"archery/{A}.mp4", f"archery/{B}.mp4")  # folders that say otherwise are not taken instead
    write(tmp_path, "kinetics400.csv", PLAIN.replace(",", delimiter).encode(encoding))
    result = read("kinetics", tmp_path)
    assert {name: (item["split"], item["labels"]) for name, item in rows(result).items()} == {
        f"{A}_000012_000022": ("train", ["yoga"]),
        f"{B}_000001_000011": ("val", ["petting animal (not cat)"]),
    }
    assert list(result.annotations) == ["kinetics400.csv"]


def test_decimal_commas_and_other_endings(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", f"{CSV_HEAD}\nyoga,{A},12,22,train,0\n".replace(",", ";").replace("12", "12,5"))
    write(tmp_path, "val.tsv", f"{CSV_HEAD}\nyoga,{B},1,11,val,0\n".replace(",", "\t"))
    write(tmp_path, "test.txt", f"{CSV_HEAD}\nyoga,{C},1,11,test,0\n".replace(",", "\t"))
    touch(tmp_path, f"{A}.mp4")
    found = rows(read("kinetics", tmp_path))
    assert found[f"{A}_000012_000022"]["start_s"] == 12.5
    assert {item["split"] for item in found.values()} == {"train", "val", "test"}


@pytest.mark.parametrize(
    "name", ["kinetics400.csv", "labels.tsv", "meta.json", "videos.list", "notes.txt", "deep/er/x.csv"]
)
def test_a_table_that_was_not_understood_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"yoga/{A}.mp4")
    write(tmp_path, name, "what: ever; this, is\n")
    assert read("kinetics", tmp_path).matching.notes[-1] == f"not understood, so not read: {name}"
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},1,11,train,0"))
    assert f"not understood, so not read: {name}" in read("kinetics", tmp_path).matching.notes


@pytest.mark.parametrize("kind", SPECS)
def test_it_is_named_also_where_nothing_can_be_planned(tmp_path: Path, kind: str) -> None:
    touch(tmp_path, f"{A}.mp4", "x.avi")
    write(tmp_path, "kinetics400.csv", "what,where\nyoga,here\n")
    write(tmp_path, "labels_weird.csv", "what|where\nyoga|here\n")
    write(tmp_path, "README.txt", "my videos\n")
    with pytest.raises(AnnotationError) as caught:
        read(kind, tmp_path)
    assert caught.value.file == str(tmp_path)
    assert caught.value.message.endswith("; not understood, so not read: kinetics400.csv, labels_weird.csv")


def test_what_is_understood_is_not_named(tmp_path: Path) -> None:
    """The table that Mini-Kinetics would take labels from does not make up for its lists."""
    touch(tmp_path, f"{A}.mp4")
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},1,11,train,0"))
    write(tmp_path, "weird.csv", "what,where\n")
    with pytest.raises(AnnotationError, match=r"; not understood, so not read: weird\.csv\n"):
        read("minikinetics", tmp_path)


def official(
    *, label: str | None = "yoga", segment: Any = (12.0, 22.0), subset: Any = "training"
) -> dict[str, Any]:
    annotations = {"segment": list(segment) if isinstance(segment, tuple) else segment}
    annotations |= {} if label is None else {"label": label}
    return {"annotations": annotations, "duration": 10.0, "subset": subset, "url": "https://example.org"}


def test_official_json(tmp_path: Path) -> None:
    write(tmp_path, "kinetics_train.json", {A: official(), B: official(label="archery")})
    write(tmp_path, "kinetics_val.json", {C: official(subset="validate")})
    write(tmp_path, "kinetics_test.json", {"abc_def-012": official(label=None, subset="testing")})
    touch(tmp_path, f"{A}_000012_000022.mp4", f"yoga/{C}.mp4")
    result = read("kinetics", tmp_path)
    found = {name: (item["split"], item["labels"], item["error"]) for name, item in rows(result).items()}
    times = "000012_000022"
    assert found == {
        f"{A}_{times}": ("train", ["yoga"], None),
        f"{B}_{times}": ("train", ["archery"], "missing"),
        f"{C}_{times}": ("val", ["yoga"], None),
        f"abc_def-012_{times}": ("test", [], "missing"),
    }
    assert len(result.annotations) == 3


BAD_RECORDS: dict[str, tuple[Any, str]] = {
    "no object": ([], "record 1: expected an object, found a list"),
    "no label": (official(label=None), "field 'annotations.label': empty in the train split"),
    "label": (official() | {"annotations": {"label": 3, "segment": [1, 2]}}, "3 is no text"),
    "backwards": (official(segment=(5.0, 1.0)), "[5.0, 1.0] is no [start, end] in seconds"),
    "no times": (official(segment=None), "None is no [start, end] in seconds"),
    "huge": (official(segment=(0, 10**400)), "is no [start, end] in seconds"),
    "subset": (official(subset="everything"), "field 'subset': 'everything' is none of train, val, test"),
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_bad_json_records_stay_and_say_why(tmp_path: Path, case: str) -> None:
    record, text = BAD_RECORDS[case]
    write(tmp_path, "train.json", {B: record, A: official()})
    if case == "no object":  # the first record tells what the file is
        write(tmp_path, "train.json", {A: official(), B: record})
        text = text.replace("record 1", "record 2")
    touch(tmp_path, f"{A}.mp4", f"{B}.mp4")
    result = read("kinetics", tmp_path)
    bad = [item for item in result.table.to_pylist() if item["error"]]
    assert [item["error"] for item in bad] == ["bad-annotation"]
    assert text in bad[0]["message"]
    assert "train.json, record" in bad[0]["message"]
    assert result.table.num_rows == 2


def test_json_where_csvs_are_is_not_read_twice(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},1,11,train,0"))
    write(tmp_path, "train.json", {A: official()})
    write(tmp_path, "val.json", {B: official(subset="validation")})
    result = read("kinetics", tmp_path)
    assert set(rows(result)) == {f"{A}_000001_000011", f"{B}_000012_000022"}
    assert "JSON files not used, as there are CSVs: train.json" in result.matching.notes


def test_an_id_twice_in_json_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path, "train.json", '{"%s": {"annotations": {}}, "%s": {"annotations": {}}}' % (A, A))  # noqa: UP031
    with pytest.raises(AnnotationError, match=f"the key '{A}' stands twice in one object"):
        read("kinetics", tmp_path)


def test_unusable_json_names_line(tmp_path: Path) -> None:
    path = write(tmp_path, "train.json", '{"%s": {"annotations": {},\n "subset": tru' % A)  # noqa: UP031
    with pytest.raises(AnnotationError, match="malformed JSON at line 2") as caught:
        read("kinetics", tmp_path)
    assert caught.value.file == str(path)


def test_minikinetics_takes_labels_from_json(tmp_path: Path) -> None:
    write(tmp_path, "train_ytid_list.txt", (A,))
    write(tmp_path, "kinetics_train.json", {A: official(label="yoga")})
    touch(tmp_path, f"{A}.mp4")
    found = row(read("minikinetics", tmp_path), f"{A}_000012_000022")
    assert (found["labels"], found["start_s"]) == (["yoga"], 12.0)

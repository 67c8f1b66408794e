"""List files of other tools, both kinds, and paths in them that are not to be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.sources.trees import read, row, rows, touch, write
from vidkit.data.manifests import class_list
from vidkit.data.sources import SourceResult
from vidkit.data.sources.list_lines import form_of, parse_lines
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceSpec

NAMES = class_list("kinetics400").names


@pytest.mark.parametrize(
    ("line", "path", "ids"),
    [
        ("/data/a.mp4 17", "/data/a.mp4", [17]),
        ("a.mp4", "a.mp4", []),
        ("a.mp4 3 14", "a.mp4", [3, 14]),
        ("my clips/a b.mp4 17", "my clips/a b.mp4", [17]),
        ("a.mp4 3/b.MKV 17  ", "a.mp4 3/b.MKV", [17]),
        ("clip 3 4.webm", "clip 3 4.webm", []),
        ("a.mp4\t5", "a.mp4", [5]),
        ("a.mp4,5", "a.mp4", [5]),
        ("-rf.mp4 0", "-rf.mp4", [0]),
        ("a.mp4 0 -1", "a.mp4", [0, -1]),
        ("'q\"uote'.avi 1", "'q\"uote'.avi", [1]),
    ],
)
def test_lines(line: str, path: str, ids: list[int]) -> None:
    (parsed,) = parse_lines(f"# comment\n\n{line}\r\n")
    assert (parsed.row, parsed.path, parsed.ids) == (3, path, ids)


@pytest.mark.parametrize("line", ["a.jpg 1", "a.mp4 99999999999", "frames/a 100 5", "a.mp4 yoga", "a.mp4x 1", "17"])
def test_lines_that_are_none(line: str) -> None:
    (parsed,) = parse_lines(line)
    assert parsed.path is None
    assert parsed.text == line


@pytest.mark.parametrize("name", ["train.txt", "kinetics_train_list.csv", "lists/train_videos.list", "train"])
def test_found_by_name_and_content(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, ("a/x.mp4 399", "a/y.mp4 0"))
    touch(tmp_path, "a/x.mp4", "a/y.mp4")
    if name == "train":
        with pytest.raises(AnnotationError, match="no list file found"):
            read("listfile", tmp_path)
        return
    result = read("listfile", tmp_path)
    assert row(result, "a/x")["labels"] == ["zumba"]
    assert row(result, "a/y")["labels"] == ["abseiling"]
    assert row(result, "a/x")["group"] == "a/x.mp4"
    assert list(result.annotations) == [name]


def test_rows(tmp_path: Path) -> None:
    write(
        tmp_path,
        "train.txt",
        (
            "a/x.mp4 3 14 3",
            "gone.mp4 1",
            "a/y.mp4",
            "a/z.mp4 400",
            "a/w.mp4 -1",
            "no video 7",
            "../up.mp4 1",
            "a/x.mp4 3 14",
            "/abs/elsewhere/q.mp4 2",
        ),
    )
    touch(tmp_path, "a/x.mp4", "a/y.mp4", "a/z.mp4", "a/w.mp4", "b/q.mp4", "extra.mp4")
    result = read("listfile", tmp_path)
    assert row(result, "a/x")["labels"] == sorted([NAMES[3], NAMES[14]])
    assert row(result, "gone")["error"] == "missing"
    assert row(result, "gone")["message"] == "train.txt, row 2, field 'path': no file 'gone.mp4'"
    assert (row(result, "a/y")["labels"], row(result, "a/y")["error"]) == ([], "no-label")
    assert row(result, "a/y")["message"] == (
        "train.txt, row 3, field 'label': has no label, as 7 of the list's 8 lines have"
    )
    assert row(result, "a/z")["error"] == "unknown-label"
    assert row(result, "a/z")["message"] == (
        "train.txt, row 4, field 'label': 400 is no id of the class list (0 to 399)"
    )
    assert row(result, "a/w")["error"] == "unknown-label"
    assert row(result, "train.txt:6")["error"] == "bad-annotation"
    assert "'no video 7' is no video path" in row(result, "train.txt:6")["message"]
    unsafe = row(result, "train.txt:7")
    assert (unsafe["error"], unsafe["path"]) == ("unsafe-path", None)
    assert "'../up.mp4' leads out of the source folder" in unsafe["message"]
    assert row(result, "a/x#2")["error"] == "duplicate-row"
    assert row(result, "b/q")["path"] == "b/q.mp4"
    counts = result.matching.counts
    assert counts["annotated"] == len(rows(result)) == 9
    assert counts["present but unannotated"] == 1
    assert counts["paths matched by their last parts"] == 1
    assert any("1 paths of list files are not as written" in note for note in result.matching.notes)


def test_a_list_from_another_machine(tmp_path: Path) -> None:
    lines = tuple(f"/nfs/other/k400/{split}/{c}/1.mp4 {c}" for split in ("train", "val") for c in (3, 4))
    write(tmp_path, "train.txt", lines[:2])
    write(tmp_path, "val.txt", lines[2:])
    touch(tmp_path, *(f"{split}/{c}/1.mp4" for split in ("train", "val") for c in (3, 4)))
    result = read("listfile", tmp_path)
    assert {(item["split"], item["path"], item["labels"][0]) for item in result.table.to_pylist()} == {
        (split, f"{split}/{c}/1.mp4", NAMES[c]) for split in ("train", "val") for c in (3, 4)
    }


def test_a_bare_name_that_fits_several_files_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", ("/other/9/1.mp4 0",))
    touch(tmp_path, "3/1.mp4", "4/1.mp4")
    bad = next(iter(rows(read("listfile", tmp_path)).values()))
    assert bad["error"] == "missing"
    assert "2 files could be '/other/9/1.mp4'" in bad["message"]


def test_a_missing_file_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", ("train/0.mp4 0", "/data/train/7.mp4 0"))
    write(tmp_path, "val.txt", ("val/0.mp4 1", "/data/val/7.mp4 1"))
    touch(tmp_path, "train/0.mp4", "videos/7.mp4")
    found = rows(read("listfile", tmp_path))
    assert {key: (item["path"], item["error"]) for key, item in found.items()} == {
        "train/0": ("train/0.mp4", None),
        "val/0": (None, "missing"),
        "data/train/7": (None, "missing"),
        "data/val/7": (None, "missing"),
    }
    assert "the one of that name may as well be another line's" in found["data/val/7"]["message"]


def test_a_file_that_two_lists_name_is_found_in_both(tmp_path: Path) -> None:
    for name in ("train.txt", "val.txt"):
        write(tmp_path, name, ("/data/a.mp4 0",))
    touch(tmp_path, "clips/a.mp4")
    assert [item["path"] for item in rows(read("listfile", tmp_path)).values()] == ["clips/a.mp4"] * 2


def test_malformed_lines_are_rows_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", ("b.mp4 seven",))
    touch(tmp_path, "b.mp4")
    assert row(read("listfile", tmp_path), "train.txt:1")["message"] == (
        "train.txt, row 1, field 'path': 'b.mp4 seven' is no video path with whole numbers after it"
    )


def test_a_list_of_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, "train.txt", ("# frames", "frames/a 100 5"))
    touch(tmp_path, "b.mp4")
    with pytest.raises(AnnotationError, match="'frames/a 100 5' is no video path with whole numbers") as caught:
        read("listfile", tmp_path)
    assert (caught.value.file, caught.value.row) == (str(path), 2)


def test_paths_relative_to_the_list(tmp_path: Path) -> None:
    write(tmp_path, "lists/train.txt", ("../videos/a.mp4 1", "../../a.mp4 1"))
    touch(tmp_path, "videos/a.mp4")
    result = read("listfile", tmp_path)
    assert row(result, "videos/a")["path"] == "videos/a.mp4"
    assert row(result, "lists/train.txt:2")["error"] == "unsafe-path"


def test_absolute_path_that_exists_outside(tmp_path: Path) -> None:
    touch(tmp_path, "other/a.mp4", "root/b.mp4")
    write(tmp_path / "root", "train.txt", (f"{tmp_path}/other/a.mp4 1", f"{tmp_path}/root/b.mp4 1"))
    result = read("listfile", tmp_path / "root")
    assert row(result, "train.txt:1")["error"] == "unsafe-path"
    assert row(result, "b")["error"] is None


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "other/a.mp4")
    write(tmp_path / "root", "train.txt", ("a.mp4 1",))
    (tmp_path / "root/a.mp4").symlink_to(tmp_path / "other/a.mp4")
    assert row(read("listfile", tmp_path / "root"), "train.txt:1")["error"] == "unsafe-path"
    assert row(read("listfile", tmp_path / "root", follow_symlinks=True), "a")["error"] is None


def test_the_name_must_say_the_split(tmp_path: Path) -> None:
    path = write(tmp_path, "videos.txt", ("a.mp4 1",))
    with pytest.raises(AnnotationError, match="name does not say train, val or test") as caught:
        read("listfile", tmp_path)
    assert caught.value.file == str(path)


def test_own_classes(tmp_path: Path) -> None:
    write(tmp_path, "test.txt", ("a.mp4 1", "b.mp4 2"))
    spec = SourceSpec(name="own", kind="listfile", class_names=("run", "jump"))
    result = read("listfile", tmp_path, spec=spec, annotations=())
    assert result.classes == ("run", "jump")
    assert row(result, "a")["labels"] == ["jump"]
    assert row(result, "b")["error"] == "unknown-label"
    assert row(result, "a")["split"] == "test"


# --- what the numbers mean --------------------------------------------------------------------------------


def read_lines(folder: Path, *lines: str, **options: int) -> SourceResult:
    write(folder, "train.txt", lines)
    touch(folder, *(f"{c}/x.mp4" for c in "abcdef"))
    return read("listfile", folder, **options)


def test_start_and_length_instead_of_a_label(tmp_path: Path) -> None:
    result = read_lines(tmp_path, "a/x.mp4 0 -1", "b/x.mp4 0 -1")
    assert [(item["labels"], item["error"]) for item in result.table.to_pylist()] == [([], None)] * 2
    assert result.matching.notes == ["train.txt: the lines are read as `path start length`, which gives no labels"]


def test_length_before_a_label(tmp_path: Path) -> None:
    result = read_lines(tmp_path, "a/x.mp4 250 3", "b/x.mp4 300 4")
    assert [(item["labels"], item["error"]) for item in result.table.to_pylist()] == [
        ([NAMES[3]], None),
        ([NAMES[4]], None),
    ]
    assert result.matching.notes == ["train.txt: the lines are read as `path length label`"]


def test_start_and_length_before_a_label(tmp_path: Path) -> None:
    result = read_lines(tmp_path, "a/x.mp4 0 250 3", "b/x.mp4 0 -1 4", "c/x.mp4 50 100 5")
    assert [item["labels"] for item in result.table.to_pylist()] == [[NAMES[3]], [NAMES[4]], [NAMES[5]]]
    last = row(result, "c/x")
    assert last["error"] == "bad-annotation"
    assert "train.txt, row 3, field 'start': the clip begins at frame 50" in last["message"]


def test_lines_that_lack_their_numbers(tmp_path: Path) -> None:
    """They do not change how the others are read, and are no clips without a label."""
    result = read_lines(tmp_path, "a/x.mp4 5 20 3", "a/y.mp4", "b/x.mp4 0 20 4", "b/y.mp4 7", "c/x.mp4 0 90 5")
    found = {name: (item["labels"], item["error"]) for name, item in rows(result).items()}
    assert found == {
        "a/x": ([NAMES[3]], "bad-annotation"),
        "a/y": ([], "no-label"),
        "b/x": ([NAMES[4]], None),
        "b/y": ([], "bad-annotation"),
        "c/x": ([NAMES[5]], None),
    }
    assert "'b/y.mp4 7' has no `start length label` after the path" in row(result, "b/y")["message"]
    assert result.matching.counts["lines without a label in lists that give labels"] == 1
    assert result.matching.examples["lines without a label in lists that give labels"] == [
        "train.txt, row 2: a/y.mp4"
    ]


def test_lists_that_are_mostly_without_labels(tmp_path: Path) -> None:
    """Such as those of half-labelled sets: clips stay, and the plan says how many have none."""
    result = read_lines(tmp_path, "a/x.mp4 3", "b/x.mp4", "c/x.mp4")
    assert [item["error"] for item in result.table.to_pylist()] == [None] * 3
    assert result.matching.counts["lines without a label in lists that give labels"] == 2
    result = read_lines(tmp_path, "a/x.mp4", "a/y.mp4")
    assert "lines without a label in lists that give labels" not in result.matching.counts


@pytest.mark.parametrize(
    ("numbers", "multi_label", "form"),
    [
        ([[3, 14], [5, 6]], True, "labels"),  # two labels each
        ([[3, 14], [5, 6]], False, "length label"),
        ([[250, 3], [900, 6]], True, "length label"),  # 900 is no label
        ([[0, 250], [0, 900]], True, "start length"),
        ([[0, 3], [0, 6]], True, "labels"),
        ([[0, -1]], True, "start length"),
        ([[0, -1, 3]], True, "start length label"),
        ([[1, 2, 3], [4, 5, 6]], True, "labels"),
        ([[1, 2, 3], [4, 5, 6]], False, "start length label"),  # more labels than a clip has
        ([[5, 20, 3], [0, 20, 6], [900, 20, 1]], False, "start length label"),
        ([[5, 20, 3], [], [0, 20, 6]], False, "start length label"),
        ([[250, 3], [], [90, 6], [4]], False, "labels"),
        ([[250, 3], [], [90, 6], [80, 4], [4]], False, "length label"),
        ([[250, 3], [], [900, 6]], True, "length label"),
        ([[250, 3], [900, 6], [4]], True, "labels"),  # clips with several labels: one may have one
        ([[0, -1], []], False, "start length"),
        ([[0, 90, 3], [0, 80, 6]], False, "start length label"),
        ([[250, 3], [4]], False, "labels"),
        ([[3], [4]], False, "labels"),
        ([[-1], [4]], False, "labels"),
        ([[], []], False, "labels"),
        ([], False, "labels"),
    ],
)
def test_forms(numbers: list[list[int]], multi_label: bool, form: str) -> None:
    assert form_of(numbers, range(400), multi_label=multi_label) == form


# --- ids from 1 -------------------------------------------------------------------------------------------


def test_ids_that_begin_at_1_are_found_out(tmp_path: Path) -> None:
    names = [NAMES[i] for i in (0, 5, 399)]
    path = write(
        tmp_path, "train.txt", tuple(f"{name.replace(' ', '_')}/1.mp4 {NAMES.index(name) + 1}" for name in names)
    )
    touch(tmp_path, *(f"{name.replace(' ', '_')}/1.mp4" for name in names))
    with pytest.raises(AnnotationError) as caught:
        read("listfile", tmp_path)
    assert caught.value.message == (
        f"path and id name different classes in 3 of 3 lines, here folder {NAMES[0]!r} and id 1: "
        f"{NAMES[1]!r} (ids from 0) or {NAMES[0]!r} (ids from 1)"
    )
    assert (caught.value.file, caught.value.row) == (str(path), 1)
    assert caught.value.hint == "read the list with --ids-from 1"
    result = read("listfile", tmp_path, ids_from=1)
    assert sorted(item["labels"][0] for item in result.table.to_pylist()) == sorted(names)


def test_ids_of_another_list_are_found_out_too(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", (f"{NAMES[3]}/1.mp4 17", f"{NAMES[4]}/1.mp4 20"))
    with pytest.raises(AnnotationError, match="in 2 of 2 lines") as caught:
        read("listfile", tmp_path)
    assert "positions in this source's class list" in (caught.value.hint or "")


def test_a_few_folders_of_another_class_are_no_error(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", tuple(f"{NAMES[i]}/1.mp4 {i + (i == 5)}" for i in range(3, 8)))
    assert read("listfile", tmp_path).table.num_rows == 5


def test_range_of_ids_from_1(tmp_path: Path) -> None:
    result = read_lines(tmp_path, "a/x.mp4 400", "b/x.mp4 0", ids_from=1)
    assert row(result, "a/x")["labels"] == [NAMES[399]]
    assert "0 is no id of the class list (1 to 400)" in row(result, "b/x")["message"]


# --- lines ------------------------------------------------------------------------------------------------


def test_a_line_that_names_a_file_is_no_comment(tmp_path: Path) -> None:
    touch(tmp_path, "#shorts challenge.mp4", "#d/y.mp4", "a/x.mp4")
    result = read_lines(tmp_path, "#shorts challenge.mp4 3", "#d/y.mp4 4", "#a/x.mp4 5", "# a comment", "a/x.mp4 6")
    assert {item["path"]: item["labels"] for item in result.table.to_pylist()} == {
        "#shorts challenge.mp4": [NAMES[3]],
        "#d/y.mp4": [NAMES[4]],
        "a/x.mp4": [NAMES[6]],
    }
    assert result.matching.examples["lines of lists that begin with # and name no file (comments)"] == [
        "train.txt, row 3: #a/x.mp4 5"
    ]


def test_names_without_an_ending(tmp_path: Path) -> None:
    touch(tmp_path, "v/clip 1")
    result = read_lines(tmp_path, "v/clip 1 17", "a/x.mp4 3")
    assert row(result, "v/clip 1")["labels"] == [NAMES[17]]
    assert row(result, "v/clip 1")["error"] is None
    assert "ignored: other files" not in result.matching.counts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("between", [" ", ";", "\t", ", "])
def test_separators_and_encodings(tmp_path: Path, between: str, encoding: str) -> None:
    write(tmp_path, "train.csv", f"a/x.mp4{between}3\r\nb/x.mp4{between}4\r\n".encode(encoding))
    touch(tmp_path, "a/x.mp4", "b/x.mp4")
    found = rows(read("listfile", tmp_path))
    assert [item["labels"] for item in found.values()] == [[NAMES[3]], [NAMES[4]]]


def test_two_endings_of_one_stem_are_two_clips(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.webm")
    result = read_lines(tmp_path, "a/x.mp4 3", "a/x.webm 4", "a/x.mp4 3")
    assert (row(result, "a/x")["path"], row(result, "a/x#2")["path"]) == ("a/x.mp4", "a/x.webm")
    assert row(result, "a/x#2")["error"] is None
    assert row(result, "a/x#3")["error"] == "duplicate-row"


def test_split_words_in_class_folders_contradict_nothing(tmp_path: Path) -> None:
    write(tmp_path, "val.txt", ("/data/k/val/training cat/1.mp4 3",))
    touch(tmp_path, "copy/training cat/1.mp4")
    found = next(iter(rows(read("listfile", tmp_path)).values()))
    assert (found["path"], found["error"]) == ("copy/training cat/1.mp4", None)

"""The walk, and looking up paths that annotations name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.sources.trees import raw_name, touch
from vidkit.data.sources.parts.files import FileIndex, scan
from vidkit.data.sources.parts.finder import PathFinder
from vidkit.data.sources.parts.rows import note
from vidkit.data.sources.parts.splits import split_of_name
from vidkit.data.tables import Matching
from vidkit.errors import ConfigError


def index(folder: Path, follow: bool = False) -> tuple[FileIndex, Matching]:
    matching = Matching("s")
    return scan(folder, matching, follow_symlinks=follow), matching


def test_everything_has_its_place(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.MP4",
        "a/x.mkv",
        "a/y.WebM",
        "z.avi",
        ".hidden.mp4",
        ".git/c.mp4",
        "d.mp4.part",
        "e.tmp",
        "train.csv",
        "a/b/list.txt",
        "a/b/c/d/deep.csv",
        "pic.jpg",
        "noending",
    )
    files, matching = index(tmp_path)
    assert files.videos == ["a/x.mkv", "a/y.WebM", "b.MP4", "z.avi"]
    assert files.texts == ["a/b/list.txt", "train.csv"]
    assert matching.counts == {
        "ignored: hidden files and folders": 2,
        "ignored: unfinished downloads": 2,
        "ignored: other files": 3,
    }
    assert "FileIndex" in repr(files)
    assert "4 videos" in repr(files)


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{letter}/{n}.mp4" for letter in "cab" for n in (3, 1, 2)]
    touch(tmp_path, *names)
    assert index(tmp_path)[0].videos == sorted(names)


def test_absent_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the folder of source 's': No such file"):
        index(tmp_path / "nowhere")
    touch(tmp_path, "x.mp4")
    with pytest.raises(ConfigError, match="Not a directory"):
        index(tmp_path / "x.mp4")


def test_links(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root, "train_256/a.mp4", ".store/val/v.mp4")
    touch(other, "o.mp4", "sub/p.mp4")
    (root / "train").symlink_to("train_256")  # inside, and here under its own name
    (root / "val").symlink_to(".store/val")  # inside, but its own name is hidden
    (root / "loop").symlink_to(".")
    (root / "out").symlink_to(other)
    (root / "in.mp4").symlink_to("train_256/a.mp4")
    (root / "out.mp4").symlink_to(other / "o.mp4")
    (root / "twice.mp4").symlink_to("out.mp4")  # a link to a link that leads out
    (root / "broken.mp4").symlink_to("train_256/gone.mp4")
    files, matching = index(root)
    assert files.videos == ["broken.mp4", "in.mp4", "out.mp4", "train_256/a.mp4", "twice.mp4", "val/v.mp4"]
    assert files.outside == {"out.mp4", "twice.mp4"}
    assert matching.counts["links to folders outside (not followed)"] == 1
    assert matching.counts["links to folders that are read already (not followed)"] == 2
    assert matching.counts["links to files outside (not opened)"] == 2

    files, _ = index(root, follow=True)
    assert files.outside == set()
    assert files.videos == [
        "broken.mp4",
        "in.mp4",
        "out.mp4",
        "out/o.mp4",
        "out/sub/p.mp4",
        "train_256/a.mp4",
        "twice.mp4",
        "val/v.mp4",
    ]


def test_link_to_a_parent_is_no_loop(tmp_path: Path) -> None:
    root = tmp_path / "a" / "root"
    touch(root, "x.mp4")
    touch(tmp_path, "a/y.mp4")
    (root / "up").symlink_to(tmp_path)
    assert index(root)[0].videos == ["x.mp4"]
    assert index(root, follow=True)[0].videos == ["up/a/y.mp4", "x.mp4"]


def test_a_neighbour_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    touch(tmp_path, "root/a.mp4", "root-2/sub/b.mp4")
    (tmp_path / "root/b.mp4").symlink_to(tmp_path / "root-2/sub/b.mp4")
    (tmp_path / "root/sub").symlink_to(tmp_path / "root-2/sub")
    files, _ = index(tmp_path / "root")
    assert files.videos == ["a.mp4", "b.mp4"]
    assert files.outside == {"b.mp4"}


def test_links_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to("x.mp4")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert index(tmp_path)[0].videos == ["x.mp4"]  # opening it will fail, and be recorded


def test_a_linked_root_is_its_target(tmp_path: Path) -> None:
    touch(tmp_path / "real", "x.mp4")
    (tmp_path / "link").symlink_to("real")
    files, _ = index(tmp_path / "link")
    assert files.root == (tmp_path / "real").resolve()
    assert files.videos == ["x.mp4"]
    assert PathFinder.of(files, tmp_path / "link").locate(str(tmp_path / "link/x.mp4")).how == "exact"


def test_folder_and_pipe_named_as_videos(tmp_path: Path) -> None:
    touch(tmp_path, "full.mp4/x.mp4", "empty.mp4/notes.md")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert index(tmp_path)[0].videos == ["empty.mp4", "full.mp4/x.mp4", "pipe.mp4"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    raw_name(tmp_path, b"caf\xe9.mp4")
    assert [os.fsencode(path) for path in index(tmp_path)[0].videos] == [b"caf\xe9.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.mp4", "y.mp4")
    (tmp_path / "a").chmod(0)
    try:
        files, matching = index(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)
    assert files.videos == ["y.mp4"]
    assert matching.counts["folders that cannot be read"] == 1


@pytest.fixture
def finder(tmp_path: Path) -> PathFinder:
    touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "val/a/1.mp4", "only.mp4", "lists/../x y.mp4")
    return PathFinder.of(index(tmp_path)[0], tmp_path)


@pytest.mark.parametrize(
    ("text", "base", "how", "found"),
    [
        ("train/a/1.mp4", "", "exact", "train/a/1.mp4"),
        ("./train//a/1.mp4", "", "exact", "train/a/1.mp4"),
        ("train/../only.mp4", "", "exact", "only.mp4"),
        ("../only.mp4", "lists", "exact", "only.mp4"),
        ("x y.mp4", "", "exact", "x y.mp4"),
        ("k400/train/b/1.mp4", "", "suffix", "train/b/1.mp4"),
        ("/data/train/b/1.mp4", "", "suffix", "train/b/1.mp4"),
        ("/data/only.mp4", "", "suffix", "only.mp4"),
        ("/data/1.mp4", "", "ambiguous", None),
        ("/data/c/1.mp4", "", "ambiguous", None),
        ("/data/a/1.mp4", "", "ambiguous", None),
        ("b/1.mp4", "", "suffix", "train/b/1.mp4"),
        ("train/only.mp4", "", "missing", None),
        ("c/b/1.mp4", "", "missing", None),
        ("/data/c/b/1.mp4", "", "suffix", "train/b/1.mp4"),
        ("/data/val/b/1.mp4", "", "missing", None),
        ("none.mp4", "", "missing", None),
        ("/no/such/none.mp4", "", "missing", None),
        ("../only.mp4", "", "unsafe", None),
        ("../../etc/passwd", "lists", "unsafe", None),
        ("/etc/passwd", "", "unsafe", None),
        ("..", "", "unsafe", None),
    ],
)
def test_locate(finder: PathFinder, text: str, base: str, how: str, found: str | None) -> None:
    located = finder.locate(text, base=base)
    assert located.how == how
    assert (None if located.video is None else finder.index.videos[located.video]) == found


def test_locate_absolute_below_the_root(finder: PathFinder) -> None:
    root = str(finder.index.root)
    assert finder.locate(f"{root}/val/a/1.mp4").how == "exact"
    # a neighbour whose name begins like the root's is outside
    assert finder.locate(f"{root}-2/val/a/1.mp4").how == "suffix"
    assert finder.locate(f"{root}/../../etc/none.mp4").how == "missing"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4), min_size=1, max_size=40),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
)
def test_the_longest_run_is_that_of_every_file_compared(tree: list[list[str]], wanted: list[str]) -> None:
    # few names and many files, so that more than `_FEW` share one
    paths = sorted({"/".join([*parts, "x.mp4"]) for parts in tree})
    finder = PathFinder.of(FileIndex(Path("/nowhere"), paths, []), Path("/nowhere"))
    parts = [*wanted, "x.mp4"]

    def run(path: str) -> int:
        own, n = path.split("/"), 0
        while own[-1 - n :] == parts[-1 - n :] and n < min(len(own), len(parts)):
            n += 1
        return n

    longest = max(map(run, paths))
    best = [path for path in paths if run(path) == longest]
    found, length = finder._longest(parts)
    assert ([finder.index.videos[i] for i in found], length) == (best, longest)
    below = finder.below("/".join(parts), lambda prefix: True, lambda prefix: 0)
    full = [path for path in paths if path.endswith("/" + "/".join(parts)) or path == "/".join(parts)]
    assert (None if below.video is None else paths[below.video]) == (full[0] if full else None)


def test_ties_are_counted(finder: PathFinder) -> None:
    assert finder.locate("/data/a/1.mp4").others == 2


def test_the_roots_own_name_is_part_of_a_path(tmp_path: Path) -> None:
    touch(tmp_path, "val/0.mp4")
    finder = PathFinder.of(index(tmp_path / "val")[0], tmp_path / "val")
    assert finder.locate("val/0.mp4").video == 0
    assert finder.locate("train/0.mp4").how == "missing"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("val_256", "val"),
        ("kinetics-400_test", "test"),
        ("something-something-v2-validation", "val"),
        ("tiny_test_v2_public", "test"),
        ("Training", "train"),
        ("validate", "val"),
        ("train_val", None),
        ("training dog", "train"),
        ("trains", None),
        ("testify", None),
        ("all", None),
        ("", None),
    ],
)
def test_split_of_name(name: str, split: str | None) -> None:
    assert split_of_name(name) == split


def test_notes_are_one_short_printable_line() -> None:
    text = note("a\udce9.csv", 3, "label", "x\n" * 400)
    assert text.startswith("a\\udce9.csv, row 3, field 'label': x x")
    assert len(text) == 300
    text.encode("utf-8")

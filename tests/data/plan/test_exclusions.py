"""Clips that are left out of a plan by name: what is read of a list, and what it does not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.typed import Run
from tests.cli.typed import vidkit as vidkit
from tests.data import builds
from vidkit.data.plan import exclusions
from vidkit.data.plan.planning import refuse_doubts
from vidkit.errors import BuildError, ConfigError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exclude") / "clips"
    for i, name in enumerate(("b/1", "b/2", "b/3", "a, and more/4", "c/5")):
        builds.write_clip(root / "train" / f"{name}.mp4", first=i)
    return root


def written(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


PLAIN = "# left out by hand\nmine/train/b/2\n\nmine/train/a, and more/4\r\n"
CSV = '# from a tool\nkey,clip_id,mark\n0,mine/train/b/2,1\n1,"mine/train/a, and more/4",2\n'


@pytest.mark.parametrize("text", [PLAIN, CSV, "\ufeff" + CSV.split("\n", 1)[1]])
def test_lists_and_tables(tree: Path, tmp_path: Path, text: str) -> None:
    prepared = builds.plan(builds.FOLDERS, tree, exclude=(written(tmp_path, text),))
    left = sorted(prepared.table["clip_id"].to_pylist())
    assert left == ["mine/train/b/1", "mine/train/b/3", "mine/train/c/5"]
    excluded = prepared.plan.excluded
    assert excluded is not None
    assert excluded.clip_ids == ("mine/train/a, and more/4", "mine/train/b/2")
    assert excluded.unknown == ()
    assert excluded.to_plain()["sources"] == {"mine": 2}


def test_classes_keep_their_ids(tree: Path, tmp_path: Path) -> None:
    """Also where the only clip of a class goes: models of before go on to fit."""
    whole = builds.plan(builds.FOLDERS, tree)
    part = builds.plan(builds.FOLDERS, tree, exclude=(written(tmp_path, PLAIN),))
    assert part.plan.label_map == whole.plan.label_map
    assert part.plan.absent.classes == ("a, and more",)
    assert "exclude" not in whole.settings, "what was built before is what it was"
    assert whole.plan.excluded is None
    names = ("clip_id", "class_id", "multi_hot", "labels")
    ids = {row["clip_id"]: row for row in whole.plan.table.select(names).to_pylist()}
    assert all(ids[row["clip_id"]] == row for row in part.plan.table.select(names).to_pylist())


def test_the_order_of_a_list_is_nothing(tree: Path, tmp_path: Path) -> None:
    lists = [written(tmp_path, PLAIN, "one"), written(tmp_path, CSV + "7,mine/train/none,1\n", "other")]
    settings = [builds.plan(builds.FOLDERS, tree, exclude=(path,)).settings for path in lists]
    assert settings[0] == settings[1]
    single = [
        written(tmp_path, f"{line}\n", str(i)) for i, line in enumerate(PLAIN.split("\n")[1:4]) if line.strip()
    ]
    assert builds.plan(builds.FOLDERS, tree, exclude=tuple(single)).settings == settings[0], "two lists are one"


def test_unknown_names_are_told(tree: Path, tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN + "mine/train/b/22\nother/x\n")
    prepared = builds.plan(builds.FOLDERS, tree, exclude=(path,))
    assert prepared.plan.excluded is not None
    assert prepared.plan.excluded.unknown == ("mine/train/b/22", "other/x")
    with pytest.raises(BuildError, match="2 names are in the exclusion list and no planned clip: mine/train/b/22"):
        refuse_doubts(prepared)


@pytest.mark.parametrize(
    ("text", "words", "row"),
    [
        ("mine/train/b/9\n", "none of 1 names .* a clip is called like 'mine/train/", 1),
        ("# nothing\n\n", "names no clip", None),
        ("clip_id,mark\n", "names no clip", None),
        ("key,clip_id\n0,mine/train/b/1\n1\n", "a row without clip_id", 3),
        (
            "".join(f"mine/train/{n}\n" for n in ("b/1", "b/2", "b/3", "a, and more/4", "c/5")),
            "nothing is left",
            None,
        ),
    ],
)
def test_lists_that_cannot_be_meant(tree: Path, tmp_path: Path, text: str, words: str, row: int | None) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        builds.plan(builds.FOLDERS, tree, exclude=(written(tmp_path, text),))
    assert caught.value.row == row


def test_no_file_and_no_text(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        exclusions.read((tmp_path / "none",))
    (tmp_path / "video").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no UTF-8 text"):
        exclusions.read((tmp_path / "video",))


@pytest.mark.usefixtures("in_process")
def test_a_build_without_them(tree: Path, tmp_path: Path) -> None:
    path = written(tmp_path, CSV)
    out = tmp_path / "out"
    built = builds.run(builds.plan(builds.FOLDERS, tree, exclude=(path,)), out)
    rows = builds.check_whole(out)
    assert len(rows) == 3
    assert built.facts["excluded"]["clip_ids"] == ["mine/train/a, and more/4", "mine/train/b/2"]
    card = (out / "README.md").read_text()
    assert "Left out by an exclusion list, so not planned: 2 (mine/train/a, and more/4, mine/train/b/2)" in card
    with pytest.raises(BuildError, match=r"settings\.exclude: '[0-9a-f]{64}' there, None here"):
        builds.run(builds.plan(builds.FOLDERS, tree), out)


def test_the_command_says_it(vidkit: Run, tree: Path, tmp_path: Path) -> None:
    spec = tmp_path / "mine.toml"
    spec.write_text('name = "mine"\ntitle = "Mine"\n[[sources]]\nname = "mine"\nkind = "folders"\n')
    words = ("build-dataset", spec, "--source", f"mine={tree}", "--dry-run", "--exclude", written(tmp_path, CSV))
    said = vidkit(*words)
    assert said.code == 0, said.err
    assert "plan  3 clips" in said.err
    assert "left out by --exclude: 2 clips  e.g. mine/train/a, and more/4, mine/train/b/2" in said.err

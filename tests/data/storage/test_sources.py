"""Sources that lie in a store: the same plan and the same bytes as from a disk."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.data.builds import LISTED, listed_tree, plan, run, snapshot
from tests.data.storage.conftest import Store
from vidkit.data.build.clip_worker import ClipJob, ClipWorker
from vidkit.data.paths import OutOfReachError, open_source
from vidkit.data.plan.planning import Request, choose_spec
from vidkit.data.sources.parts.mirror import mirrored
from vidkit.data.storage import stores
from vidkit.data.storage.places import place
from vidkit.errors import AnnotationError, BuildError, ClipError, ConfigError

JOB = {"settings": LISTED.encode, "path": "train/train2.mp4"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed_tree(tmp_path_factory.mktemp("sources") / "tree", clips=8, missing=1, broken=1)


def test_plan_and_bytes_are_those_of_a_disk(store: Store, tree: Path, tmp_path: Path) -> None:
    at = place(store.upload(tree, "sources"))
    ours, theirs = plan(LISTED, at), plan(LISTED, tree)  # type: ignore[arg-type]
    assert ours.table.equals(theirs.table)
    assert ours.settings == theirs.settings
    assert ours.plan.matching == theirs.plan.matching
    assert ours.roots == {"lists": str(at)}
    for prepared, name in ((ours, "ours"), (theirs, "theirs")):
        run(prepared, tmp_path / name)
    assert snapshot(tmp_path / "ours") == snapshot(tmp_path / "theirs")


def test_errors_name_the_store(store: Store, tmp_path: Path) -> None:
    tree = listed_tree(tmp_path / "tree", clips=2)
    (tree / "train.csv").write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"s3://vidkit-test/bad/train.csv: the annotation file is empty"):
        plan(LISTED, place(store.upload(tree, "bad")))  # type: ignore[arg-type]


def test_names_that_no_file_can_have(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fs = stores.file_system("s3")
    for name in ("a.mp4", "b/c.mp4", "b", "x" * 300 + ".mp4", "folder/"):
        fs.pipe_file(f"{store.bucket}/names/{name}", b"" if name.endswith("/") else b"1")
    with caplog.at_level(logging.WARNING), mirrored({"mine": place(store.at("names"))}) as mirror:
        found = sorted(p.relative_to(mirror.folders["mine"]).as_posix() for p in mirror.folders["mine"].rglob("*"))
    assert found == ["a.mp4", "b"]
    assert "2 objects are passed over" in caplog.text


@pytest.mark.parametrize(
    ("address", "says"),
    [("s3://vidkit-test/no-source", "is no folder"), ("s3://no-such-bucket-of-ours/k", "there is no such bucket")],
)
def test_a_source_that_is_not_there(store: Store, address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_spec(Request(spec="k400", folders={"kinetics": place(address)}))


def test_a_web_server_cannot_be_listed() -> None:
    with pytest.raises(ConfigError, match="does not say which files"), mirrored({"a": place("https://host/k")}):
        pass


def test_one_file_is_opened_as_a_copy(store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = store.upload(tree, "opened")
    with open_source(at, "train/train2.mp4") as file:
        assert file.read() == (tree / "train/train2.mp4").read_bytes()
    with pytest.raises(ClipError, match="missing"):
        open_source(at, "train/none.mp4")
    for path in ("../train2.mp4", "/train2.mp4", "train//x.mp4", "a\0b"):
        with pytest.raises(ClipError, match="unsafe-path"):
            open_source(at, path)
    monkeypatch.setattr("vidkit.data.storage.places.BLOCK", 1000)  # in blocks, then
    with open_source(at, "train/train2.mp4") as file:
        assert file.read() == (tree / "train/train2.mp4").read_bytes()
    monkeypatch.setattr("vidkit.data.paths.MOST_COPIED", 1500)
    with pytest.raises(ClipError, match="at most 1,500 are copied"):
        open_source(at, "train/train2.mp4")


def test_a_store_that_goes_away_ends_the_build_and_fails_no_clip(store: Store, tree: Path) -> None:
    at = store.upload(tree, "away")
    proxy = store.through_proxy()
    with ClipWorker(60) as worker:
        assert worker.run(ClipJob(root=at, **JOB)).clip is not None  # type: ignore[arg-type]
        proxy.answer = lambda asked: (403, b"")
        with pytest.raises(BuildError, match="what is done is kept"):
            worker.run(ClipJob(root=at, **JOB))  # type: ignore[arg-type]
    with pytest.raises(OutOfReachError):
        open_source(at, "train/train2.mp4")

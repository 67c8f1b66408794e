"""Every source, packed as people have it: the same clips as unpacked, and paths that say where they lie."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.packed.packing import Files, content, split, tar, zipped
from tests.data.sources.trees import csv_lines, read, row, rows, touch, write
from tests.data.synth.generated import small
from vidkit.data.packed.opening import open_source
from vidkit.data.sources import SourceResult
from vidkit.data.sources.parts.packed import AGAIN, ARCHIVES, KEPT, NESTED
from vidkit.errors import ConfigError

#: Reader -> layout that is generated for it.
LAYOUTS = {
    "kinetics": "kinetics",
    "minikinetics": "minikinetics",
    "ssv2": "ssv2",
    "tinyvirat": "tinyvirat-v1",
    "ucf101": "ucf101",
    "hmdb51": "hmdb51",
    "listfile": "kinetics-listfile",
    "folders": "demo",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("unpacked")

    def made(kind: str) -> Path:
        if not (root / kind).exists():
            small(LAYOUTS[kind], root / kind, clips=12)
        return root / kind

    return made


def is_text(name: str) -> bool:
    return name.endswith((".csv", ".txt", ".json"))


def in_one_zip(files: Files, out: Path) -> None:
    (out / "all.zip").write_bytes(zipped(files, zipfile.ZIP_DEFLATED))


def in_a_tar_per_folder(files: Files, out: Path) -> None:
    """Texts as they are, and class tars as macOS makes them: `._x.mp4` beside each file."""
    groups: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        folder, _, file = name.rpartition("/")
        if is_text(name):
            write(out, name, data)
        elif folder:
            groups.setdefault(folder, {})["._" + file] = b"\0\5\x16\7"
            groups[folder][file] = data
        else:
            groups.setdefault("", {})[file] = data
    for folder, held in groups.items():
        named = folder or "part_0"
        (out / named).parent.mkdir(parents=True, exist_ok=True)
        (out / f"{named}.tar").write_bytes(tar(held, form=tarfile.PAX_FORMAT))


def in_one_stream_of_parts(files: Files, out: Path) -> None:
    for name in filter(is_text, files):
        write(out, name, files[name])
    videos = {name: data for name, data in files.items() if not is_text(name)}
    split(tar(videos, "w:gz", front="./"), 4, lambda i: f"20bn-something-something-v2-{i:02d}", out)


def same_clips(found: SourceResult, expected: SourceResult) -> None:
    """All but where the files lie; and there lies what was packed."""
    left, right = found.table, expected.table
    for name in left.column_names:
        if name not in ("path", "message"):
            assert left[name].to_pylist() == right[name].to_pylist(), name
    pairs = list(zip(left["path"].to_pylist(), right["path"].to_pylist(), strict=True))
    assert pairs
    for packed, plain in pairs:
        assert "::" in packed
        with open_source(str(found.root), packed) as file:
            assert file.read() == (expected.root / plain).read_bytes()


@pytest.mark.parametrize("pack", [in_one_zip, in_a_tar_per_folder, in_one_stream_of_parts])
@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_source_is_read_packed(
    kind: str, pack: Callable[[Files, Path], None], unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    if (kind, pack) == ("tinyvirat", in_a_tar_per_folder):
        pytest.skip(
            "its annotations name a folder for each long video: nobody has a tar without it for each of them"
        )
    plain = unpacked(kind)
    pack(content(plain), tmp_path)
    expected, found = read(kind, plain), read(kind, tmp_path)
    same_clips(found, expected)
    assert found.classes == expected.classes
    assert found.annotations == expected.annotations
    assert found.matching.counts[ARCHIVES] >= 1


# --- one by one ------------------------------------------------------------------------------------

ID, OTHER = "AbCdEfGhIjK_000001_000003", "-bCdEfGhIjK_000001_000003"


def kinetics(root: Path) -> None:
    write(root, "train.csv", csv_lines(f"yoga,{ID[:11]},1,3,train,0", f"archery,{OTHER[:11]},1,3,train,0"))


def put(root: Path, name: str, data: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


def test_the_parts_of_cvdf(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "train/part_0.tar.gz", tar({f"{ID}.mp4": b"1"}, "w:gz", front="./"))
    put(tmp_path, "train/part_1.tar.gz", tar({f"home/someone/data/{OTHER}.mp4": b"2"}))  # a plain tar, in fact
    paths = {name: row["path"] for name, row in rows(read("kinetics", tmp_path)).items()}
    assert paths == {
        ID: f"train/part_0.tar.gz::{ID}.mp4",
        OTHER: f"train/part_1.tar.gz::home/someone/data/{OTHER}.mp4",
    }


@pytest.mark.parametrize(
    ("archive", "members", "expected"),
    [
        ("yoga.tar", {"a.mp4": b""}, ("yoga/a", "train", ["yoga"])),
        ("yoga.tar.gz", {"yoga/a.mp4": b""}, ("yoga/a", "train", ["yoga"])),
        ("val/yoga.zip", {"a.mp4": b""}, ("val/yoga/a", "val", ["yoga"])),
        ("val.tar", {"yoga/a.mp4": b""}, ("val/yoga/a", "val", ["yoga"])),
        ("val.tar", {"val/yoga/a.mp4": b""}, ("val/yoga/a", "val", ["yoga"])),
        ("val/val.tar", {"yoga/a.mp4": b""}, ("val/yoga/a", "val", ["yoga"])),
        ("part_3.tar", {"yoga/a.mp4": b""}, ("yoga/a", "train", ["yoga"])),
    ],
)
def test_an_archive_named_as_a_class_or_a_split_stands_for_its_folder(
    archive: str, members: dict[str, bytes], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    put(tmp_path, "train/archery/z.mp4", b"")
    put(tmp_path, archive, tar(members, "w:gz") if archive.endswith("gz") else tar(members))
    found = read("folders", tmp_path)
    plain = {name for name in rows(found) if name.endswith("z")}
    (name,) = set(rows(found)) - plain
    assert (name, row(found, name)["split"], row(found, name)["labels"]) == expected


def test_the_same_clip_in_several_places_is_tried_in_order(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "b.tar", tar({f"{ID}.mp4": b"1"}))
    put(tmp_path, "a.zip", zipped({f"{ID}.mp4": b"1", f"{OTHER}.mp4": b"22"}))
    put(tmp_path, "c.tar", tar({f"{OTHER}.mp4": b"333"}))
    put(tmp_path, f"{ID}.mp4", b"4444")
    found = read("kinetics", tmp_path)
    assert [one["path"] for one in row(found, ID)["tries"]] == [
        f"{ID}.mp4",
        f"a.zip::{ID}.mp4",
        f"b.tar::{ID}.mp4",
    ]
    assert [one["path"] for one in row(found, OTHER)["tries"]] == [f"a.zip::{OTHER}.mp4", f"c.tar::{OTHER}.mp4"]
    assert found.matching.counts[AGAIN] == 3
    assert found.matching.doubts == [f"a.zip::{OTHER}.mp4 and c.tar::{OTHER}.mp4 are unlike files of one name"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_download_that_was_kept_beside_its_files_is_left_alone(mode: str, tmp_path: Path) -> None:
    """Else each build would inflate what lies there already. By name and size of the first files."""
    kinetics(tmp_path)
    files = {f"{ID}.mp4": bytes(2_000_000), f"{OTHER}.mp4": b"2"}
    put(tmp_path, "train/part_0.tar.gz", tar({"._x.mp4": b"", "readme.txt": b"", **files}, mode, front="./"))
    for name, data in files.items():
        put(tmp_path, f"unpacked/{name}", data)
    found = read("kinetics", tmp_path)
    assert {row["path"] for row in rows(found).values()} == {f"unpacked/{name}" for name in files}
    assert (found.matching.counts[KEPT], ARCHIVES in found.matching.counts) == (1, False)
    put(tmp_path, f"unpacked/{OTHER}.mp4", b"22")
    assert read("kinetics", tmp_path).matching.counts[ARCHIVES] == 1
    (tmp_path / f"unpacked/{OTHER}.mp4").unlink()
    assert row(read("kinetics", tmp_path), OTHER)["path"] == f"train/part_0.tar.gz::./{OTHER}.mp4".replace("./", "")


def test_shards_built_into_the_source_folder_are_no_source(tmp_path: Path) -> None:
    put(tmp_path, "yoga/a.mp4", b"")
    put(tmp_path, "out/train/000000.tar", tar({"00000000.mp4": b""}))
    assert set(rows(read("folders", tmp_path))) == {"yoga/a", "out/train/000000/00000000"}
    write(tmp_path, "out/dataset.json", {"vidkit": "1", "plan_sha256": "0"})
    found = read("folders", tmp_path)
    assert set(rows(found)) == {"yoga/a"}
    assert found.matching.counts["ignored: other files"] == 1


def test_annotations_in_archives_elsewhere(tmp_path: Path) -> None:
    """As Something-Something's come: a zip of labels."""
    records = b'[{"id": "7", "template": "Pushing [something]"}]'
    put(tmp_path, "notes/labels.zip", zipped({"labels/something-something-v2-train.json": records}))
    put(tmp_path, "ssv2/7.webm", b"")
    found = read("ssv2", tmp_path / "ssv2", annotations=(tmp_path / "notes",))
    assert row(found, "7")["path"] == "7.webm"
    assert list(found.annotations) == ["labels/something-something-v2-train.json"]
    put(tmp_path, "notes/labels/something-something-v2-train.json", b"[{}]")
    found = read("ssv2", tmp_path / "ssv2", annotations=(tmp_path / "notes",))
    assert found.table["error"].to_pylist() == ["bad-annotation"]  # the one beside goes first


def test_what_leads_out_is_a_row_with_its_code(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "k.tar", tar({f"../../{ID}.mp4": b"1", f"{OTHER}.mp4": b"2"}))
    found = read("kinetics", tmp_path)
    assert (row(found, ID)["error"], row(found, ID)["path"]) == ("unsafe-path", None)
    assert row(found, OTHER)["path"] == f"k.tar::{OTHER}.mp4"


def test_members_without_an_ending_and_archives_within(tmp_path: Path) -> None:
    write(tmp_path, "something-something-v2-train.json", [{"id": "7", "template": "Pushing [something]"}])
    inner = tar({"8.webm": b""})
    put(
        tmp_path,
        "k.tar",
        tar({"7": b"", "clip": b"\0\0\0\x18ftypmp42" + bytes(400), "20bn-00": inner, "x.tar": inner}),
    )
    found = read("ssv2", tmp_path)
    assert row(found, "7")["path"] == "k.tar::7"
    assert found.matching.counts["present but unannotated"] == 1  # begins as a video does
    assert found.matching.counts[NESTED] == 2


def test_damage_is_told_and_strict_forbids_it(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "k.tar", tar({f"{ID}.mp4": bytes(3000), f"{OTHER}.mp4": bytes(3000)})[:6000])
    put(tmp_path, "l.7z", b"7z\xbc\xaf\x27\x1c" + bytes(100))
    found = read("kinetics", tmp_path)
    assert row(found, ID)["path"] == f"k.tar::{ID}.mp4"
    first, second = found.matching.doubts
    assert first == "l.7z is a 7z archive, not read here: unpack it (7z x)"
    assert second.startswith("k.tar ends or is damaged at byte ")


def test_present_only_plans_what_archives_hold(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "k.tar", tar({f"{ID}.mp4": b"1"}))
    assert set(rows(read("kinetics", tmp_path, present_only=True))) == {ID}
    assert row(read("kinetics", tmp_path), OTHER)["error"] == "missing"


def test_a_file_called_as_a_member_is_refused(tmp_path: Path) -> None:
    kinetics(tmp_path)
    put(tmp_path, "k.tar", tar({f"{ID}.mp4": b"1"}))
    touch(tmp_path, f"k.tar::{ID}.mp4")
    with pytest.raises(ConfigError, match="both a file and a member"):
        read("kinetics", tmp_path)


def test_pictures_and_other_files_beside_are_not_opened(tmp_path: Path) -> None:
    """There may be one for every clip."""
    kinetics(tmp_path)
    put(tmp_path, "a.jpg", tar({f"{ID}.mp4": b"1"}))
    assert ARCHIVES not in read("kinetics", tmp_path).matching.counts

"""Archives: their kinds, their indexes, members read where they lie; and all that can be wrong with them."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.packed.packing import Files, split, tar, zipped
from vidkit.data.packed import opening, scratch
from vidkit.data.packed.archives import Archive, find_archives, index_all
from vidkit.data.packed.index import Index
from vidkit.data.packed.kinds import following
from vidkit.data.packed.opening import make_ready, open_source
from vidkit.data.packed.scratch import Scratch
from vidkit.data.paths import path_to_text
from vidkit.errors import BuildError, ClipError

LONG = "a folder/" + "x" * 150 + "/clip.mp4"


def some_files(seed: int = 0) -> dict[str, bytes]:
    draw = random.Random(seed)
    sizes = {"1.webm": 5000, "b/2.mp4": 1, LONG: 70_000, "ü/é.mkv": 512, "raw\udcff.mp4": 513, "empty.mp4": 0}
    return {name: draw.randbytes(size) for name, size in sizes.items()}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDKIT_CACHE", str(tmp_path / "cache"))
    opening._open.__dict__.clear()
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def put(root: Path, name: str, data: bytes) -> Archive:
    (root / name).write_bytes(data)
    (archive,) = find_archives(str(root), [name]).archives
    return archive


def index(root: Path, archive: Archive, room: Scratch | None = None) -> Index:
    (found,) = index_all(str(root), [archive], room or Scratch())
    return found


def read(root: Path, archive: str, name: str) -> bytes:
    with open_source(str(root), path_to_text(f"{archive}::{name}")) as file:
        return file.read()


def fault(root: Path, archive: str, name: str) -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        read(root, archive, name)
    return caught.value.code, caught.value.message


WAYS: dict[str, Callable[[Files], bytes]] = {
    "gnu tar": tar,
    "pax tar": lambda files: tar(files, form=tarfile.PAX_FORMAT),
    "tar with ./ in front": lambda files: tar(files, front="./"),
    "tar with / in front": lambda files: tar(files, front="/"),
    "tar.gz": lambda files: tar(files, "w:gz"),
    "tar.gz of two streams": lambda files: b"".join(
        gzip.compress(half) for half in (tar(files)[:3000], tar(files)[3000:])
    ),
    "tar.bz2": lambda files: tar(files, "w:bz2"),
    "tar.xz": lambda files: tar(files, "w:xz"),
    "zip, stored": zipped,
    "zip, deflated": lambda files: zipped(files, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_member_of_every_kind_is_read_as_it_was(way: str, root: Path) -> None:
    """Whatever the file is called: CVDF has a plain tar that is named .tar.gz."""
    files = some_files()
    if way.startswith("zip"):
        del files["raw\udcff.mp4"]  # zipfile writes none
    archive = put(root, "part_1.tar.gz", WAYS[way](files))
    found = index(root, archive)
    assert found.notes == []
    assert {member.name: member.size for member in found.members()} == {
        name: len(data) for name, data in files.items()
    }
    for name, data in files.items():
        assert read(root, "part_1.tar.gz", name) == data
    with open_source(str(root), f"part_1.tar.gz::{LONG}") as file:
        assert file.seek(-10, io.SEEK_END) == len(files[LONG]) - 10
        assert (file.read(100), file.tell()) == (files[LONG][-10:], len(files[LONG]))
        file.seek(7)
        assert file.read(9) == files[LONG][7:16]
    assert fault(root, "part_1.tar.gz", "3.webm") == ("missing", "part_1.tar.gz holds no such file")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tar(some_files(), "w:gz"), lambda i: f"20bn-something-something-v2-{i:02d}"),
        (tar(some_files()), lambda i: f"k400.tar.{i + 1:03d}"),
        (tar(some_files(), "w:gz"), lambda i: f"train.tgz.a{'abcdefg'[i]}"),
        (zipped({"1.webm": random.Random(1).randbytes(5000)}), lambda i: f"v.zip.part-a{'abcdefg'[i]}"),
    ],
    ids=["something-something", "plain tar", "letters", "zip"],
)
def test_parts_are_one_archive(data: bytes, name: Callable[[int], str], root: Path) -> None:
    split(data, 7, name, root)
    (root / "other-03").write_bytes(b"no part")
    found = find_archives(str(root), os.listdir(root))
    assert [archive.parts for archive in found.archives] == [tuple(name(i) for i in range(7))]
    assert (found.rest, found.notes) == (["other-03"], [])
    index(root, found.archives[0])
    assert len(read(root, name(0), "1.webm")) == 5000
    (root / name(4)).unlink()
    assert find_archives(str(root), os.listdir(root)).notes[0].startswith(f"{name(0)} goes on in parts, but part ")


def test_archives_with_numbers_are_not_parts_of_one_another(root: Path) -> None:
    for i in range(3):
        put(root, f"train_{i:02d}", tar({f"{i}.mp4": b"x"}))
    found = find_archives(str(root), os.listdir(root))
    assert [archive.parts for archive in found.archives] == [("train_00",), ("train_01",), ("train_02",)]
    assert following("part_1.tar", ["part_2.tar"]) == ([], None)


def test_what_is_no_archive_is_none(root: Path) -> None:
    put(root, "a.bin", tar({"x": b""}))
    for name, data in {
        "zeros.tar": bytes(20480),
        "nothing.zip": b"",
        "t.csv.gz": gzip.compress(b"a,b\n" * 500),
    }.items():
        (root / name).write_bytes(data)
    (root / "k.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    os.mkfifo(root / "pipe.tar")
    found = find_archives(str(root), os.listdir(root))
    assert [archive.path for archive in found.archives] == ["a.bin"]
    assert found.rest == ["k.rar", "nothing.zip", "pipe.tar", "t.csv.gz", "zeros.tar"]
    assert found.notes == ["k.rar is a RAR archive, not read here: unpack it (unar)"]


def test_a_file_that_cannot_be_opened_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "k.tar", tar({"x": b""}))

    def refuses(path: str, count: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vidkit.data.packed.archives._head", refuses)
    found = find_archives(str(root), ["k.tar"])
    assert (found.archives, found.rest) == ([], ["k.tar"])
    assert found.notes == ["k.tar cannot be read: Permission denied"]


# --- the index -------------------------------------------------------------------------------------


def test_an_index_is_made_once_and_again_when_the_archive_changed(
    root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = put(root, "k.tar", tar({"1.mp4": b"one"}))
    index(root, archive)
    (made,) = (own_cache / "archives").glob("*.sqlite")
    before = made.stat().st_mtime_ns
    index(root, archive)
    assert made.stat().st_mtime_ns == before
    assert sorted(os.listdir(root)) == ["k.tar"]  # nothing lies beside the source
    assert read(root, "k.tar", "1.mp4") == b"one"
    put(root, "k.tar", tar({"0.mp4": b"nought", "1.mp4": b"two"}))
    code, message = fault(root, "k.tar", "1.mp4")  # never bytes from where something else lies now
    assert (code, "changed" in message, "--retry-failed" in message) == ("unreadable", True, True)
    make_ready(str(root), ["k.tar::1.mp4", "not an archive::x", "plain.mp4"], Scratch())
    assert read(root, "k.tar", "1.mp4") == b"two"
    made.write_bytes(b"rubbish")
    opening._open.__dict__.clear()
    assert read(root, "k.tar", "0.mp4") == b"nought"  # an index that cannot be read is made anew
    monkeypatch.setenv("VIDKIT_CACHE", str(root / "k.tar"))
    with pytest.raises(BuildError, match="VIDKIT_CACHE"):
        index(root, archive)


def test_a_path_may_hold_the_separator_itself(root: Path) -> None:
    (root / "a::b").mkdir()
    put(root / "a::b", "k::l.tar", tar({"x::y.mp4": b"here"}))
    (root / "plain::file.mp4").write_bytes(b"plain")
    assert read(root, "a::b/k::l.tar", "x::y.mp4") == b"here"
    assert read(root, "plain", "file.mp4") == b"plain"
    assert fault(root, "gone.tar", "x.mp4")[0] == "missing"


def test_an_archive_outside_is_not_opened(root: Path, tmp_path: Path) -> None:
    put(tmp_path, "k.tar", tar({"1.mp4": b"one"}))
    (root / "link.tar").symlink_to(tmp_path / "k.tar")
    assert fault(root, "link.tar", "1.mp4")[0] == "unsafe-path"
    with open_source(str(root), "link.tar::1.mp4", follow_symlinks=True) as file:
        assert file.read() == b"one"


# --- names and links -------------------------------------------------------------------------------


def test_members_that_lead_out_are_never_read(root: Path) -> None:
    names = {"../up.mp4": b"1", "a/../../up2.mp4": b"2", "a/../in.mp4": b"3", "good.mp4": b"4", "../good.mp4": b"5"}
    put(root, "k.tar", tar(names))
    put(root, "k.zip", zipped(names))
    for archive in ("k.tar", "k.zip"):
        assert fault(root, archive, "up.mp4")[0] == fault(root, archive, "up2.mp4")[0] == "unsafe-path"
        assert read(root, archive, "in.mp4") == b"3"
        assert read(root, archive, "good.mp4") == b"4"
    put(root, "w.zip", _with_dos_names(zipped({"c|1.mp4": b"dos"})))
    assert read(root, "w.zip", "c/1.mp4") == b"dos"


def _with_dos_names(data: bytes) -> bytes:
    """As written on Windows by programs that know no better: backslashes, and the mark of DOS."""
    at = data.rfind(b"PK\x01\x02")
    return (data[:at] + data[at : at + 4] + b"\x14\x00" + data[at + 6 :]).replace(b"c|1.mp4", b"c\\1.mp4")


def test_links_lead_to_members_or_nowhere(root: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("real/1.mp4")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"real"))
        for name, kind, target in (
            ("hard.mp4", tarfile.LNKTYPE, "./real/1.mp4"),
            ("d/soft.mp4", tarfile.SYMTYPE, "../real/1.mp4"),
            ("again.mp4", tarfile.SYMTYPE, "hard.mp4"),
            ("out.mp4", tarfile.SYMTYPE, "../../etc/passwd"),
            ("abs.mp4", tarfile.SYMTYPE, "/etc/passwd"),
            ("hardout.mp4", tarfile.LNKTYPE, "../../x"),
            ("gone.mp4", tarfile.SYMTYPE, "nowhere.mp4"),
            ("a.mp4", tarfile.SYMTYPE, "b.mp4"),
            ("b.mp4", tarfile.SYMTYPE, "a.mp4"),
            ("real/1.mp4", tarfile.LNKTYPE, "real/1.mp4"),  # as tar has a file that was given twice
            ("pipe.mp4", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    index(root, put(root, "k.tar", out.getvalue()))
    for name in ("hard.mp4", "d/soft.mp4", "again.mp4", "real/1.mp4"):
        assert read(root, "k.tar", name) == b"real"
    codes = {
        name: fault(root, "k.tar", f"{name}.mp4")[0] for name in ("out", "abs", "hardout", "gone", "a", "pipe")
    }
    assert codes == {
        "out": "unsafe-path",
        "abs": "unsafe-path",
        "hardout": "unsafe-path",
        "gone": "missing",
        "a": "unreadable",
        "pipe": "unreadable",
    }


def test_of_two_members_of_one_name_the_later_one_counts(root: Path) -> None:
    found = index(root, put(root, "k.tar", tar({"1.mp4": b"old", "./1.mp4": b"newer"})))
    assert read(root, "k.tar", "1.mp4") == b"newer"
    assert found.notes == ["holds 1 files a second time under the same name (the last one counts)"]


# --- damage ----------------------------------------------------------------------------------------

TEN = {f"{i}.mp4": random.Random(i).randbytes(2000) for i in range(10)}


def test_a_tar_that_was_cut_off(root: Path) -> None:
    data = tar(TEN)
    found = index(root, put(root, "k.tar", data[: 6 * 2560 + 512 + 700]))
    assert [member.name for member in found.members()] == [f"{i}.mp4" for i in range(7)]
    assert read(root, "k.tar", "5.mp4") == TEN["5.mp4"]
    assert fault(root, "k.tar", "6.mp4") == ("truncated", "the archive ends after 700 of 2,000 bytes of this file")
    assert len(found.notes) == 1


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_tar_that_was_cut_off(mode: str, root: Path) -> None:
    data = tar(TEN, mode)
    found = index(root, put(root, "k.tgz", data[: len(data) * 2 // 3]))
    assert "cut off" in found.notes[0]
    good = [name for name in TEN if (member := found.find(name)) is not None and member.fault is None]
    assert 5 <= len(good) < 8
    for name in good:
        assert read(root, "k.tgz", name) == TEN[name]
    assert fault(root, "k.tgz", f"{len(good)}.mp4")[0] in ("truncated", "missing")


def test_a_tar_damaged_in_the_middle_does_not_pass_for_its_end(root: Path) -> None:
    data = bytearray(tar(TEN))
    data[4 * 2560 : 4 * 2560 + 512] = random.Random(0).randbytes(512)
    found = index(root, put(root, "k.tar", bytes(data)))
    assert len(list(found.members())) == 4
    assert found.notes == [f"is damaged at byte 10,240 of {len(data):,}: no header there"]
    found = index(root, put(root, "l.tar", tar(TEN) + tar({"more.mp4": b""})))
    assert "several archives put together" in found.notes[0]


def _set_size(data: bytes, field: bytes) -> bytes:
    """A tar whose fourth member claims another size, with the right sum."""
    at = 3 * 2560
    head = bytearray(data[at : at + 512])
    head[124:136], head[148:156] = field, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return data[:at] + bytes(head) + data[at + 512 :]


@pytest.mark.parametrize("field", [b"\xff" * 11 + b"\x00", b"\x80" + b"\x7f" * 11], ids=["below zero", "huge"])
def test_a_tar_that_lies_about_sizes(field: bytes, root: Path) -> None:
    found = index(root, put(root, "k.tar", _set_size(tar(TEN), field)))
    assert fault(root, "k.tar", "3.mp4")[0] in ("unreadable", "truncated")
    assert read(root, "k.tar", "2.mp4") == TEN["2.mp4"]
    assert len(found.notes) == 1


def test_headers_that_would_fill_the_memory_or_the_stack(root: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    found = index(
        root, put(root, "k.tar", tar({"0.mp4": b""})[:512] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    )
    assert "a header of 8,589,934,592 bytes" in found.notes[0]
    info.size = 12
    one = info.tobuf(tarfile.USTAR_FORMAT) + b"12 path=aaa\n".ljust(512, b"\0")
    assert len(index(root, put(root, "l.tar", one * 3000)).notes) == 1


def test_damaged_zips(root: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = bytearray(zipped(TEN, method))
        data[data.index(b"3.mp4") + 1000] ^= 0xFF
        put(root, "k.zip", bytes(data))
        make_ready(str(root), ["k.zip::0.mp4"], Scratch())
        assert fault(root, "k.zip", "3.mp4")[0] == "unreadable"
        assert read(root, "k.zip", "4.mp4") == TEN["4.mp4"]
    found = index(root, put(root, "cut.zip", zipped(TEN)[:9000]))
    assert len(found.notes) == 1
    assert fault(root, "cut.zip", "0.mp4")[0] == "missing"


@pytest.mark.parametrize("way", ["gnu tar", "tar.gz", "zip, deflated"])
def test_random_damage_ends_in_a_code_or_in_one_error(way: str, root: Path) -> None:
    draw = random.Random(way)
    whole = WAYS[way](TEN)
    for turn in range(40):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            at = draw.randrange(len(data))
            data[at : at + draw.choice((1, 8, 600))] = draw.randbytes(draw.choice((0, 1, 8, 600)))
        name = f"k{turn}x.bin"
        (root / name).write_bytes(data)
        for archive in find_archives(str(root), [name]).archives:
            index(root, archive)
            for member in TEN:
                try:
                    got = read(root, name, member)
                except ClipError:
                    continue
                assert "zip" not in way or got == TEN[member]  # zips have checksums


# --- bombs and room --------------------------------------------------------------------------------


def test_a_zip_member_is_never_more_than_it_says(root: Path) -> None:
    data = bytearray(zipped({"1.mp4": bytes(3 << 20), "2.mp4": bytes(80 << 20)}, zipfile.ZIP_DEFLATED))
    at = data.rfind(struct.pack("<I", 3 << 20))
    data[at : at + 4] = struct.pack("<I", 1000)
    put(root, "k.zip", bytes(data))
    assert fault(root, "k.zip", "1.mp4") == ("unreadable", "inflates to more than its 1,000 bytes")
    assert fault(root, "k.zip", "2.mp4") == ("unreadable", "inflates to more than 250 times its size")


def test_a_compressed_tar_is_never_more_than_may_be(root: Path, own_cache: Path) -> None:
    bomb = put(root, "k.tgz", tar({"1.mp4": bytes(100 << 20)}, "w:gz"))
    with pytest.raises(BuildError, match=r"k\.tgz inflates to more than 250 times its size"):
        index(root, bomb)
    honest = put(root, "l.tgz", tar({"1.mp4": random.Random(0).randbytes(3 << 20)}, "w:gz"))
    with pytest.raises(BuildError, match=r"would pass 0.002 GB[\s\S]*--scratch-limit"):
        index(root, honest, Scratch(limit=2_000_000))
    assert list((own_cache / "scratch").iterdir()) == []


def test_room_is_made_of_what_nobody_reads(root: Path, tmp_path: Path) -> None:
    room = Scratch(folder=tmp_path / "room", limit=5 << 20)
    archives = [
        put(root, f"{name}.tgz", tar({"1.mp4": random.Random(name).randbytes(2 << 20)}, "w:gz")) for name in "abcd"
    ]
    stranger = room.folder / "mine.inflated"
    room.folder.mkdir()
    stranger.write_bytes(bytes(4 << 20))  # --scratch may be a folder with other things in it
    first, second = (index(root, archive, room).data for archive in archives[:2])
    assert first is not None
    assert second is not None
    with pytest.raises(BuildError, match="does not fit"):  # both are held by this process
        index(root, archives[2], room)
    with first.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another process has it
        scratch.let_go()
        assert (first.exists(), second.exists()) == (True, False)
        index(root, archives[2], room)
    scratch._held.pop(str(first), None)
    index(root, archives[3], room)
    assert not first.exists()
    assert stranger.exists()
    assert len(read(root, "a.tgz", "1.mp4")) == 2 << 20  # inflated once more, where there is room
    scratch.let_go()


def test_what_a_killed_process_left_goes(root: Path, own_cache: Path) -> None:
    left = own_cache / "scratch" / "vidkit-0.inflated.1-1.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    fresh = left.with_name("vidkit-1.inflated.2-2.part")
    fresh.write_bytes(b"")  # of another process, which is about to lock it
    index(root, put(root, "k.tgz", tar(TEN, "w:gz")))
    assert not left.exists()
    scratch.let_go()
    assert list(left.parent.iterdir()) == [fresh]


def test_many_are_inflated_at_once(root: Path) -> None:
    archives = [put(root, f"k{i}x.tgz", tar({**TEN, "n": bytes([i])}, "w:gz")) for i in range(12)]
    for _ in range(3):
        for i, found in enumerate(index_all(str(root), archives, Scratch())):
            assert found.data is not None
            assert found.data.exists()
            assert read(root, f"k{i}x.tgz", "n") == bytes([i])
        scratch.let_go()


def test_an_index_waits_for_the_one_who_makes_it_and_can_be_stopped(root: Path, own_cache: Path) -> None:
    archive = put(root, "k.tar", tar(TEN))
    index(root, archive)
    (lock,) = (own_cache / "archives").glob("*.lock")
    seen: list[Any] = []

    class Enough(BaseException):
        pass

    def told(count: int) -> None:
        seen.append(count)
        raise Enough

    from vidkit.data.packed.archives import packed_at
    from vidkit.data.packed.index import indexed

    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Enough):
            indexed(packed_at(str(root), archive), Scratch(), told)
    assert seen == [0]

"""File names: every ending that the decoder opens, stacked ones, none at all, and copies of one clip."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.format import ContainerFormat

from tests.badmedia import indexed_clip
from tests.data.sources.trees import csv_lines, read, row, rows, touch, write
from vidkit.data.media.frames import FORMATS
from vidkit.data.sources.parts.endings import VIDEO_ENDINGS, looks_like_video, stem_of, without_ending
from vidkit.data.sources.parts.files import scan
from vidkit.data.tables import Matching

A, B, C = "AbCdEfGhIjK", "-bCdEfGhIjK", "_______-___"

#: endings of such containers that mean sound (.ogg since RFC 5334), pictures or subtitles
NOT_VIDEO = set("ogg mka mks m4a m4b avif heic heif isma ism psp mpo ivr".split())  # noqa: SIM905


@pytest.mark.parametrize("ending", ".mts .m2ts .vob .ogv .asf .divx .h264 .gif .mj2 .rmvb .mxf .y4m".split())  # noqa: SIM905
def test_endings_of_cameras_discs_and_streams(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"run/a{ending}", f"jump/b{ending.upper()}")
    result = read("folders", tmp_path)
    assert [item["error"] for item in result.table.to_pylist()] == [None, None]
    assert "ignored: other files" not in result.matching.counts


@pytest.mark.parametrize("name", FORMATS.split(","))
def test_what_the_decoder_opens_by_its_own_list_is_known(name: str) -> None:
    if name in av.formats_available:
        endings = {f".{ending}" for ending in ContainerFormat(name, "r").extensions if ending not in NOT_VIDEO}
        assert endings <= VIDEO_ENDINGS


@pytest.mark.parametrize(
    ("path", "stem", "native"),
    [
        (f"a.b/{A}_000010_000020.mp4.mkv", f"{A}_000010_000020", f"a.b/{A}_000010_000020.mp4"),
        ("123.webm.mp4", "123", "123.webm"),
        (f"{A}.f137.mp4", A, f"{A}.f137"),
        ("x.y.mp4", "x.y", "x.y"),
        ("a.b/x", "x", "a.b/x"),
        ("v1.2_clip", "v1", "v1.2_clip"),
        ("x.MP4.MKV", "x", "x.MP4"),
    ],
)
def test_stems(path: str, stem: str, native: str) -> None:
    assert (stem_of(path), without_ending(path)) == (stem, native)


@pytest.mark.parametrize(
    "name",
    [
        f"{A}_000012_000022.mp4.mkv",
        f"{A}_000012_000022",
        f"{A}_12_22.mp4",
        f"{A}_12.0_22.0.mp4",
        f"{A}_000012.mp4",
        f"{A}_12.webm",
        f"{A}_000012_000022.f137.mp4",
        f"{A}_000012_000022.MTS",
    ],
)
def test_kinetics_names_as_downloaders_write_them(tmp_path: Path, name: str) -> None:
    write(tmp_path, "train.csv", csv_lines(f"archery,{A},12,22,train,0", f"yoga,{A},50,60,train,0"))
    touch(tmp_path, f"archery/{name}")
    found = rows(read("kinetics", tmp_path))
    assert found[f"{A}_000012_000022"]["path"] == f"archery/{name}"
    assert found[f"{A}_000012_000022"]["start_s"] is None  # trimmed already
    assert found[f"{A}_000050_000060"]["error"] == "missing"
    assert f"{stem_of(name)} is there, with other times" in found[f"{A}_000050_000060"]["message"]


def test_a_start_alone_that_two_segments_have_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},117,127,train,0", f"yoga,{A},117,122,train,0"))
    touch(tmp_path, f"{A}_000117.mp4")
    result = read("kinetics", tmp_path)
    for item in result.table.to_pylist():
        assert (item["error"], item["path"]) == ("missing", None)
        assert item["message"] == f"{A}_000117 is there, but 2 annotated segments begin at that second"
    assert result.matching.counts["annotated but missing"] == 2
    assert result.matching.counts["annotated and found"] == 0


def test_an_unfinished_download_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},1,11,train,0"))
    touch(tmp_path, f"{A}_000001_000011.mp4.part")
    missing = row(read("kinetics", tmp_path), f"{A}_000001_000011")
    assert missing["error"] == "missing"
    assert missing["message"].endswith(f"; {A}_000001_000011.mp4.part is there")


def test_ssv2_and_tinyvirat_names(tmp_path: Path) -> None:
    records = [{"id": str(i), "label": "x", "template": "Closing [something]"} for i in range(1, 5)]
    write(tmp_path / "s", "train.json", records)
    touch(tmp_path / "s", "1.webm.mp4", "2", "3.vob", "4.mp4.part")
    found = rows(read("ssv2", tmp_path / "s"))
    assert [item["path"] for item in found.values()] == ["1.webm.mp4", "2", "3.vob", None]
    assert found["4"]["message"].endswith("; 4.mp4.part is there")
    tubes = [{"path": f"V/{i}.mp4", "label": ["Opening"]} for i in range(3)]
    write(tmp_path / "t", "tiny_train.json", {"tubes": tubes})
    touch(tmp_path / "t", "videos/train/V/0.mp4.mkv", "V/1.avi", "V/2.avi", "V/2.mkv")
    result = read("tinyvirat", tmp_path / "t")
    found = rows(result)
    assert [found[f"V/{i}"]["path"] for i in range(3)] == ["videos/train/V/0.mp4.mkv", "V/1.avi", None]
    assert "2 files could be 'V/2.mp4', and nothing tells which: V/2.avi, V/2.mkv" in found["V/2"]["message"]
    assert result.matching.counts["videos under another ending than annotated"] == 2


def test_lists_and_other_endings(tmp_path: Path) -> None:
    write(
        tmp_path, "train.txt", ("a/x.mp4 1", "/data/a/y.mp4 2", "a/z.mp4 3", "a/w.avi 4", "a/w.mp4 5", "a/q.mp4 6")
    )
    touch(tmp_path, "a/x.webm", "a/y.mp4.mkv", "a/z.avi", "a/z.mkv", "a/w.avi", "a/q.mp4.part")
    result = read("listfile", tmp_path)
    found = rows(result)
    assert {item["path"] for item in found.values()} == {"a/x.webm", "a/y.mp4.mkv", "a/w.avi", None}
    missing = {item["message"].partition(": ")[2] for item in found.values() if item["error"] == "missing"}
    assert missing == {
        "2 files could be 'a/z.mp4', and nothing tells which: a/z.avi, a/z.mkv",
        "no file 'a/w.mp4': the one of that name may as well be another line's",
        "no file 'a/q.mp4'; a/q.mp4.part is there",
    }
    assert result.matching.counts["videos under another ending than annotated"] == 2


def test_a_video_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    indexed_clip(tmp_path / "a.mp4", 5, 32, 32)
    (tmp_path / "a.mp4").rename(tmp_path / "run/clip one")
    write(tmp_path, "run/README", "no video\n")
    write(tmp_path, "run/short", "")
    result = read("folders", tmp_path)
    assert row(result, "run/clip one")["labels"] == ["run"]
    assert result.table.num_rows == 1
    assert result.matching.examples["ignored: other files"] == ["run/README", "run/short"]


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.ts", "a.flv", "a.mpg", "a.gif", "a.nut", "a.h264"]
)
def test_first_bytes_of_containers(tmp_path: Path, name: str) -> None:
    codec = {"webm": "libvpx", "gif": "gif", "mpg": "mpeg2video"}.get(name[2:], "libx264")
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for _ in range(30):
            frame = av.VideoFrame(64, 64, "rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert looks_like_video(tmp_path / name)
    (tmp_path / "run").mkdir()
    (tmp_path / name).rename(tmp_path / "run" / "a")
    assert scan(tmp_path, Matching("s")).videos == ["run/a"]
    assert not looks_like_video(tmp_path / "run")


def tries(item: dict[str, object]) -> list[tuple[object, ...]] | None:
    given = item.get("tries")
    assert given is None or isinstance(given, list)
    return None if given is None else [(one["path"], one["start_s"], one["end_s"], one["whole"]) for one in given]


def test_copies_of_one_clip_are_tried_in_turn(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", csv_lines(f"yoga,{A},12,22,train,0", f"yoga,{B},1,11,train,0"))
    touch(tmp_path, f"yoga/{A}_000012_000022.mp4", f"yoga/{A}_12_22.webm", f"yoga/{A}_000012.mkv", f"x/{A}.mp4")
    touch(tmp_path, f"{B}.mp4")
    result = read("kinetics", tmp_path)
    found = row(result, f"{A}_000012_000022")
    assert found["path"] == f"yoga/{A}_000012_000022.mp4"
    assert tries(found) == [
        (f"yoga/{A}_000012_000022.mp4", None, None, False),
        (f"yoga/{A}_12_22.webm", None, None, False),
        (f"yoga/{A}_000012.mkv", None, None, False),
        (f"x/{A}.mp4", 12.0, 22.0, False),
    ]
    assert tries(row(result, f"{B}_000001_000011")) is None
    assert result.matching.counts["matched twice (the first that can be used is)"] == 1
    assert "present but unannotated" not in result.matching.counts


def test_a_copy_inside_comes_before_a_link_that_leads_out(tmp_path: Path) -> None:
    write(tmp_path / "k", "train.csv", csv_lines(f"yoga,{A},1,11,train,0"))
    touch(tmp_path, "else.mp4", f"k/z/{A}_000001_000011.mp4")
    (tmp_path / f"k/{A}_000001_000011.mp4").symlink_to(tmp_path / "else.mp4")
    found = row(read("kinetics", tmp_path / "k"), f"{A}_000001_000011")
    assert (found["path"], found["error"]) == (f"z/{A}_000001_000011.mp4", None)
    assert "tries" not in found


def test_without_annotations_copies_are_one_clip(tmp_path: Path) -> None:
    touch(tmp_path, f"yoga/{A}.mp4", f"yoga/{A}.webm", f"yoga/{B}.mp4")
    result = read("kinetics", tmp_path)
    assert tries(row(result, A)) == [(f"yoga/{A}.mp4", None, None, False), (f"yoga/{A}.webm", None, None, False)]
    assert result.table.num_rows == 2


def test_ssv2_copies(tmp_path: Path) -> None:
    write(tmp_path, "train.json", [{"id": "1", "label": "x", "template": "Closing [something]"}])
    touch(tmp_path, "1.webm", "1.mp4")
    assert tries(row(read("ssv2", tmp_path), "1")) == [
        ("1.mp4", None, None, False),
        ("1.webm", None, None, False),
    ]


def test_one_file_for_two_segments_must_be_the_whole_video(tmp_path: Path) -> None:
    lines = (f"yoga,{A},12,22,train,0", f"yoga,{A},50,60,val,0", f"yoga,{B},1,11,train,0", f"yoga,{B},1,11,val,0")
    write(tmp_path, "all_of_it.csv", csv_lines(*lines))
    touch(tmp_path, f"{A}.mp4", f"{B}.mp4")
    result = read("kinetics", tmp_path)
    assert tries(row(result, f"{A}_000012_000022")) == [(f"{A}.mp4", 12.0, 22.0, True)]
    assert tries(row(result, f"{A}_000050_000060")) == [(f"{A}.mp4", 50.0, 60.0, True)]
    assert tries(row(result, f"{B}_000001_000011")) is None  # one segment in two splits: a leak, and no doubt
    assert len([name for name in result.matching.counts if "only a whole video" in name]) == 1


def test_the_folder_tells_which_segment_a_file_is(tmp_path: Path) -> None:
    lines = (
        f"archery,{A},12,22,train,0",
        f"yoga,{A},50,60,val,0",
        f"yoga,{C},1,11,train,0",
        f"yoga,{C},9,19,val,0",
    )
    write(tmp_path, "all_of_it.csv", csv_lines(*lines))
    touch(tmp_path, f"yoga/{A}.mp4", f"val/yoga/{C}.mp4")
    result = read("kinetics", tmp_path)
    assert tries(row(result, f"{A}_000012_000022")) == [(f"yoga/{A}.mp4", 12.0, 22.0, True)]
    assert tries(row(result, f"{A}_000050_000060")) is None
    assert tries(row(result, f"{C}_000001_000011")) == [(f"val/yoga/{C}.mp4", 1.0, 11.0, True)]
    assert tries(row(result, f"{C}_000009_000019")) is None

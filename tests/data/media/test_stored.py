"""Reading without a demuxer gives what the demuxer gives, or hands over to it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest

from tests.badmedia import CASES
from tests.indexclips import X264_EXACT, indexed_clip, read_index
from vidkit.data.media.frames import ClipReader, decode_frames
from vidkit.data.media.stored import read_frames, sample_table
from vidkit.errors import ClipError

MEDIA = Path(os.environ.get("VIDKIT_TEST_MEDIA", Path(__file__).parents[4] / "shared" / "media"))

#: Ordinary files that need no demuxer; the others in CASES must be handed over.
PLAIN = {"one-frame", "odd-size", "variable-rate", "ten-bit", "trailing-junk", "flipped-bits", "zeroed-block"}


@functools.cache
def _written(name: str, folder: Path) -> bytes:
    path = folder / f"{name}{CASES[name].suffix}"
    CASES[name].write(path)
    return path.read_bytes() if path.is_file() else b""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored")


USABLE = [name for name in CASES if name not in ("directory", "fifo", "no-permission")]


@pytest.mark.parametrize("name", [name for name in USABLE if CASES[name].error is None])
def test_frames_are_those_of_the_demuxer(name: str, folder: Path) -> None:
    data, case = _written(name, folder), CASES[name]
    count = case.frames or 0
    rng = np.random.default_rng(0)
    for wanted in ([0], [count - 1], list(range(count)), rng.integers(0, count, 9).tolist(), [count - 1, 0, 0]):
        try:
            expected = decode_frames(data, wanted, strict=True)
        except ClipError as error:  # a strict decoder takes some odd files for damaged: as it says, then
            with pytest.raises(ClipError, match=error.code):
                read_frames(data, wanted)
            continue
        found = read_frames(data, wanted, frames=count)
        np.testing.assert_array_equal(found, expected)
        if name not in ("one-frame", "odd-size", "odd-size-vp9"):
            assert [read_index(frame) for frame in found] == [case.first + i for i in wanted]


@pytest.mark.parametrize("name", USABLE)
def test_only_plain_files_are_read_without_a_demuxer(name: str, folder: Path) -> None:
    table = sample_table(_written(name, folder))
    assert (table is not None) == (name in PLAIN)


@pytest.mark.parametrize("name", [name for name in USABLE if CASES[name].error is not None])
def test_broken_files_raise_a_clip_error(name: str, folder: Path) -> None:
    data, case = _written(name, folder), CASES[name]
    with pytest.raises(ClipError) as caught:
        read_frames(data, range(case.frames or 10), frames=case.frames)
    assert caught.value.code in (case.error, "decode-error", "truncated")


@pytest.mark.parametrize(
    "options",
    [
        {"g": "1"},
        {"g": "250", "bf": "0"},
        {"g": "12", "tune": "fastdecode"},
        {"g": "7", "x264-params": f"bframes=8:b-pyramid=normal:b-adapt=2:ref=5:{X264_EXACT}"},
        {"g": "30", "x264-params": f"scenecut=0:keyint=30:min-keyint=30:{X264_EXACT}"},
    ],
    ids=["intra", "no B-frames", "fastdecode", "pyramid", "fixed groups"],
)
def test_every_frame_alone_and_every_stride(options: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    indexed_clip(path, 45, 64, 64, options=options)
    data = path.read_bytes()
    table = sample_table(data)
    assert table is not None
    assert len(table) == 45
    whole = decode_frames(data, range(45))
    for i in range(45):
        np.testing.assert_array_equal(read_frames(data, [i])[0], whole[i])
    for stride in (2, 3, 7, 11, 20):
        wanted = np.arange(stride % 3, 45, stride)
        np.testing.assert_array_equal(read_frames(data, wanted), whole[wanted])


def test_fast_start_and_fragments(tmp_path: Path) -> None:
    for flags, plain in (("+faststart", True), ("frag_keyframe+empty_moov", False)):
        path = tmp_path / "clip.mp4"
        indexed_clip(path, 20, 64, 64, container_options={"movflags": flags})
        data = path.read_bytes()
        assert (sample_table(data) is not None) == plain
        np.testing.assert_array_equal(read_frames(data, [3, 11]), decode_frames(data, [3, 11]))


def test_a_decoder_serves_clip_after_clip_also_after_a_broken_one(tmp_path: Path) -> None:
    """Decoders are kept: nothing of one clip may show in the next."""
    clips = []
    for first in (0, 300, 600):
        path = tmp_path / "clip.mp4"
        indexed_clip(path, 20, 64, 64, first)
        clips.append(path.read_bytes())
    tables = [sample_table(data) for data in clips]
    assert all(table is not None and table.extradata == tables[0].extradata for table in tables if tables[0])
    broken = bytearray(clips[0])
    table = tables[0]
    assert table is not None
    for at in (table.offset[3], table.offset[12]):
        broken[at + 8 : at + 24] = b"\xff" * 16
    for _ in range(3):
        with pytest.raises(ClipError, match="decode-error"):
            read_frames(bytes(broken), range(20))
        for data, first in zip(clips, (0, 300, 600), strict=True):
            assert [read_index(f) for f in read_frames(data, [19, 2, 7])] == [first + 19, first + 2, first + 7]


def test_another_number_of_frames_than_the_ledger_says(folder: Path) -> None:
    with pytest.raises(ClipError, match="truncated: the clip has 48 frames; the ledger says 47"):
        read_frames(_written("trailing-junk", folder), [0], frames=47)
    with pytest.raises(ClipError, match="truncated: the clip has 48 frames; the ledger says 47"):
        read_frames(_written("mkv", folder), [0], frames=47)
    for name in ("trailing-junk", "mkv"):
        with pytest.raises(IndexError, match="of a clip of 48 frames"):
            read_frames(_written(name, folder), [0, 48])
        assert read_frames(_written(name, folder), []).shape == (0, 0, 0, 3)


def test_damaged_headers_never_escape_as_other_errors(folder: Path) -> None:
    """Any byte of the index may be wrong: the answer is frames or a ClipError."""
    data = _written("trailing-junk", folder)
    moov = data.index(b"moov")
    rng = np.random.default_rng(1)
    handed_over = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[int(rng.integers(moov - 4, len(data) - 5000))] = int(rng.integers(256))
        handed_over += sample_table(bytes(damaged)) is None
        try:
            found = read_frames(bytes(damaged), [0, 20, 40], frames=48)
        except ClipError:
            continue
        assert found.shape[0] == 3
    assert 50 < handed_over < 300


def test_cut_anywhere(folder: Path) -> None:
    data = _written("trailing-junk", folder)[:-5000]
    for end in range(0, len(data) - 1, 997):
        with pytest.raises(ClipError):
            read_frames(data[:end], [0, 47], frames=48)


@pytest.mark.real_media
@pytest.mark.parametrize("name", ["k400_arm_wrestling.mp4", "test.mp4", "part_0.mp4", "test.avi"])
def test_filmed_clips(name: str) -> None:
    if not (MEDIA / name).exists():
        pytest.skip("no filmed clips here")
    data = (MEDIA / name).read_bytes()
    with ClipReader(data, strict=True) as reader:
        wanted = np.random.default_rng(2).integers(0, len(reader), 8).tolist()
        np.testing.assert_array_equal(read_frames(data, wanted), reader.frames(wanted))

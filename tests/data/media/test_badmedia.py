"""The test media are what they say: checked with plain PyAV, independently of vidkit's own reader."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests import badmedia, indexclips
from tests.badmedia import CASES, FRAMES, HEIGHT, NAMES, WIDTH, indexed_frame, read_index
from vidkit.errors import CLIP_ERRORS

GOOD = [name for name, case in CASES.items() if case.error is None]
FILES = [name for name in CASES if name not in ("directory", "fifo")]


def decode(path: Path) -> list[np.ndarray]:
    """Frames as shown (turned upright), by the naive way through PyAV."""
    with av.open(os.fspath(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            # PyAV gives the display matrix's angle, anticlockwise
            frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
        return frames


def write(name: str, folder: Path) -> Path:
    path = folder / f"x{CASES[name].suffix}"
    CASES[name].write(path)
    return path


# --- the index code --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(128, 96), (96, 128), (340, 256), (64, 64), (97, 75), (40, 41)])
def test_code_reads_back_at_every_size(size: tuple[int, int]) -> None:
    for index in (0, 1, 2, 127, 128, 255, 256, 299, 43690, 65535):
        assert read_index(indexed_frame(index, *size)) == index


@pytest.mark.parametrize("target", [64, 112, 32])
def test_code_survives_centre_crop_and_scaling(target: int) -> None:
    for index in (0, 5, 170, 255, 299):
        image = Image.fromarray(indexed_frame(index, 340, 256)).crop((42, 0, 298, 256))
        assert read_index(np.asarray(image.resize((target, target), Image.Resampling.BILINEAR))) == index


def test_turned_and_mirrored_frames_do_not_read() -> None:
    for index in (0, 24, 77, 129, 255, 300):
        frame = indexed_frame(index)
        for turned in (np.rot90(frame), np.rot90(frame, 2), np.rot90(frame, 3), frame[::-1], frame[:, ::-1]):
            with pytest.raises(ValueError, match="no readable index"):
                read_index(turned)


def test_code_survives_noise_but_damage_is_noticed() -> None:
    rng = np.random.default_rng(0)
    frame = indexed_frame(201)
    noisy = np.clip(frame + rng.normal(0, 25, frame.shape), 0, 255).astype(np.uint8)
    assert read_index(noisy) == 201
    damaged = frame.copy()
    damaged[16:32, :32] = 128
    with pytest.raises(ValueError, match="no readable index"):
        read_index(np.zeros_like(damaged))


# --- every case ------------------------------------------------------------------------------------


def test_there_are_enough_kinds_and_every_code_is_a_ledger_code() -> None:
    assert len(CASES) + len(NAMES) >= 40
    for name, case in CASES.items():
        assert case.error is None or case.error in CLIP_ERRORS, name
        assert (case.error is None) <= (case.frames is not None), name


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_good_files_show_exactly_their_frames(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    frames = decode(write(name, tmp_path))
    assert [read_index(frame) for frame in frames] == list(range(case.first, case.first + case.frames))
    assert frames[0].shape == (case.shown[1], case.shown[0], 3)


@pytest.mark.parametrize("name", FILES)
def test_files_are_the_same_bytes_every_time(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first = write(name, tmp_path / "a")
    indexclips.ENCODED.clear()
    second = write(name, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["zero-byte", "no-moov", "text"])
def test_these_do_not_open(name: str, tmp_path: Path) -> None:
    with pytest.raises(av.error.InvalidDataError):
        av.open(os.fspath(write(name, tmp_path)))


@pytest.mark.parametrize("name", ["truncated-30", "truncated-60", "truncated-95", "truncated-mkv-50"])
def test_truncated_files_open_and_stop_early(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    shown = []
    with av.open(os.fspath(path)) as container:
        try:
            for frame in container.decode(video=0):
                shown.append(read_index(frame.to_ndarray(format="rgb24")))
        except (av.error.InvalidDataError, ValueError):
            pass  # half a frame at the end
    assert 0 < len(shown) < FRAMES
    assert shown == list(range(len(shown)))


def test_truncated_matroska_raises_nothing(tmp_path: Path) -> None:
    assert len(decode(write("truncated-mkv-50", tmp_path))) < FRAMES


def test_audio_only_has_sound_and_no_picture(tmp_path: Path) -> None:
    with av.open(os.fspath(write("audio-only", tmp_path))) as container:
        assert not container.streams.video
        assert sum(frame.samples for frame in container.decode(audio=0)) > 16000


def test_cover_art_is_an_attached_picture(tmp_path: Path) -> None:
    with av.open(os.fspath(write("cover-art", tmp_path))) as container:
        assert container.streams.video[0].disposition & av.stream.Disposition.attached_pic
        assert container.streams.audio


def test_picture_opens_as_a_one_frame_stream(tmp_path: Path) -> None:
    path = write("picture", tmp_path)
    with av.open(os.fspath(path)) as container:
        assert container.format.name == "jpeg_pipe"
    assert len(decode(path)) == 1


@pytest.mark.parametrize("name", ["hls-playlist", "ffconcat"])
def test_playlists_lead_to_a_file_that_decodes(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    assert path.stat().st_size < 200
    assert [read_index(f) for f in decode(tmp_path / badmedia.FOLLOWED)] == list(range(FRAMES))


def test_a_careless_reader_follows_the_concat_script(tmp_path: Path) -> None:
    assert len(decode(write("ffconcat", tmp_path))) == FRAMES


@pytest.mark.parametrize("name", ["flipped-bits", "zeroed-block"])
def test_corrupt_files_open_but_frames_are_lost_or_wrong(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    clean = tmp_path / "clean.mp4"
    badmedia.indexed_clip(clean)
    assert path.stat().st_size == clean.stat().st_size
    damaged = np.frombuffer(path.read_bytes(), np.uint8) != np.frombuffer(clean.read_bytes(), np.uint8)
    assert damaged.sum() >= (200 if name == "flipped-bits" else 1000)
    want = [frame.tobytes() for frame in decode(clean)]
    got = []
    with av.open(os.fspath(path)) as container:
        for packet in container.demux(video=0):
            try:
                got += [frame.to_ndarray(format="rgb24").tobytes() for frame in packet.decode()]
            except av.error.InvalidDataError:
                continue
    assert got[0] == want[0], "the start is whole"
    assert got != want


def test_rotated_files_are_stored_on_their_side(tmp_path: Path) -> None:
    for degrees, seen in ((90, -90), (180, -180), (270, 90)):
        path = write(f"rotated-{degrees}", tmp_path)
        with av.open(os.fspath(path)) as container:
            frame = next(container.decode(video=0))
            assert frame.rotation == seen
            assert (frame.width, frame.height) == ((WIDTH, HEIGHT) if degrees == 180 else (HEIGHT, WIDTH))
            with pytest.raises(ValueError, match="no readable index"):
                read_index(frame.to_ndarray(format="rgb24"))


def test_variable_rate_has_uneven_times(tmp_path: Path) -> None:
    with av.open(os.fspath(write("variable-rate", tmp_path))) as container:
        times = [frame.time for frame in container.decode(video=0)]
    gaps = np.diff(times)
    assert gaps.min() < 0.03
    assert gaps.max() > 0.15


def nal_types(path: Path) -> list[int]:
    """Types of the H.264 units of an mp4, in stored order (4-byte lengths)."""
    types = []
    with av.open(os.fspath(path)) as container:
        for packet in container.demux(video=0):
            data, at = bytes(packet), 0
            while at + 4 < len(data):
                types.append(data[at + 4] & 31)
                at += 4 + int.from_bytes(data[at : at + 4], "big")
    return types


def test_open_gop_has_keyframes_that_are_no_idr_and_frames_before_them(tmp_path: Path) -> None:
    path = write("open-gop", tmp_path)
    with av.open(os.fspath(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    assert len(keys) == 4
    assert nal_types(path).count(5) == 1, "only the first is an IDR picture"
    second = packets[keys[1]]
    assert any(p.pts < second.pts for p in packets[keys[1] + 1 :]), "pictures shown before it follow it"


def test_edit_list_hides_frames_that_are_stored(tmp_path: Path) -> None:
    with av.open(os.fspath(write("edit-list", tmp_path))) as container:
        assert container.streams.video[0].frames == FRAMES


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("ten-bit", "h264", "yuv420p10le"),
        ("odd-size", "h264", "yuv444p"),
        ("odd-size-vp9", "vp9", "yuv420p"),
        ("alpha-qtrle", "qtrle", "argb"),
        ("alpha-ffv1", "ffv1", "yuva420p"),
        ("avi-mpeg4", "mpeg4", "yuv420p"),
        ("vp9", "vp9", "yuv420p"),
    ],
)
def test_codec_and_pixel_format(name: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    with av.open(os.fspath(write(name, tmp_path))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == (codec, pix_fmt)


def test_vp9_alpha_is_flagged(tmp_path: Path) -> None:
    with av.open(os.fspath(write("alpha-vp9", tmp_path))) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"


def test_audio_stream_is_there(tmp_path: Path) -> None:
    with av.open(os.fspath(write("with-audio", tmp_path))) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_late_start_and_size_change(tmp_path: Path) -> None:
    with av.open(os.fspath(write("late-start", tmp_path))) as container:
        assert next(container.decode(video=0)).time == pytest.approx(4.0)
    sizes = {frame.shape for frame in decode(write("size-change", tmp_path))}
    assert sizes == {(HEIGHT, WIDTH, 3), (2 * HEIGHT, 2 * WIDTH, 3)}


def test_directory_and_fifo(tmp_path: Path) -> None:
    CASES["directory"].write(tmp_path / "d.mp4")
    CASES["fifo"].write(tmp_path / "f.mp4")
    assert (tmp_path / "d.mp4").is_dir()
    assert stat.S_ISFIFO((tmp_path / "f.mp4").stat().st_mode)


def test_awkward_names_are_written(tmp_path: Path) -> None:
    paths = badmedia.write_named(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES.values())
    assert len(os.fsencode(paths["very long"].name)) == 255
    with pytest.raises(UnicodeEncodeError):
        paths["not UTF-8"].name.encode("utf-8")
    assert paths["leading dash"].name.startswith("-")

"""Frames by index are exactly the frames that a decode of everything gives, or an error; never others."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import badmedia
from tests.badmedia import CASES, FOLLOWED, FRAMES, Case, indexed_clip, read_index
from tests.reference import ref_media
from vidkit.data.media import frames as media
from vidkit.data.media.frames import ClipReader, decode_frames
from vidkit.errors import ClipError

GOOD = [name for name, case in CASES.items() if case.error is None]
STEADY = [name for name in GOOD if name != "size-change"]
BAD = [name for name, case in CASES.items() if case.error and not case.concealed]
BAD_FILES = [name for name in BAD if name not in ("directory", "fifo", "no-permission")]
CONCEALED = [name for name, case in CASES.items() if case.concealed]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bytes of every case that is a file; each is written once."""
    folder = tmp_path_factory.mktemp("cases")
    found = {}
    for name in [*GOOD, *BAD_FILES, *CONCEALED]:
        path = folder / f"{name}{CASES[name].suffix}"
        CASES[name].write(path)
        found[name] = path.read_bytes()
    return found


def numbers(frames: np.ndarray) -> list[int]:
    return [read_index(frame) for frame in frames]


def expected(case: Case, indices: list[int]) -> list[int]:
    return [case.first + i for i in indices]


# --- good files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", STEADY)
def test_all_frames_in_order(name: str, strict: bool, files: dict[str, bytes]) -> None:
    case = CASES[name]
    with ClipReader(files[name], strict=strict) as reader:
        assert len(reader) == case.frames
        frames = reader.frames(range(len(reader)))
    assert frames.dtype == np.uint8
    assert frames.shape == (case.frames, case.shown[1], case.shown[0], 3)
    assert numbers(frames) == expected(case, list(range(len(frames))))


@pytest.mark.parametrize("name", STEADY)
def test_any_indices_against_a_decode_of_everything(name: str, files: dict[str, bytes]) -> None:
    want = ref_media.all_frames(files[name])
    rng = random.Random(name)
    with ClipReader(files[name]) as reader:
        n = len(reader)
        assert n == len(want)
        sets = [[n - 1], [0], [n - 1, 0], [n // 2] * 3, list(range(n))[::-1], list(range(0, n, 7))]
        sets += [[rng.randrange(n) for _ in range(rng.choice((1, 2, 5, 16)))] for _ in range(12)]
        for indices in sets:  # one reader, so that each set starts where the last one ended
            got = reader.frames(indices)
            assert len(got) == len(indices)
            for i, frame in zip(indices, got, strict=True):
                assert np.array_equal(frame, want[i]), (indices, i)


@pytest.mark.parametrize("seed", range(16))
def test_any_group_structure_in_any_container(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    container, suffix = rng.choice([("mp4", "mp4"), ("matroska", "mkv"), ("mpegts", "ts"), ("mov", "mov")])
    keyint, bframes = rng.choice((1, 2, 3, 4, 5, 8, 13, 250)), rng.randrange(5)
    params = {
        "keyint": keyint,
        "min-keyint": rng.choice((1, keyint)),
        "bframes": bframes,
        "b-adapt": 0,
        "b-pyramid": rng.choice(("none", "strict", "normal")),
        "ref": rng.choice((1, 3)),
        "open-gop": rng.randrange(2),
        "scenecut": 0,
        "cpu-independent": 1,
    }
    frames = rng.choice((7, 30, 41))
    more: dict[str, object] = {}
    if container in ("mp4", "matroska") and rng.random() < 0.5:
        gaps = [rng.randint(5, 150) for _ in range(frames - 1)]
        more = {"pts": [sum(gaps[:k]) for k in range(frames)], "time_base": Fraction(1, 1000)}
    elif rng.random() < 0.3:
        more = {"first_pts": rng.randrange(200)}
    path = tmp_path / f"x.{suffix}"
    text = ":".join(f"{name}={value}" for name, value in params.items())
    options = {"x264-params": text, "g": str(keyint)}
    indexed_clip(path, frames, 64, 48, container=container, options=options, **more)
    data = path.read_bytes()
    want = ref_media.all_frames(data)
    assert [read_index(frame) for frame in want] == list(range(frames)), "the reference itself"
    with ClipReader(data, strict=True) as reader:
        assert len(reader) == frames
        for _ in range(25):
            indices = [rng.randrange(frames) for _ in range(rng.choice((1, 1, 2, 4)))]
            assert numbers(reader.frames(indices)) == indices, (indices, params)
        assert np.array_equal(reader.frames(range(frames)), np.stack(want))


X265 = "keyint=8:min-keyint=8:bframes=3:pools=none:frame-threads=1:log-level=1"


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"x265-params": f"open-gop=0:{X265}"}),
        ("libx265", {"x265-params": f"open-gop=1:{X265}"}),
        ("libvpx-vp9", {"g": "8", "cpu-used": "8", "deadline": "realtime"}),
        ("libsvtav1", {"g": "8", "preset": "12", "svtav1-params": "lp=1"}),
        ("mjpeg", {}),
        ("ffv1", {}),
        ("mpeg4", {"g": "8", "bf": "2"}),
    ],
)
@pytest.mark.parametrize("container", ["matroska", "mov"])
def test_groups_of_other_codecs(codec: str, options: dict[str, str], container: str, tmp_path: Path) -> None:
    if not badmedia.has_encoder(codec) or (container == "mov" and codec in ("ffv1", "libvpx-vp9", "libsvtav1")):
        pytest.skip(f"this PyAV writes no {codec} into {container}")
    os.environ.setdefault("SVT_LOG", "1")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    indexed_clip(tmp_path / "x", 30, 64, 64, codec=codec, container=container, options=options, pix_fmt=pix_fmt)
    data = (tmp_path / "x").read_bytes()
    want = ref_media.all_frames(data)
    rng = random.Random(codec)
    with ClipReader(data, strict=True) as reader, media.listening() as words:
        assert len(reader) == 30
        for indices in ([29], [8, 17], [7], *([rng.randrange(30), rng.randrange(30)] for _ in range(10))):
            for i, frame in zip(indices, reader.frames(indices), strict=True):
                assert np.array_equal(frame, want[i]), (indices, i)
        assert not words.said


@pytest.mark.parametrize("name", STEADY)
def test_a_reader_in_the_middle_of_another_clip_does_not_matter(name: str, files: dict[str, bytes]) -> None:
    n = CASES[name].frames
    assert n is not None
    with ClipReader(files[name]) as one, ClipReader(files[name]) as other:
        one.frames([0])
        other.frames([n - 1])
        assert numbers(one.frames([n - 1])) == numbers(other.frames([n - 1]))


def test_a_size_that_changes(files: dict[str, bytes]) -> None:
    with ClipReader(files["size-change"]) as reader:
        assert len(reader) == FRAMES
        half = FRAMES // 2
        assert numbers(reader.frames(range(half))) == list(range(half))
        assert numbers(reader.frames([FRAMES - 1, half])) == [FRAMES - 1, half]
        assert reader.frames([half]).shape == (1, 2 * badmedia.HEIGHT, 2 * badmedia.WIDTH, 3)
        with pytest.raises(ClipError, match=f"the picture size changes at frame {half}; transcode") as caught:
            reader.frames([half - 1, half])
        assert caught.value.code == "decode-error"


def test_times_of_frames(files: dict[str, bytes]) -> None:
    for name in ("variable-rate", "open-gop", "edit-list", "mpeg-ts", "vp9", "late-start", "mkv"):
        with ClipReader(files[name]) as reader:
            index = reader.index
        got = [(p - index.pts[0]) * index.time_base for p in index.pts]
        assert got == ref_media.times_s(files[name]), name


@pytest.mark.parametrize("name", ["mkv", "with-audio", "open-gop", "edit-list", "mpeg-ts", "avi-mpeg4", "vp9"])
def test_duration_lasts_to_the_end_of_the_last_frame(name: str, files: dict[str, bytes]) -> None:
    with ClipReader(files[name]) as reader:
        assert reader.index.duration_s == pytest.approx((CASES[name].frames or 0) / badmedia.FPS, abs=0.002)


def test_frames_between_is_by_time_not_by_number(files: dict[str, bytes]) -> None:
    with ClipReader(files["variable-rate"]) as reader:
        index = reader.index
    times = [float(time) for time in ref_media.times_s(files["variable-rate"])]
    for start, end in ((0.0, 1.0), (0.5, 2.5), (times[3], times[9]), (0.0, 99.0), (50.0, 60.0), (1.0, 1.0)):
        want = [i for i, time in enumerate(times) if start <= time < end]
        assert list(media.frames_between(index, start, end)) == want
    assert list(media.frames_between(index, None, None)) == list(range(FRAMES))


# --- what is asked for -------------------------------------------------------------------------------------


def test_no_indices_give_no_frames(files: dict[str, bytes]) -> None:
    assert decode_frames(files["mkv"], []).shape == (0, 0, 0, 3)


@pytest.mark.parametrize("indices", [[-1], [FRAMES], [0, FRAMES + 5], [3, -2]])
@pytest.mark.parametrize("name", ["mkv", "avi-mpeg4"])
def test_indices_outside_are_errors(name: str, indices: list[int], files: dict[str, bytes]) -> None:
    with ClipReader(files[name]) as reader:
        with pytest.raises(IndexError, match=f"of a clip of {FRAMES} frames"):
            reader.frames(indices)
        assert numbers(reader.frames([5])) == [5], "the reader goes on"


def test_numpy_indices_and_every_kind_of_source(tmp_path: Path, files: dict[str, bytes]) -> None:
    data = files["with-audio"]
    wanted = np.array([3, 40, 3])
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with path.open("rb") as file:
        results = [decode_frames(source, wanted) for source in (data, bytearray(data), memoryview(data), file)]
    assert numbers(results[0]) == [3, 40, 3]
    for other in results[1:]:
        assert np.array_equal(results[0], other)


def test_repr_shows_shapes_not_data(files: dict[str, bytes]) -> None:
    with ClipReader(files["with-audio"]) as reader:
        assert repr(reader.index) == "FrameIndex(48 frames, 1.920 s, 2 groups)"


# --- files that cannot be used -------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_give_their_code(name: str, strict: bool, files: dict[str, bytes]) -> None:
    with pytest.raises(ClipError) as caught, ClipReader(files[name], strict=strict) as reader:
        reader.frames(range(len(reader)))
    assert caught.value.code == CASES[name].error
    assert caught.value.message
    assert "0x" not in caught.value.message


@pytest.mark.parametrize("name", CONCEALED)
def test_damage_is_found_by_a_strict_reader(name: str, files: dict[str, bytes]) -> None:
    with pytest.raises(ClipError) as caught, ClipReader(files[name], strict=True) as reader:
        reader.frames(range(len(reader)))
    assert caught.value.code == CASES[name].error


@pytest.mark.parametrize("name", CONCEALED)
def test_damage_never_shortens_a_clip_in_silence(name: str, files: dict[str, bytes]) -> None:
    code, frames = None, None
    try:
        with ClipReader(files[name]) as reader:
            frames = reader.frames(range(len(reader)))
    except ClipError as error:
        code = error.code
    assert code == CASES[name].error if frames is None else len(frames) == FRAMES


TEXTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.92,\n{file}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{file}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="9"><BaseURL>{file}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 49170 RTP/AVP 96\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "<Id>{file}</Id></CompositionPlaylist>",
    "rtsp": "rtsptext\nrtsp://127.0.0.1/{file}\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_opens_no_other_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / FOLLOWED)  # whoever opens it hangs, and the test with it
    monkeypatch.chdir(tmp_path)
    for file in (FOLLOWED, os.fspath(tmp_path / FOLLOWED), f"file:{tmp_path / FOLLOWED}"):
        text = TEXTS[name].format(file=file).encode()
        with pytest.raises(ClipError) as caught:
            ClipReader(text)
        assert caught.value.code == "not-a-video"
    with (tmp_path / "x.mp4").open("w+b") as stream:  # nor does it where the file has a name
        stream.write(text)
        stream.seek(0)
        with pytest.raises(ClipError):
            ClipReader(stream)


def test_a_movie_that_refers_to_a_file_for_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QuickTime can keep the data elsewhere: a `url ` reference that is not "in this file"."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.mov"
    indexed_clip(path, container="mov")
    data = path.read_bytes()
    start = data.index(b"dref") - 4
    size = struct.unpack_from(">I", data, start)[0]
    other = os.fsencode(tmp_path / FOLLOWED) + b"\0"
    os.mkfifo(tmp_path / FOLLOWED)
    reference = struct.pack(">I4sI", 12 + len(other), b"url ", 0) + other
    changed = bytearray(data)
    changed[start : start + size] = struct.pack(">I4sII", 16 + len(reference), b"dref", 0, 1) + reference
    grown = len(changed) - len(data)
    for name in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):  # each holds the next: all grow
        at = changed.rindex(name, 0, start + 4) - 4 if name != b"moov" else changed.index(b"moov") - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", changed, at)[0] + grown)
    # the reference is passed over; what the file itself holds at those places is all that can come
    with contextlib.suppress(ClipError), ClipReader(bytes(changed)) as reader:
        assert numbers(reader.frames([0])) == [0]


def test_nothing_is_printed_and_words_are_collected(
    files: dict[str, bytes], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with media.listening() as words, ClipReader(files["flipped-bits"]) as reader, pytest.raises(ClipError):
        reader.frames(range(len(reader)))
    assert words.count > 0
    assert 1 <= len(words.said) <= 20
    assert all("0x" not in said for said in words.said)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("seed", range(4))
def test_damaged_headers_give_errors_of_clips_and_no_others(seed: int, files: dict[str, bytes]) -> None:
    rng = random.Random(seed)
    names = [name for name in GOOD if len(files[name]) > 2000]
    for _ in range(60):
        name = rng.choice(names)
        data = bytearray(files[name])
        moov = data.find(b"moov")
        low, high = (moov, len(data)) if moov > 0 else (0, 2000)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(low, high)
            data[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f", b"\x80", rng.randbytes(2)))
        try:
            with media.listening(), ClipReader(bytes(data)) as reader:
                reader.frames([0, len(reader) - 1])
        except ClipError:
            pass


def test_an_edit_list_that_ends_early_hides_the_last_frames(tmp_path: Path) -> None:
    """What QuickTime's own trimming leaves: all pictures are stored, the last ones not shown."""

    def trim(data: bytearray) -> None:
        at = badmedia._box(data, b"moov", b"trak", b"edts", b"elst")
        movie = struct.unpack_from(">I", data, badmedia._box(data, b"moov", b"mvhd") + 20)[0]
        for place in (at + 16, badmedia._box(data, b"moov", b"trak", b"tkhd") + 28):
            struct.pack_into(">I", data, place, movie * 10 // badmedia.FPS)
        struct.pack_into(">I", data, badmedia._box(data, b"moov", b"mvhd") + 24, movie * 10 // badmedia.FPS)

    path = tmp_path / "x.mp4"
    indexed_clip(path)
    badmedia._patch(path, trim)
    data = path.read_bytes()
    assert len(ref_media.all_frames(data)) == 10
    with ClipReader(data, strict=True) as reader:
        assert len(reader) == 10
        assert numbers(reader.frames(range(10))) == list(range(10))
        assert reader.index.duration_s == pytest.approx(0.4)


def test_h264_without_times_in_avi(tmp_path: Path) -> None:
    """B-frames in AVI: packets come without presentation times, in decoding order."""
    path = tmp_path / "x.avi"
    params = "bframes=2:b-adapt=0:keyint=12:cpu-independent=1"
    indexed_clip(path, container="avi", options={"x264-params": params})
    data = path.read_bytes()
    with ClipReader(data) as reader:
        indices = [47, 0, 13, 12, 11, 30]
        got = numbers(reader.frames(indices))
    want = [read_index(frame) for frame in ref_media.pick(data, indices)]
    assert got == want == indices


def test_the_reference_decodes_what_it_should() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for level in (0, 128, 255):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    means = [frame.mean() for frame in ref_media.all_frames(buffer.getvalue())]
    assert means == pytest.approx([0, 128, 255], abs=4)
    assert ref_media.times_s(buffer.getvalue()) == [Fraction(k, 10) for k in range(3)]


def test_threads_may_listen_at_the_same_time() -> None:
    """Whoever leaves last leaves FFmpeg's log as the first one found it."""
    logger = logging.getLogger("libav")
    level = av.logging.get_level()
    one, other = media.listening(), media.listening()
    one.__enter__()
    words = other.__enter__()
    one.__exit__(None, None, None)
    assert not logger.propagate
    logger.error("still heard")
    assert words.said == ["still heard"]
    other.__exit__(None, None, None)
    assert (logger.propagate, logger.handlers, av.logging.get_level()) == (True, [], level)

"""Stored clips show the frames that were chosen, at the right times and size, in the same bytes every time."""

from __future__ import annotations

import io
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.badmedia import CASES, FPS, FRAMES, HEIGHT, WIDTH, indexed_clip, indexed_frame, read_index
from tests.reference import ref_media, ref_transcode
from tests.reference.ref_transcode import luma, psnr
from vidkit.data.build.clip_worker import ClipJob, ClipWorker
from vidkit.data.media.frames import ClipReader, FrameIndex
from vidkit.data.media.transcode import (
    StoredClip,
    choose_frames,
    cut_to_apply,
    encoder_fingerprint,
    stored_size,
    transcode,
)
from vidkit.errors import ClipError
from vidkit.settings.encode import EncodeSettings

GOOD = [name for name, case in CASES.items() if case.error is None]
BAD = [
    name
    for name, case in CASES.items()
    if case.error and not case.concealed and name not in ("directory", "fifo", "no-permission")
]


def quick(**more: Any) -> EncodeSettings:
    return EncodeSettings(**{"size": 64, "max_frames": None, "preset": "ultrafast", "crf": 18, **more})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("cases")
    found = {}
    for name in [*GOOD, *BAD, "flipped-bits", "zeroed-block"]:
        path = folder / f"{name}{CASES[name].suffix}"
        CASES[name].write(path)
        found[name] = path.read_bytes()
    return found


def shown(clip: StoredClip) -> list[int]:
    return [read_index(frame) for frame in ref_media.all_frames(clip.data)]


def packets(data: bytes) -> list[Any]:
    with av.open(io.BytesIO(data)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


# --- which frames ----------------------------------------------------------------------------------------

SAMPLINGS = [
    quick(),
    quick(max_frames=16),
    quick(max_frames=1),
    quick(max_frames=1000),
    quick(fps=7.5),
    quick(fps=60.0),
    quick(fps=12.5, max_frames=9),
    quick(fps=29.97, max_frames=1000),
]


def says(settings: EncodeSettings) -> str:
    return f"frames={settings.max_frames},fps={settings.fps}"


def index_of(times: list[int], duration: int, base: Fraction) -> FrameIndex:
    return FrameIndex(
        pts=tuple(times),
        duration=duration,
        time_base=base,
        position=tuple(range(len(times))),
        starts=((0, times[0]),),
        by_time=True,
        rate=Fraction(25),
    )


@pytest.mark.parametrize("seed", range(40))
def test_choice_against_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    base = rng.choice(
        [Fraction(1, 1000), Fraction(1, 12800), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 25)]
    )
    count = rng.choice((1, 2, 3, 10, 57, 150))
    gaps = [rng.choice((1, 1, 2, 7, 40)) if rng.random() < 0.5 else 3 for _ in range(count)]
    first = rng.randrange(-50, 500)
    times = [first + sum(gaps[:k]) for k in range(count)]
    index = index_of(times, sum(gaps), base)
    low = rng.randrange(count)
    span = range(low, rng.randrange(low, count) + 1)
    settings = quick(
        max_frames=rng.choice((None, 1, 2, 8, 31, 100, 400)), fps=rng.choice((None, 0.5, 8.0, 25.0, 29.97, 300.0))
    )
    after = [*times, first + sum(gaps)][span.stop]
    exact = [(times[i] - times[low]) * base for i in span]
    end = (after - times[low]) * base
    if settings.fps and settings.max_frames is None and end * Fraction(settings.fps) > 3000:
        pytest.skip("brute force would take minutes")
    want = ref_transcode.choose(exact, end, max_frames=settings.max_frames, fps=settings.fps)
    timing = choose_frames(index, span, settings)
    assert [i - low for i, _ in timing.shown] == [i for i, _ in want]
    assert [time * timing.time_base for _, time in timing.shown] == [time for _, time in want]
    indices = [i for i, _ in timing.shown]
    assert indices == sorted(indices)
    assert set(indices) <= set(span)
    if settings.max_frames is not None:
        assert len(indices) <= settings.max_frames


@pytest.mark.parametrize("settings", SAMPLINGS, ids=says)
@pytest.mark.parametrize(
    "name",
    ["mkv", "variable-rate", "open-gop", "edit-list", "avi-mpeg4", "vp9", "mpeg-ts", "late-start", "one-frame"],
)
def test_stored_frames_and_times_against_brute_force(
    name: str, settings: EncodeSettings, files: dict[str, bytes]
) -> None:
    case, data = CASES[name], files[name]
    times = [Fraction(k, FPS) for k in range(case.frames or 0)] if name == "avi-mpeg4" else ref_media.times_s(data)
    clip = transcode(data, settings)
    # how long the last frame lasts is told by the container alone; everything else by plain decoding
    end = (
        Fraction(round(clip.duration_s * 90000), 90000)
        if name == "variable-rate"
        else Fraction(case.frames or 0, FPS)
    )
    want = ref_transcode.choose(times, end, max_frames=settings.max_frames, fps=settings.fps)
    assert clip.source_frames == case.frames
    assert clip.frames == len(want)
    assert shown(clip) == [case.first + i for i, _ in want]
    got = ref_media.times_s(clip.data)
    assert [float(t) for t in got] == pytest.approx([float(t) for _, t in want], abs=2e-4)
    assert clip.warnings == ()


@pytest.mark.parametrize("name", GOOD)
def test_every_odd_file_keeps_all_its_frames(name: str, files: dict[str, bytes]) -> None:
    case = CASES[name]
    clip = transcode(files[name], quick())
    assert shown(clip) == list(range(case.first, case.first + (case.frames or 0)))
    assert (clip.width, clip.height) == (64, 64)
    if case.warning:
        assert [case.warning in said for said in clip.warnings] == [True]
        with pytest.raises(ClipError, match=case.warning):
            transcode(files[name], quick(), strict=True)
        return
    assert clip.warnings == ()
    assert transcode(files[name], quick(), strict=True) == clip


@pytest.mark.parametrize("strict", [False, True])
def test_open_groups_that_are_jumped_over_give_no_warning(strict: bool, tmp_path: Path) -> None:
    params = "open-gop=1:keyint=4:min-keyint=4:bframes=2:b-adapt=0:b-pyramid=normal:scenecut=0:cpu-independent=1"
    indexed_clip(tmp_path / "x.mp4", 96, options={"x264-params": params})
    clip = transcode((tmp_path / "x.mp4").read_bytes(), quick(max_frames=5), strict=strict)
    assert clip.warnings == ()
    assert shown(clip) == [9, 28, 48, 67, 86]


# --- how long, how fast ------------------------------------------------------------------------------------


def test_timing_of_a_clip_that_keeps_its_frames(files: dict[str, bytes]) -> None:
    clip = transcode(files["with-audio"], quick())
    assert (clip.frames, clip.fps, clip.duration_s) == (FRAMES, FPS, FRAMES / FPS)
    with av.open(io.BytesIO(clip.data)) as container:
        stream = container.streams.video[0]
        assert stream.frames == FRAMES
        assert float(stream.duration * stream.time_base) == pytest.approx(FRAMES / FPS)
        assert float(stream.average_rate) == pytest.approx(FPS)


def test_timing_of_a_sampled_clip(files: dict[str, bytes]) -> None:
    clip = transcode(files["with-audio"], quick(max_frames=16))
    assert (clip.frames, clip.duration_s) == (16, FRAMES / FPS), "the same span of time, in fewer frames"
    assert clip.fps == pytest.approx(16 / (FRAMES / FPS))
    clip = transcode(files["with-audio"], quick(fps=10.0))
    assert (clip.frames, clip.fps, clip.duration_s) == (19, 10.0, 1.9)


def test_variable_times_are_kept_to_the_tick(files: dict[str, bytes]) -> None:
    clip = transcode(files["variable-rate"], quick())
    assert ref_media.times_s(clip.data) == ref_media.times_s(files["variable-rate"])
    lasting = [p.duration * Fraction(p.time_base.numerator, p.time_base.denominator) for p in packets(clip.data)]
    assert float(sum(lasting)) == pytest.approx(clip.duration_s)


def test_ten_seconds_at_thirty_become_a_hundred_frames(tmp_path: Path) -> None:
    indexed_clip(tmp_path / "x.mp4", 300, 34, 26, fps=30, options={"preset": "ultrafast"})
    clip = transcode((tmp_path / "x.mp4").read_bytes(), quick(size=32, max_frames=100))
    assert (clip.frames, clip.fps, clip.duration_s) == (100, 10.0, 10.0)
    assert shown(clip) == [3 * k + 1 for k in range(100)]


@pytest.mark.parametrize("base", [Fraction(1, 1_000_000), Fraction(1001, 24000), Fraction(1, 90000)])
def test_odd_time_bases(base: Fraction, tmp_path: Path) -> None:
    step = max(1, round(Fraction(1, 24) / base))
    pts = [k * step for k in range(12)]
    indexed_clip(tmp_path / "x.mp4", 12, 64, 48, pts=pts, time_base=base, fps=24)
    data = (tmp_path / "x.mp4").read_bytes()
    for settings in (quick(), quick(max_frames=5), quick(fps=23.976)):
        clip = transcode(data, settings)
        assert clip.duration_s == pytest.approx(12 * step * float(base), rel=0.05)
        assert len(shown(clip)) == clip.frames


def test_times_that_make_no_sense_are_errors() -> None:
    for times, base in (([0, 1, 2], Fraction(1, 10**9)), ([0, 10**7, 2 * 10**7], Fraction(1))):
        with pytest.raises(ClipError, match="the times make no sense") as caught:
            choose_frames(index_of(times, 3 * max(1, times[1]), base), range(3), quick())
        assert caught.value.code == "decode-error"
    with pytest.raises(ClipError, match=r"frames would be stored"):  # a list of them would fill the memory
        choose_frames(index_of([0, 1, 2], 90_000, Fraction(1)), range(3), quick(fps=1000.0))


# --- the cut of an untrimmed original ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """30 s at 10 frames a second."""
    path = tmp_path_factory.mktemp("long") / "x.mp4"
    indexed_clip(path, 300, 40, 32, fps=10, options={"preset": "ultrafast", "g": "25"})
    return path.read_bytes()


def test_a_cut_is_taken_from_a_whole_video(minute: bytes) -> None:
    clip = transcode(minute, quick(size=32), start_s=12.0, end_s=22.0)
    assert shown(clip) == list(range(120, 220))
    assert (clip.start_s, clip.end_s, clip.source_frames, clip.duration_s) == (12.0, 22.0, 100, 10.0)
    assert ref_media.times_s(clip.data)[:2] == [0, Fraction(1, 10)], "it begins at its own beginning"
    sampled = transcode(minute, quick(size=32, max_frames=10), start_s=12.0, end_s=22.0)
    assert shown(sampled) == [125, 135, 145, 155, 165, 175, 185, 195, 205, 215]


@pytest.mark.parametrize(
    ("start_s", "end_s", "frames"),
    [
        (0.0, 10.0, range(100)),
        (20.0, 30.0, range(200, 300)),
        (20.5, 30.5, range(205, 300)),  # a second's slack: containers round
        (19.96, 20.01, range(200, 201)),
        (None, 10.0, range(300)),
        (5.0, None, range(300)),
        (None, None, range(300)),
        (0.0, 29.5, range(300)),
    ],
)
def test_which_cuts_are_applied(start_s: float | None, end_s: float | None, frames: range, minute: bytes) -> None:
    clip = transcode(minute, quick(size=32), start_s=start_s, end_s=end_s)
    assert shown(clip) == list(frames)
    assert (clip.start_s is None) == (len(frames) == 300)


@pytest.mark.parametrize(
    ("seconds", "cut"), [(10.0, True), (9.3, True), (10.9, True), (3.0, True), (11.2, False), (40.0, False)]
)
def test_a_file_as_long_as_its_cut_is_trimmed_already(seconds: float, cut: bool) -> None:
    index = index_of([0], round(seconds * 1000), Fraction(1, 1000))
    if cut:
        assert cut_to_apply(index, 12.0, 22.0) == (None, None)
    elif seconds > 22:
        assert cut_to_apply(index, 12.0, 22.0) == (12.0, 22.0)
    else:
        with pytest.raises(ClipError) as caught:
            cut_to_apply(index, 12.0, 22.0)
        assert caught.value.code == "too-short"


@pytest.mark.parametrize(
    ("start_s", "end_s", "said"),
    [(31.0, 41.0, "30.0 s; the clip starts at 31 s"), (25.0, 35.0, "30.0 s; the clip ends at 35 s")],
)
def test_a_video_that_ends_before_its_cut_is_too_short(
    start_s: float, end_s: float, said: str, minute: bytes
) -> None:
    with pytest.raises(ClipError, match=said) as caught:
        transcode(minute, quick(size=32), start_s=start_s, end_s=end_s)
    assert caught.value.code == "too-short"


def test_fewer_frames_than_are_needed(files: dict[str, bytes]) -> None:
    assert transcode(files["mkv"], quick(min_frames=FRAMES)).frames == FRAMES
    for settings in (quick(min_frames=FRAMES + 1), quick(min_frames=17, max_frames=16)):
        with pytest.raises(ClipError, match="are needed") as caught:
            transcode(files["mkv"], settings)
        assert caught.value.code == "too-short"
    with pytest.raises(ClipError, match="1 frames; 2 are needed"):
        transcode(files["one-frame"], quick(min_frames=2))


# --- size and shape --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "fit", "size", "want"),
    [
        ((340, 256), "crop", 64, (64, 64)),
        ((340, 256), "short-side", 256, (340, 256)),
        ((256, 340), "short-side", 256, (256, 340)),
        ((320, 240), "short-side", 256, (342, 256)),
        ((426, 240), "short-side", 240, (426, 240)),
        ((1920, 1080), "short-side", 256, (456, 256)),
        ((97, 75), "short-side", 64, (82, 64)),
        ((10, 10), "short-side", 256, (256, 256)),
        ((128, 10), "short-side", 16, (204, 16)),
        ((3, 200), "crop", 16, (16, 16)),
    ],
)
def test_stored_size(source: tuple[int, int], fit: Any, size: int, want: tuple[int, int]) -> None:
    assert stored_size(*source, EncodeSettings(size=size, fit=fit)) == want


def test_a_size_that_h264_has_not_is_an_error_not_a_crash() -> None:
    with pytest.raises(ClipError, match=r"102400x256 is more than H\.264 allows") as caught:
        stored_size(4000, 10, EncodeSettings(size=256, fit="short-side"))
    assert caught.value.code == "encode-error"


@pytest.mark.parametrize("fit", ["crop", "short-side"])
@pytest.mark.parametrize("size", [(96, 128), (97, 75), (33, 161), (64, 64), (20, 16), (340, 256)])
def test_pictures_against_pil(size: tuple[int, int], fit: Any, tmp_path: Path) -> None:
    width, height = size
    indexed_clip(tmp_path / "x.mkv", 6, width, height, codec="ffv1", container="matroska", pix_fmt="bgr0")
    data = (tmp_path / "x.mkv").read_bytes()
    settings = quick(size=48, fit=fit, crf=1)
    clip = transcode(data, settings)
    got = ref_media.all_frames(clip.data)
    assert got[0].shape == (clip.height, clip.width, 3)
    assert (clip.source_width, clip.source_height) == size
    for source, frame in zip(ref_media.all_frames(data), got, strict=True):
        want = ref_transcode.fit(source, crop=fit == "crop", stored=(clip.width, clip.height))
        assert psnr(luma(want), luma(frame)) > 34


@pytest.mark.parametrize("fit", ["crop", "short-side"])
@pytest.mark.parametrize("name", [name for name in GOOD if name != "size-change"])
def test_pictures_of_odd_files_against_pil(name: str, fit: Any, files: dict[str, bytes]) -> None:
    clip = transcode(files[name], quick(crf=1, max_frames=4, fit=fit))
    sources = ref_media.all_frames(files[name])
    for frame in ref_media.all_frames(clip.data):
        source = sources[read_index(frame) - CASES[name].first]
        even = name == "odd-size-vp9"
        want = ref_transcode.fit(source, crop=fit == "crop", stored=(clip.width, clip.height), even=even)
        assert psnr(luma(want), luma(frame)) > 40


def test_rotation_turns_the_size_too(files: dict[str, bytes]) -> None:
    for name in ("rotated-90", "rotated-270", "rotated-180", "mkv"):
        clip = transcode(files[name], quick(fit="short-side", size=48))
        assert (clip.width, clip.height) == (64, 48)
        assert (clip.source_width, clip.source_height) == (WIDTH, HEIGHT)


def test_pixels_that_are_not_square_are_kept_and_tagged(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(os.fspath(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for k in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(indexed_frame(k, 96, 72), format="rgb24")))
        output.mux(stream.encode(None))
    for settings, size in ((quick(), (64, 64)), (quick(fit="short-side", size=72), (96, 72))):
        clip = transcode(path.read_bytes(), settings)
        assert (clip.width, clip.height) == size
        assert shown(clip) == list(range(5))
        with av.open(io.BytesIO(clip.data)) as container:
            aspect = container.streams.video[0].sample_aspect_ratio
            assert aspect is not None
            assert (aspect.numerator, aspect.denominator) == (4, 3)


def test_a_size_that_changes_on_the_way(files: dict[str, bytes]) -> None:
    clip = transcode(files["size-change"], quick(fit="short-side", size=96))
    assert (clip.width, clip.height) == (WIDTH, HEIGHT)
    assert shown(clip) == list(range(FRAMES))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6])  # BT.709, BT.601 for PAL and NTSC
def test_colours_mean_the_same_in_the_copy(matrix: int, full: bool, tmp_path: Path) -> None:
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (250, 250, 250), (5, 5, 5), (128, 128, 128)])
    picture = np.repeat(np.repeat(colours.reshape(2, 3, 3), 32, axis=0), 32, axis=1).astype(np.uint8)
    path = tmp_path / "x.mkv"
    with av.open(os.fspath(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        for _ in range(4):
            frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=2 if full else 1)
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    clip = transcode(path.read_bytes(), quick(fit="short-side", size=64, crf=1))
    with av.open(io.BytesIO(clip.data)) as container:
        stored = next(container.decode(video=0))
    assert (stored.color_range, stored.colorspace) == (1, 5), "BT.601, limited range, and it says so"
    rgb = stored.to_ndarray(format="rgb24")
    for row in range(2):
        for column in range(3):
            middle = rgb[row * 32 + 16, column * 32 + 16].astype(int)
            assert np.abs(middle - colours.reshape(2, 3, 3)[row, column]).max() <= 6, (row, column, middle)


# --- what the stored file is -----------------------------------------------------------------------------------


def test_the_stored_file_is_plain_h264_in_mp4_without_sound(files: dict[str, bytes]) -> None:
    clip = transcode(files["with-audio"], quick(gop=10, tune="fastdecode"))
    with av.open(io.BytesIO(clip.data)) as container:
        assert "mp4" in container.format.name
        assert [stream.type for stream in container.streams] == ["video"]
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.color_range == 1
    assert clip.data[4:8] == b"ftyp"


@pytest.mark.parametrize("gop", [1, 2, 7, 12, 30, 1000])
def test_keyframes_are_never_further_apart_than_asked(gop: int, files: dict[str, bytes]) -> None:
    clip = transcode(files["mkv"], quick(gop=gop, preset="medium"))
    keys = [i for i, packet in enumerate(packets(clip.data)) if packet.is_keyframe]
    assert keys[0] == 0
    assert all(b - a <= gop for a, b in zip(keys, [*keys[1:], FRAMES], strict=True))
    with ClipReader(clip.data, strict=True) as reader:
        assert [position for position, _ in reader.index.starts] == keys, "each is a place to start from"


def test_quality_and_speed_are_passed_on(files: dict[str, bytes]) -> None:
    sizes = [len(transcode(files["mkv"], quick(crf=crf, preset="veryfast")).data) for crf in (10, 23, 40)]
    assert sizes[0] > 1.3 * sizes[1] > 1.3**2 * sizes[2]
    data = transcode(files["mkv"], quick(preset="slow", tune="film")).data
    assert b"x264 - core" in data
    assert b"subme=8" in data


# --- the same bytes every time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with-audio", "odd-size", "variable-rate", "vp9", "rotated-90", "alpha-qtrle", "size-change"]
)
def test_the_same_bytes_in_any_order_and_process(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    settings = quick(size=50, fit="short-side", max_frames=20, preset="medium")
    first = transcode(files[name], settings)
    transcode(files["mkv"], quick())  # leaves nothing behind
    assert transcode(files[name], settings) == first
    (tmp_path / "x").write_bytes(files[name])
    with (tmp_path / "x").open("rb") as file:
        assert transcode(file, settings) == first
    with ClipWorker(60.0) as worker:
        outcome = worker.run(ClipJob(root=os.fspath(tmp_path), path="x", settings=settings))
    assert outcome.clip == first


def test_no_time_stamp_and_no_name_in_the_file(files: dict[str, bytes]) -> None:
    data = transcode(files["mkv"], quick()).data
    at = data.index(b"mvhd") + 8
    assert data[at : at + 8] == bytes(8), "neither creation nor modification time"
    assert b"Lavf" not in data


def test_fingerprint_names_what_decides_the_bytes() -> None:
    found = encoder_fingerprint()
    assert set(found) == {"pyav", "x264", "libavcodec", "libavfilter", "libavformat", "libavutil", "libswscale"}
    assert found["x264"].split()[0].isdigit()
    assert found["pyav"] == av.__version__
    assert encoder_fingerprint() == found


def test_repr_shows_no_data(files: dict[str, bytes]) -> None:
    clip = transcode(files["mkv"], quick())
    assert repr(clip) == f"StoredClip(48 frames, 64x64, 25.000 fps, {len(clip.data)} B)"


# --- files that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_their_code(name: str, strict: bool, files: dict[str, bytes]) -> None:
    with pytest.raises(ClipError) as caught:
        transcode(files[name], quick(), strict=strict)
    assert caught.value.code == CASES[name].error


@pytest.mark.parametrize("name", ["flipped-bits", "zeroed-block"])
def test_damage_is_an_error_or_a_warning_and_never_a_shorter_clip(name: str, files: dict[str, bytes]) -> None:
    with pytest.raises(ClipError) as caught:
        transcode(files[name], quick(), strict=True)
    assert caught.value.code == "decode-error"
    clip, code = tried(files[name])
    with pytest.raises(ClipError, match="did not come out"), ClipReader(files[name]) as reader:
        reader.frames(range(len(reader)))
    assert (clip, code) == (None, "decode-error"), "the frames that are lost must not be others, given twice"


def tried(data: bytes) -> tuple[StoredClip | None, str | None]:
    """A tolerant transcode: (the clip, None) or (None, error code)."""
    try:
        return transcode(data, quick()), None
    except ClipError as error:
        return None, error.code


def test_a_little_damage_is_concealed_and_counted(tmp_path: Path) -> None:
    """One flipped bit late in the clip: every frame comes out, and the ledger will say that it was hurt."""
    indexed_clip(tmp_path / "x.mp4", options={"x264-params": "slices=4:keyint=48:cpu-independent=1"})
    clean = (tmp_path / "x.mp4").read_bytes()
    at = clean.index(b"mdat")
    concealed = []
    for place in range(at + 6000, at + 9000, 97):
        data = bytearray(clean)
        data[place] ^= 0x10
        clip, code = tried(bytes(data))
        assert code in (None, "decode-error")
        if clip is not None:
            assert clip.frames == FRAMES
            concealed.append((bytes(data), clip))
    hurt = [data for data, clip in concealed if clip.warnings]
    assert hurt, "some of these flips are noticed by the decoder"
    for data in hurt:
        with pytest.raises(ClipError) as caught:
            transcode(data, quick(), strict=True)
        assert caught.value.code == "decode-error"

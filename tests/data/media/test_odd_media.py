"""Files with odd times, headers and streams keep every frame, or say what they could not keep."""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests import badmedia, oddmedia
from tests.badmedia import CASES, FPS, FRAMES, indexed_clip, read_index
from tests.data import builds
from tests.indexclips import X264_EXACT, indexed_frame
from tests.oddmedia import Odd
from tests.oddrecordings import ODD_RECORDINGS
from tests.reference import ref_counts, ref_media
from vidkit.data.manifests import load_spec
from vidkit.data.media import frames as media
from vidkit.data.media import transcode_ffmpeg
from vidkit.data.media.frames import ClipReader
from vidkit.data.media.transcode import StoredClip, transcode
from vidkit.errors import ClipError, ConfigError
from vidkit.settings.encode import EncodeSettings

ODD = {**oddmedia.ODD, **ODD_RECORDINGS}
TRANSCODERS = (transcode, transcode_ffmpeg.transcode)
CHOICES = [name for name, odd in ODD.items() if odd.warning and not odd.refused]


def quick(**more: Any) -> EncodeSettings:
    return EncodeSettings(**{"size": 64, "max_frames": None, "preset": "ultrafast", "crf": 18, **more})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every odd file, every good one and those with damage."""
    folder = tmp_path_factory.mktemp("odd")
    found = {}
    for name, case in {**CASES, **ODD}.items():
        if isinstance(case, Odd) or case.error is None or case.concealed or name.startswith("truncated"):
            found[name] = folder / f"{name}{case.suffix}"
            case.write(found[name])
    return found


def notes(clip: StoredClip) -> list[str]:
    """Warnings other than the decoder's own complaints, which a file that begins within a group gives as well."""
    return [said for said in clip.warnings if not said.startswith("decoder reported")]


def shown(clip: StoredClip) -> list[int]:
    return [read_index(frame) for frame in ref_media.all_frames(clip.data)]


# --- one by one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_every_frame_is_kept_in_order_and_in_time(name: str, files: dict[str, Path]) -> None:
    odd, data = ODD[name], files[name].read_bytes()
    clip = transcode(data, quick())
    assert shown(clip) == odd.shows
    assert (clip.frames, clip.source_frames) == (odd.frames, odd.frames)
    assert clip.duration_s == pytest.approx(odd.duration_s, abs=0.003)
    assert [odd.warning in said for said in notes(clip)] == [True] * bool(odd.warning)
    assert notes(clip) == list(clip.warnings) or name == "ts-from-the-middle"
    assert transcode(data, quick()) == clip
    if odd.warning and odd.refused:
        with pytest.raises(ClipError) as caught:
            transcode(data, quick(), strict=True)
        assert caught.value.code == "decode-error"
    else:
        assert transcode(data, quick(), strict=True) == clip


@pytest.mark.parametrize(
    "name", [name for name in ODD if "cut" in name or "joined" in name or name == "decoding-times"]
)
def test_times_that_were_made_are_even(name: str, files: dict[str, Path]) -> None:
    """What was lost is a constant rate, so that made times must be as well."""
    times = ref_media.times_s(transcode(files[name].read_bytes(), quick()).data)
    assert [float(t) for t in times] == pytest.approx([k / FPS for k in range(len(times))], abs=2e-3)


@pytest.mark.parametrize("name", ODD)
def test_readers_know_the_same_frames(name: str, files: dict[str, Path]) -> None:
    odd, rng = ODD[name], random.Random(name)
    with files[name].open("rb") as file, ClipReader(file) as reader, media.listening():
        assert len(reader) == odd.frames
        for indices in ([odd.frames - 1], [0], [rng.randrange(odd.frames) for _ in range(6)], range(odd.frames)):
            assert [read_index(frame) for frame in reader.frames(indices)] == [odd.shows[i] for i in indices]


@pytest.mark.parametrize("name", [name for name in ODD if name.startswith("avi-held-m") or name == "avi-held-h264"])
def test_an_empty_chunk_shows_the_picture_before_it(name: str, files: dict[str, Path]) -> None:
    clip = transcode(files[name].read_bytes(), quick(fps=float(FPS)))
    held = oddmedia.HELD
    assert shown(clip) == [sum(h <= chunk for h in held) - 1 for chunk in range(held[-1] + 1)]


@pytest.mark.parametrize("name", ODD)
def test_the_ffmpeg_transcoder_finds_the_same(name: str, files: dict[str, Path]) -> None:
    if transcode_ffmpeg.find_ffmpeg() is None:
        pytest.skip("no ffmpeg program")
    odd, data = ODD[name], files[name].read_bytes()
    if not odd.warning or odd.suffix == ".avi":
        ours, theirs = (transcoder(data, quick(max_frames=9)) for transcoder in TRANSCODERS)
        assert shown(ours) == shown(theirs)
        assert notes(theirs) == notes(ours)
    if odd.warning or odd.suffix == ".avi":  # frames that are known by their number
        ours, theirs = (transcoder(data, quick()) for transcoder in TRANSCODERS)
        assert shown(theirs) == odd.shows
        assert notes(theirs) == notes(ours)
        assert ref_media.times_s(theirs.data) == pytest.approx(ref_media.times_s(ours.data), abs=1e-4)
        assert lasts_s(ours) == lasts_s(theirs) == pytest.approx(odd.duration_s, abs=0.003)


def lasts_s(clip: StoredClip) -> float:
    """What the stored file says of itself, and not what the ledger says."""
    with av.open(io.BytesIO(clip.data)) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        return float(stream.duration * stream.time_base)


# --- all of them: nothing is left out without a word ------------------------------------------------------


def counters() -> dict[str, Callable[[Path, int], int]]:
    found: dict[str, Callable[[Path, int], int]] = {
        "PyAV": lambda path, stream: ref_counts.count_frames(path.read_bytes(), stream)
    }
    if program := transcode_ffmpeg.find_ffmpeg():
        found["ffmpeg"] = lambda path, stream: ref_counts.count_with_program(program[0], path, stream)
    return found


@pytest.mark.parametrize("counter", counters())
def test_no_frame_is_left_out_without_a_code_or_a_warning(counter: str, files: dict[str, Path]) -> None:
    silent = {}
    for name, path in files.items():
        data = path.read_bytes()
        with contextlib.suppress(ClipError):
            clip = transcode(data, quick(size=32, crf=40))
            with media.open_video(data) as opened:
                stream = opened.video.index
            count = counters()[counter](path, stream)
            chosen_only = name in CHOICES
            if clip.source_frames != count and (not clip.warnings or chosen_only):
                silent[name] = (clip.source_frames, count)
    assert not silent, "(frames stored, frames that a plain decode gives)"


# --- cut off -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.4, 0.8])
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ODD
        if name.startswith(("avi", "subtitles", "chapters", "default-second", "asf", "gif"))
        or name.endswith("-clock-runs-back")
    ],
)
def test_what_was_cut_off_is_still_found(name: str, part: float, files: dict[str, Path]) -> None:
    data = files[name].read_bytes()
    data = data[: int(len(data) * part)]
    for strict in (False, True):
        with pytest.raises(ClipError) as caught:
            transcode(data, quick(), strict=strict)
        assert caught.value.code == "truncated"


def test_a_file_that_is_opened_anew_is_asked_anew(files: dict[str, Path], tmp_path: Path) -> None:
    """Found by fuzzing: the pixels' aspect was read from a stream that was closed."""
    path = tmp_path / "x.mp4"
    indexed_clip(path, container="h264", width=64, height=48, options={"x264-params": f"sar=4/3:{X264_EXACT}"})
    for _ in range(20):
        clip = transcode(path.read_bytes(), quick(max_frames=2))
        with media.open_video(clip.data) as opened:
            assert media.as_fraction(opened.video.sample_aspect_ratio) == Fraction(4, 3)


@pytest.mark.parametrize("size", [1 << 62, (1 << 64) - 1])
def test_a_box_larger_than_any_file(size: int, files: dict[str, Path]) -> None:
    """Found by fuzzing: a place that no file has cannot be looked at."""
    data = files["fragmented"].read_bytes()
    damaged = data[:36] + b"\0\0\0\1free" + size.to_bytes(8, "big") + data[36:]
    with pytest.raises(ClipError) as caught:
        transcode(damaged, quick())
    assert caught.value.code == "truncated"


def test_what_is_said_of_a_file_does_not_depend_on_the_one_before(files: dict[str, Path]) -> None:
    """FFmpeg's log keeps count of what it repeats, and would tell it with the next message."""
    data = files["mpeg-ts"].read_bytes()
    data = data[: int(len(data) * 0.9)]
    first = transcode(data, quick())
    assert first.warnings
    with contextlib.suppress(ClipError):
        transcode(files["flipped-bits"].read_bytes(), quick())
    assert transcode(data, quick()) == first == transcode(data, quick())


def test_an_avi_that_holds_less_than_it_promises_though_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    indexed_clip(path, container="avi", codec="mjpeg", pix_fmt="yuvj420p")

    def promise(data: bytearray) -> None:
        at = data.index(b"strh") + 8 + 32
        assert int.from_bytes(data[at : at + 4], "little") == FRAMES
        data[at : at + 4] = (FRAMES + 30).to_bytes(4, "little")

    badmedia._patch(path, promise)
    clip = transcode(path.read_bytes(), quick())
    assert (clip.frames, clip.duration_s) == (FRAMES, FRAMES / FPS)
    assert clip.warnings == (f"the header promises {FRAMES + 30} frames; the file is whole and has {FRAMES}",)


@pytest.mark.skipif("ogg-vp8" not in ODD, reason="no encoder for VP8")
def test_an_ogg_file_that_was_cut(files: dict[str, Path]) -> None:
    """Between two pages nothing tells that, but that the end is not marked."""
    data = files["ogg-vp8"].read_bytes()
    last = data.index(b"OggS\0\4")  # of the video: its sound goes on
    for length in (len(data) * 3 // 10, last + 200):
        with pytest.raises(ClipError, match="the file ends within a page") as caught:
            transcode(data[:length], quick())
        assert caught.value.code == "truncated"
    clip = transcode(data[: data.rindex(b"OggS", 0, data.index(b"OVP80") + len(data) // 2)], quick())
    assert 0 < clip.frames < FRAMES
    assert clip.warnings == ("the video's last page is not marked as its end: the file may have been cut",)


def test_more_filters_than_a_command_line_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.avi"
    oddmedia.avi_with_empty_chunks(path, codec="mpeg4")
    monkeypatch.setattr(transcode_ffmpeg, "_LONGEST_ARGUMENT", 100)
    for transcoder in TRANSCODERS:
        assert shown(transcoder(path.read_bytes(), quick())) == list(range(FRAMES))


@pytest.mark.parametrize(
    ("name", "times", "read"),
    [("chapters-outlast-mp4", 2, 1), ("asf", 2, 1), ("chapters-outlast-mkv", 3, 2), ("avi-h264-b", 3, 3)],
)
def test_files_put_one_behind_the_other(name: str, times: int, read: int, files: dict[str, Path]) -> None:
    """FFmpeg, and so every player that builds on it, reads one or two of them, and says nothing of the others."""
    data = files[name].read_bytes()
    clip = transcode(data * times, quick())
    assert shown(clip) == list(range(FRAMES)) * read
    rest = [said for said in clip.warnings if "bytes follow the stream's end" in said]
    assert len(rest) == (read < times)
    assert all(said.startswith(f"{len(data):,} ") or read > 1 for said in rest)


@pytest.mark.parametrize("times", [1, 2])
def test_theora(times: int, tmp_path: Path) -> None:
    """PyAV decodes it and cannot encode it."""
    program = transcode_ffmpeg.find_ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg program")
    options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "25", "-i", "-"]
    options += ["-c:v", "libtheora", "-q:v", "9", "x.ogv"]
    pictures = b"".join(indexed_frame(k, 64, 48).tobytes() for k in range(FRAMES))
    made = subprocess.run([program[0], "-v", "quiet", *options], input=pictures, cwd=tmp_path, check=False)
    if made.returncode:
        pytest.skip("an ffmpeg program without libtheora")
    data = (tmp_path / "x.ogv").read_bytes() * times
    for transcoder in TRANSCODERS:
        clip = transcoder(data, quick())
        assert shown(clip) == list(range(FRAMES)) * times
        assert lasts_s(clip) == pytest.approx(times * FRAMES / FPS, abs=0.003)
        assert bool(notes(clip)) == (times > 1)


# --- which stream --------------------------------------------------------------------------------------------


def test_map_takes_another_stream(files: dict[str, Path]) -> None:
    data = files["default-second"].read_bytes()
    for transcoder in (transcode, transcode_ffmpeg.transcode):
        if transcoder is transcode or transcode_ffmpeg.find_ffmpeg():
            clip = transcoder(data, quick(map=0))
            assert (shown(clip), clip.warnings) == (list(range(1000, 1020)), ())
    assert shown(transcode(data, quick(map=1))) == list(range(FRAMES))
    with pytest.raises(ClipError, match="map asks for video stream 2; there is 2 video streams") as caught:
        transcode(data, quick(map=2))
    assert caught.value.code == "no-video-stream"
    for name in ("with-cover", "still-mkv", "still-avi"):
        for transcoder in TRANSCODERS:
            clip = transcoder(files[name].read_bytes(), quick(map=0))
            assert shown(clip) == list(range(FRAMES)), "covers and posters do not count"


def test_map_in_a_spec(files: dict[str, Path], tmp_path: Path) -> None:
    """It is a setting like others; a spec without it has the settings that it had."""
    (tmp_path / "clips" / "a").mkdir(parents=True)
    (tmp_path / "clips" / "a" / "x.mp4").write_bytes(files["default-second"].read_bytes())
    lines = ["name = 'mapped'", "title = 'Mapped'", "[encode]", "size = 32", "max_frames = 'none'"]
    lines += ["[[sources]]", "name = 'mine'", "kind = 'folders'"]
    settings, frames = {}, {}
    for which in (None, 0):
        path = tmp_path / f"{which}.toml"
        path.write_text("\n".join([*lines[:4], *([] if which is None else [f"map = {which}"]), *lines[4:]]))
        prepared = builds.plan(load_spec(path), tmp_path / "clips")
        settings[which] = prepared.settings
        builds.run(prepared, tmp_path / f"out-{which}")
        (row,) = builds.ledger(tmp_path / f"out-{which}")
        frames[which] = (row["frames"], len(row["warnings"]))
    assert frames == {None: (FRAMES, 1), 0: (20, 0)}
    assert settings[0] == {**settings[None], "encode.map": 0}
    assert "encode.map" not in settings[None]
    with pytest.raises(ConfigError, match="map is -1; expected the number of a video stream"):
        quick(map=-1)


# --- files that were handed to us ----------------------------------------------------------------------------

#: name -> (frames, seconds, what the warning says)
HANDED = {
    "cut-in-a-group.mkv": (75, 3.0, "13 of 75 frames"),
    "raw-h264.mp4": (75, 3.0, "times were made"),
    "ts-clock-wraps.ts": (75, 3.0, ""),
    "equal-times.mp4": (74, 2.96, "times were made"),
    "subtitles-outlast.mkv": (125, 5.0, ""),
    "empty-chunks.avi": (80, 4.0, ""),
    "two-streams.mp4": (100, 4.0, "640x360, the default"),
}


@pytest.mark.real_media
@pytest.mark.parametrize("name", HANDED)
def test_files_that_were_handed_to_us(name: str, odd_cases: Path) -> None:
    path, (frames, seconds, warning) = odd_cases / name, HANDED[name]
    clip = transcode(path.read_bytes(), quick())
    assert (clip.frames, clip.source_frames) == (frames, frames)
    assert clip.duration_s == lasts_s(clip) == pytest.approx(seconds, abs=1e-6)
    if transcode_ffmpeg.find_ffmpeg():
        theirs = transcode_ffmpeg.transcode(path.read_bytes(), quick())
        assert (theirs.frames, lasts_s(theirs)) == (frames, pytest.approx(seconds, abs=1e-6))
    assert [warning in said for said in clip.warnings] == [True] * bool(warning)
    with media.open_video(path.read_bytes()) as opened:
        assert ref_counts.count_frames(path.read_bytes(), opened.video.index) == frames
    with ClipReader(path.read_bytes()) as reader:
        assert len(reader.frames(range(len(reader)))) == frames

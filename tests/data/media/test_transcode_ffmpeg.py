"""The ffmpeg program gives the frames that the in-process transcoder gives, at the same times."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.badmedia import CASES, FRAMES, indexed_clip, read_index
from vidkit.data.media import expressions, transcode, transcode_ffmpeg
from vidkit.data.media import frames as media
from vidkit.errors import ClipError, ConfigError
from vidkit.settings.encode import EncodeSettings, Fit

pytest.importorskip("ffmpeg", reason="ffmpeg-python is not installed")
if transcode_ffmpeg.find_ffmpeg() is None:
    pytest.skip("no ffmpeg on PATH and no imageio-ffmpeg", allow_module_level=True)


def programs() -> dict[str, str]:
    """Releases differ: a machine that has both tests both."""
    found = {"PATH": shutil.which("ffmpeg")}
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        found["imageio-ffmpeg"] = imageio_ffmpeg.get_ffmpeg_exe()
    return {name: path for name, path in found.items() if path}


PROGRAMS = programs()
SMALL = EncodeSettings(size=64, max_frames=None, preset="veryfast", crf=18)
GOOD = [name for name, case in CASES.items() if case.error is None]
BAD = [name for name, case in CASES.items() if case.error and case.suffix != "" and not case.concealed]


def write(name: str, folder: Path) -> bytes:
    path = folder / f"x{CASES[name].suffix}"
    CASES[name].write(path)
    return path.read_bytes()


def frames(clip: transcode.StoredClip) -> np.ndarray:
    return media.decode_frames(clip.data, range(clip.frames))


def times_s(clip: transcode.StoredClip) -> list[float]:
    with media.open_video(clip.data) as opened:
        index = media.build_index(opened)
        return [float((p - index.pts[0]) * index.time_base) for p in index.pts]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def same(
    data: bytes, settings: EncodeSettings, *, least_db: float = 34, timed: bool = True, **cut: float
) -> transcode.StoredClip:
    """Transcode both ways and compare everything but the bytes."""
    theirs = transcode_ffmpeg.transcode(data, settings, **cut)
    ours = transcode.transcode(data, settings, **cut)
    facts = ("frames", "fps", "duration_s", "width", "height", "start_s", "end_s")
    facts += ("source_frames", "source_width", "source_height")
    assert {f: getattr(theirs, f) for f in facts} == {f: getattr(ours, f) for f in facts}
    theirs_TNH, ours_TNH = frames(theirs), frames(ours)
    assert theirs_TNH.shape == ours_TNH.shape == (ours.frames, ours.height, ours.width, 3)
    for a, b in zip(theirs_TNH, ours_TNH, strict=True):
        assert read_index(a) == read_index(b)
    assert psnr(theirs_TNH, ours_TNH) > least_db
    if timed:
        assert times_s(theirs) == pytest.approx(times_s(ours), abs=1e-4)
    return theirs


@pytest.mark.parametrize("name", GOOD)
def test_every_odd_file_gives_the_same_frames(name: str, tmp_path: Path) -> None:
    # where two recordings were joined without times, each library guesses them in its own way
    clip = same(write(name, tmp_path), SMALL, timed=name != "size-change")
    assert clip.frames == CASES[name].frames
    assert read_index(frames(clip)[0]) == CASES[name].first
    assert [CASES[name].warning in said for said in clip.warnings] == [True] * bool(CASES[name].warning)


@pytest.mark.parametrize("name", ["mkv", "variable-rate", "avi-mpeg4", "rotated-90", "edit-list", "open-gop"])
@pytest.mark.parametrize(
    "settings",
    [
        EncodeSettings(size=64, max_frames=16),
        EncodeSettings(size=64, max_frames=24),  # every second frame: due times fall on frame times
        EncodeSettings(size=64, max_frames=None, fps=60.0),
        EncodeSettings(size=64, max_frames=None, fps=7.5),
        EncodeSettings(size=72, fit="short-side", max_frames=5, tune="fastdecode", gop=12),
    ],
    ids=["16", "24", "up", "down", "short-side"],
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_chosen_frames_are_the_same(
    program: str, name: str, settings: EncodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcode_ffmpeg, "find_ffmpeg", lambda: (PROGRAMS[program], program))
    # ffmpeg turns before it scales, so that chroma lies half a pixel off
    same(write(name, tmp_path), settings, least_db=33 if "rotated" in name else 34)


def test_cut_of_an_untrimmed_original(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    indexed_clip(path, 250, options={"g": "25"})
    clip = same(path.read_bytes(), SMALL, start_s=6.0, end_s=8.0)
    assert (clip.frames, read_index(frames(clip)[0])) == (50, 150)
    clip = same(path.read_bytes(), EncodeSettings(size=64, max_frames=10), start_s=4.0, end_s=7.0)
    assert [read_index(f) for f in frames(clip)] == [103, 111, 118, 126, 133, 141, 148, 156, 163, 171]


@pytest.mark.parametrize("fit", ["crop", "short-side"])
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_stay_as_they_are(fit: Fit, turned: bool, tmp_path: Path) -> None:
    if turned:
        CASES["rotated-90"].write(tmp_path / "x.mp4")
    else:
        indexed_clip(tmp_path / "x.mp4")
    wide = io.BytesIO()
    with av.open(os.fspath(tmp_path / "x.mp4")) as given, av.open(wide, "w", format="mp4") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    clip = same(wide.getvalue(), EncodeSettings(size=64, fit=fit, crf=18), least_db=33)
    aspects = []
    for data in (clip.data, transcode.transcode(wide.getvalue(), EncodeSettings(size=64, fit=fit)).data):
        with media.open_video(data) as opened:
            aspects.append(opened.video.sample_aspect_ratio)
    assert aspects == [Fraction(3, 4) if turned else Fraction(4, 3)] * 2


def test_same_input_same_bytes_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    data = write("with-audio", tmp_path)
    first = transcode_ffmpeg.transcode(data, SMALL)
    with io.BytesIO(data) as file:
        assert transcode_ffmpeg.transcode(file, SMALL).data == first.data
    assert b"ffmpeg" not in first.data[:64]
    assert b"Lavf" not in first.data


@pytest.mark.parametrize("name", [n for n in BAD if n not in ("directory", "fifo", "no-permission")])
def test_broken_files_give_the_same_code(name: str, tmp_path: Path) -> None:
    data = write(name, tmp_path)
    with pytest.raises(ClipError) as ours:
        transcode.transcode(data, SMALL)
    with pytest.raises(ClipError) as theirs:
        transcode_ffmpeg.transcode(data, SMALL)
    assert theirs.value.code == ours.value.code


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.concealed])
def test_concealed_damage_is_a_warning_and_under_strict_an_error(name: str, tmp_path: Path) -> None:
    data = write(name, tmp_path)
    try:
        became = transcode_ffmpeg.transcode(data, SMALL).warnings[0]
    except ClipError as error:
        became = str(error)
    assert became.startswith(("decoder reported ", "decode-error: "))
    with pytest.raises(ClipError) as caught:
        transcode_ffmpeg.transcode(data, SMALL, strict=True)
    assert caught.value.code == "decode-error"
    assert "0x" not in caught.value.message
    assert "/tmp" not in caught.value.message


def test_strict_is_silent_on_a_good_file(tmp_path: Path) -> None:
    assert transcode_ffmpeg.transcode(write("mkv", tmp_path), SMALL, strict=True).frames == FRAMES


def test_too_short(tmp_path: Path) -> None:
    data = write("one-frame", tmp_path)
    with pytest.raises(ClipError, match="1 frames; 4 are needed"):
        transcode_ffmpeg.transcode(data, EncodeSettings(min_frames=4))


def test_a_frame_that_is_lost_is_no_shorter_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where its neighbour would be repeated in its place."""
    real, calls = expressions.one_of, []

    def lose_one(name: str, values: list[int]) -> str:
        calls.append(values)
        return real(name, values if len(calls) > 1 else [*values[:-2], values[-1]])

    monkeypatch.setattr(transcode_ffmpeg, "one_of", lose_one)
    with pytest.raises(ClipError, match="15 of 16 planned frames came out"):
        transcode_ffmpeg.transcode(write("mkv", tmp_path), EncodeSettings(max_frames=16))
    calls.clear()
    with pytest.raises(ClipError, match=r"3\d of 3\d planned frames came out"):
        transcode_ffmpeg.transcode(write("variable-rate", tmp_path), EncodeSettings(max_frames=44))


def test_last_words_of_a_program_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho '[h264 @ 0x5581c0ffee00] no frame!' >&2\nexit 69\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ClipError, match=r"^decode-error: ffmpeg ended with status 69: \[h264\] no frame!$"):
        transcode_ffmpeg.transcode(write("mkv", tmp_path), SMALL)


def test_no_program_is_a_config_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcode_ffmpeg, "find_ffmpeg", lambda: None)
    with pytest.raises(ConfigError, match=r'pip install "vidkit\[ffmpeg\]"'):
        transcode_ffmpeg.transcode(b"x", SMALL)


def test_a_path_never_reaches_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda c, **how: commands.append(c) or real(c, **how))
    path = tmp_path / "-f lavfi $(touch x).mp4"
    indexed_clip(path)
    with path.open("rb") as file:
        transcode_ffmpeg.transcode(file, SMALL)
    assert not any("lavfi" in part for command in commands for part in command)
    assert list(tmp_path.iterdir()) == [path]


def test_fingerprint_names_the_program_and_its_encoder() -> None:
    found = transcode_ffmpeg.fingerprint()
    assert set(found) == {"ffmpeg", "x264"}
    assert found["x264"][0].isdigit()

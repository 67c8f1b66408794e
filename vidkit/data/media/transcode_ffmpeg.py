"""The same stored clip as `transcode`, made by the ffmpeg program instead of in process.

For formats, filters and encoders that PyAV's libraries lack, and as an independent check of the
in-process path: only the choice of frames is shared. Slower on small clips, because each one costs
the start of a program.
"""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from vidkit.data.media import frames as media
from vidkit.data.media.expressions import one_of, times_by_number
from vidkit.data.media.transcode import StoredClip, Timing, choose_frames, cut_to_apply, stored_size
from vidkit.errors import ClipError, ConfigError, clean_message
from vidkit.settings.encode import EncodeSettings

_INSTALL = 'put an ffmpeg with libx264 on PATH, or run: pip install "vidkit[ffmpeg]"'

#: An opened file must not open others.
_SAFE = {"format_whitelist": media.FORMATS, "protocol_whitelist": "file"}

#: One argument of a command line must stay under 128 KiB on Linux.
_LONGEST_ARGUMENT = 120_000


def find_ffmpeg() -> tuple[str, str] | None:
    """(path, "PATH" or "imageio-ffmpeg") of the ffmpeg program, or None where there is none."""
    found = shutil.which("ffmpeg")
    if found:
        return found, "PATH"
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe(), "imageio-ffmpeg"
    except (ImportError, RuntimeError):  # not installed, or installed without a binary for this machine
        return None


def require_ffmpeg() -> str:
    """Path of the program that will be used. Call it before a build, so that it fails once and early.

    Raises:
        ConfigError: no ffmpeg, or ffmpeg-python is not installed.
    """
    try:
        import ffmpeg  # noqa: F401
    except ImportError:
        raise ConfigError("the ffmpeg transcoder needs ffmpeg-python", hint=_INSTALL) from None
    found = find_ffmpeg()
    if found is None:
        raise ConfigError("no ffmpeg program was found", hint=_INSTALL)
    return found[0]


@functools.lru_cache(maxsize=4)
def _option_names(exe: str) -> tuple[str, str]:
    """The options by which frames keep their times, and by which filters are read from a file.

    The first was named anew in ffmpeg 5.1, and its old name is gone from 8; the second one from 7 on.
    """
    known = subprocess.run([exe, "-hide_banner", "-h", "long"], capture_output=True, check=False).stdout
    script = "filter_complex_script"
    return (
        "fps_mode" if b"-fps_mode" in known else "vsync",
        f"-{script}" if script.encode() in known else "-/filter_complex",
    )


def fingerprint() -> dict[str, str]:
    """What besides settings and sources decides the bytes: versions of the program and of its x264.

    Raises:
        ConfigError: no ffmpeg, or one that cannot encode H.264.
    """
    exe = require_ffmpeg()
    version = subprocess.run([exe, "-version"], capture_output=True, check=False).stdout.split()
    tiny = ["-f", "lavfi", "-i", "color=size=16x16:rate=25", "-frames:v", "1", "-c:v", "libx264", "-f", "h264", "-"]
    made = subprocess.run([exe, "-nostdin", "-v", "error", *tiny], capture_output=True, check=False)
    start = made.stdout.find(b"x264 - core ")
    if start < 0 or len(version) < 3:
        raise ConfigError(f"{exe} cannot encode H.264: {clean_message(made.stderr.decode())}", hint=_INSTALL)
    x264 = made.stdout[start + 12 : start + 40].split(b" - ")[0]
    return {"ffmpeg": version[2].decode("utf-8", "replace"), "x264": x264.decode("ascii", "replace")}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What decides the command line."""

    index: media.FrameIndex
    span: range
    timing: Timing
    settings: EncodeSettings
    stream: int
    """Number of the video stream in the container."""
    source_size: tuple[int, int]
    """(width, height) of the first frame in pixels, upright."""
    aspect: Fraction
    """Of a pixel, upright; 0 where it is not known."""
    counted: bool
    """Frames are known by their number, because the container gives no times."""
    strict: bool
    sync: str

    @property
    def size(self) -> tuple[int, int]:
        return stored_size(*self.source_size, self.settings)

    @property
    def distinct(self) -> int:
        return len({i for i, _ in self.timing.shown})


def transcode(
    source: media.Source,
    settings: EncodeSettings,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    strict: bool = False,
) -> StoredClip:
    """Decode, choose frames, crop, scale and encode one clip; arguments and result as `transcode.transcode`.

    Raises:
        ClipError: with the code that belongs in the ledger.
        ConfigError: no ffmpeg was found.
    """
    exe = require_ffmpeg()
    with media.listening() as words, media.open_video(source, strict=strict, stream=settings.map) as opened:
        index = media.build_index(opened)
        heard = list(words.said)
        cut = cut_to_apply(index, start_s, end_s)
        span = media.frames_between(index, *cut)
        timing = choose_frames(index, span, settings)
        if len(timing.shown) < settings.min_frames:
            raise ClipError("too-short", f"{len(timing.shown)} frames; {settings.min_frames} are needed")
        _, first = next(media.decode(opened, index, [timing.shown[0][0]]))
        video = opened.video
        turned = round(first.rotation / 90) % 2 == 1
        plain, aspect = (first.width, first.height), media.as_fraction(video.sample_aspect_ratio)
        job = _Job(
            index=index,
            span=span,
            timing=timing,
            settings=settings,
            stream=video.index,
            source_size=(plain[1], plain[0]) if turned else plain,
            aspect=1 / aspect if turned and aspect else aspect,
            # AVI has no times. MPEG-TS has, even where a join lacks one; and numbers restart where the size changes
            counted=not index.by_time and (opened.format != "mpegts" or bool(index.warnings)),
            strict=strict,
            sync=_option_names(exe)[0],
        )
    data, said = _make(exe, source, job)
    said = said or heard  # releases differ in what they complain of
    if strict and said:
        raise ClipError("decode-error", f"{len(said)} errors reported: {said[0]}")
    made = _check(data, job)
    return StoredClip(
        data=_lasting(data, made, timing),
        frames=len(timing.shown),
        fps=float(timing.rate),
        duration_s=float(timing.duration * timing.time_base),
        width=job.size[0],
        height=job.size[1],
        start_s=cut[0],
        end_s=cut[1],
        source_frames=len(span),
        source_width=job.source_size[0],
        source_height=job.source_size[1],
        warnings=(
            *opened.warnings,
            *index.warnings,
            *media.long_gaps(index, span),
            *((f"decoder reported {len(said)} errors: {said[0]}",) if said else ()),
        ),
    )


def _make(exe: str, source: media.Source, job: _Job) -> tuple[bytes, list[str]]:
    """Run the program; returns the stored clip and the error lines of a run that ended well."""
    with tempfile.TemporaryDirectory(prefix="vidkit-") as folder:
        # names of our own: a user's file name could be read as an option, a pattern or a protocol
        _write_input(source, Path(folder, "in"))
        said = _run([exe, *_short(_arguments(job), folder, _option_names(exe)[1])], folder)
        # frames are known by their number: one that was lost would shift those after it
        if job.counted and said and not job.strict and _count(exe, job, folder) != len(job.index):
            text = f"which frames came out is not known, for the file has no times: {said[0]}"
            raise ClipError("decode-error", text)
        counted = Path(folder, "counted")
        if counted.exists():
            came = sum(not line.startswith("#") for line in counted.read_text().splitlines())
            if came != job.distinct:
                raise ClipError("decode-error", f"{came} of {job.distinct} planned frames came out")
        return Path(folder, "out.mp4").read_bytes(), said


def _count(exe: str, job: _Job, folder: str) -> int:
    """How many frames the program makes of the whole stream."""
    opened = [word for name, value in _SAFE.items() for word in (f"-{name}", value)]
    options = ["-nostdin", "-v", "quiet", "-threads", "1", *opened, "-i", "in", "-map", f"0:{job.stream}"]
    command = [exe, *options, f"-{job.sync}", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, check=False)
    return sum(not line.startswith(b"#") for line in done.stdout.splitlines())


def _write_input(source: media.Source, path: Path) -> None:
    if isinstance(source, (bytes, bytearray, memoryview)):
        path.write_bytes(source)
        return
    source.seek(0, io.SEEK_SET)
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _run(command: list[str], folder: str) -> list[str]:
    """Run ffmpeg; returns the error lines of a run that ended well, without addresses."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=folder, check=False)
    text = done.stderr.decode("utf-8", "replace")
    lines = [clean_message(line, 120) for line in text.splitlines() if line.strip()]
    if done.returncode:
        words = "; ".join(lines[-3:]) or "no message"
        code = "encode-error" if "Unknown encoder" in words else "decode-error"
        raise ClipError(code, f"ffmpeg ended with status {done.returncode}: {words}")
    return lines


def _check(data: bytes, job: _Job) -> media.FrameIndex:
    """The result's index: it holds the planned number of frames, each due when it was planned to be."""
    with media.listening(), media.open_video(data) as opened:
        made = media.build_index(opened)
    timing = job.timing
    if len(made) != len(timing.shown):
        raise ClipError("decode-error", f"{len(made)} of {len(timing.shown)} planned frames came out")
    if not job.index.by_time and not job.counted:  # the times of the source are a guess, and ffmpeg's another
        return made
    start_s = made.pts[0] * made.time_base
    for got, (i, time) in zip(made.pts, timing.shown, strict=True):
        off = got * made.time_base - start_s - time * timing.time_base
        if abs(off) > 2 * made.time_base:
            raise ClipError("encode-error", f"frame {i} of the source is off by {float(off):.4f} s in the result")
    return made


def _lasting(data: bytes, made: media.FrameIndex, timing: Timing) -> bytes:
    """The clip, its last picture on screen as long as planned: the program guesses that from the one before."""
    ends = made.pts[0] + round(timing.duration * timing.time_base / made.time_base)
    if made.pts[0] + made.duration == ends or ends <= made.pts[-1]:
        return data
    lasts = {time: after - time for time, after in pairwise([*made.pts, ends])}
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.time_base = source.streams.video[0].time_base
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream, packet.duration = stream, lasts[packet.pts]
                output.mux(packet)
    return file.getvalue()


def _arguments(job: _Job) -> list[str]:
    import ffmpeg

    # -copyts keeps the times that the index has, so that frames are chosen by them and not by counting
    options: dict[str, Any] = {"threads": 1, **_SAFE}
    if job.counted:  # a size that changes on the way would begin the filters anew, and their count of frames
        options["reinit_filter"] = 0
    if job.strict:
        options["err_detect"] = media.STRICT["err_detect"]
    seek_s = _seek_s(job.index, job.timing.shown[0][0])
    if seek_s is not None:
        options |= {"seek_timestamp": 1, "ss": f"{seek_s:.6f}"}
    frames = _fit(_pick(ffmpeg.input("in", **options)[str(job.stream)], job), job)
    timed = {"enc_time_base": _ratio(job.timing.time_base), job.sync: "passthrough"}
    outputs = []
    if job.distinct < len(job.timing.shown):
        # a lost frame would be made up for by repeating its neighbour: count those that come in
        ways = frames.filter_multi_output("split", 3)
        outputs.append(ffmpeg.output(ways[0], "counted", format="framecrc", vcodec="rawvideo", **timed))
        frames = _repeat(ways[1], ways[2], job)
    settings = job.settings
    encode = {
        "vcodec": "libx264",
        "crf": settings.crf,
        "preset": settings.preset,
        "g": settings.gop,
        "x264-params": "threads=1:cpu-independent=1",
        **({"tune": settings.tune} if settings.tune else {}),
        "threads": 1,
        "flags:v": "+bitexact",
        "fflags": "+bitexact",
        "frames:v": len(job.timing.shown),
        "map_metadata": -1,
        "map_chapters": -1,
        **timed,
    }
    outputs.append(ffmpeg.output(frames, "out.mp4", format="mp4", **encode))
    flags = ["-nostdin", "-hide_banner", "-copyts", "-filter_complex_threads", "1"]
    flags += ["-xerror"] if job.strict else []
    whole = ffmpeg.merge_outputs(*outputs).global_args("-loglevel", "error", *flags)
    arguments: list[str] = ffmpeg.compile(whole, cmd="ffmpeg", overwrite_output=True)[1:]
    if seek_s is not None:
        arguments.insert(arguments.index("-ss"), "-noaccurate_seek")
    return arguments


def _short(arguments: list[str], folder: str, from_file: str) -> list[str]:
    """The arguments, with filters that are too long for a command line in a file of their own."""
    at = arguments.index("-filter_complex")
    if len(arguments[at + 1]) <= _LONGEST_ARGUMENT:
        return arguments
    Path(folder, "filters").write_text(arguments[at + 1])
    return [*arguments[:at], from_file, "filters", *arguments[at + 2 :]]


def _repeat(frames: Any, copy: Any, job: _Job) -> Any:
    """Show a frame that is due several times as often.

    The filter that repeats frames needs one after the last, to know how long that is on screen; what it makes
    of the end of the stream differs between releases. So the first frame is put there, and never comes out.
    """
    import ffmpeg

    count, tick_s = len(job.timing.shown), _ratio(job.timing.time_base)
    after = copy.filter("trim", end_frame=1)
    frames = ffmpeg.concat(frames, after)
    frames = frames.filter("setpts", f"if(eq(N,{job.distinct}),round({count}*{tick_s}/TB),PTS)")
    return frames.filter("fps", fps=_ratio(job.timing.rate), round="near", start_time=0)


def _seek_s(index: media.FrameIndex, first: int) -> float | None:
    """Where to seek before frame `first`: the group before its own, since an open group needs it."""
    before = sorted(time for _, time in index.starts if time <= index.pts[first])
    return float(before[-2] * index.time_base) if index.by_time and len(before) > 2 else None


def _pick(stream: Any, job: _Job) -> Any:
    """Pass the chosen frames on, each with the first of the times at which it is due."""
    index, timing = job.index, job.timing
    stream = stream.filter("settb", _ratio(index.time_base))
    if job.counted:  # the program's times are a guess, and another one than ours
        stream = stream.filter("setpts", times_by_number(index.pts)).filter("scale", *job.source_size)
    chosen = sorted({i for i, _ in timing.shown})
    values = [index.pts[i] for i in chosen]
    run = len(chosen) == chosen[-1] - chosen[0] + 1
    wanted = f"between(pts,{values[0]},{values[-1]})" if run else one_of("pts", values)
    stream = stream.filter("select", wanted)
    if timing.time_base == index.time_base and timing.duration != len(timing.shown):
        return stream.filter("setpts", f"PTS-{values[0]}")
    # Frame k is the last one shown up to (k + 1/2) steps: its time in steps, less 1/2, rounded up. All in whole
    # numbers, so that a frame due exactly then is not missed; in ticks finer than a step, so that k survives.
    step = timing.time_base / index.time_base
    finer = max(1, -int(-4 // step))
    step *= finer
    stream = stream.filter("settb", _ratio(index.time_base / finer))
    twice, whole = 2 * step.denominator, step.numerator
    k = f"max(0,ceil(((PTS-{index.pts[job.span.start] * finer})*{twice}-{whole})/{2 * whole}))"
    stream = stream.filter("setpts", f"round({k}*{whole}/{step.denominator})")
    return stream.filter("settb", _ratio(timing.time_base))


def _fit(stream: Any, job: _Job) -> Any:
    """Crop and scale. ffmpeg itself turns frames upright; expressions follow a size that changes on the way."""
    if job.settings.fit == "crop":
        stream = stream.filter("crop", "min(iw,max(2,ih))", "min(ih,max(2,iw))")
    scaler = "bicubic+accurate_rnd+bitexact+full_chroma_int"
    stream = stream.filter("scale", *job.size, flags=scaler, out_range="tv")
    return stream.filter("format", "yuv420p").filter("setsar", _ratio(job.aspect))


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"

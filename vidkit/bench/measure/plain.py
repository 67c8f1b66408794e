"""The plain ways: what is written first where there is no vidkit. Ratios of speed are taken against them.

They are yardsticks: to change what they do is to change what every ratio means. Each works with one thread, as
vidkit does, so that processor times compare.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidkit.errors import ConfigError, clean_message
from vidkit.settings.encode import EncodeSettings

Pictures = npt.NDArray[np.uint8]
#: (file, frame numbers) -> (T, H, W, 3)
Reader = Callable[[Path, Sequence[int]], Pictures]


# --- transcoding ---------------------------------------------------------------------------------


def x264_options(settings: EncodeSettings) -> dict[str, str]:
    """Quality, speed and keyframes as `settings` has them."""
    options = {"crf": str(settings.crf), "preset": settings.preset, "g": str(settings.gop)}
    return options | ({"tune": settings.tune} if settings.tune else {})


def transcode_pyav(source: Path, target: Path, settings: EncodeSettings) -> None:
    """Decode every frame; of those that are kept, an array, its middle square, scale, encode."""
    with av.open(str(source)) as reading, av.open(str(target), "w", format="mp4") as writing:
        video = reading.streams.video[0]
        video.codec_context.thread_count = 1
        count = video.frames
        kept = min(count, settings.max_frames or count)
        wanted = {(2 * k + 1) * count // (2 * kept) for k in range(kept)}
        rate = Fraction(video.average_rate or 25) * kept / count
        stream: Any = writing.add_stream(
            "libx264", rate=rate.limit_denominator(1001), options=x264_options(settings)
        )
        stream.width = stream.height = settings.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(reading.decode(video)):
            if number not in wanted:
                continue
            square = np.ascontiguousarray(middle(frame.to_ndarray(format="rgb24")))
            picture = av.VideoFrame.from_ndarray(square, format="rgb24")
            picture = picture.reformat(width=settings.size, height=settings.size, format="yuv420p")
            writing.mux(stream.encode(picture))
        writing.mux(stream.encode(None))


def transcode_ffmpeg(
    program: str, source: Path, target: Path, settings: EncodeSettings, *, frames: int, seconds: float
) -> None:
    """One ffmpeg command; it is told beforehand how many frames the source has.

    Raises:
        ConfigError: the program failed.
    """
    side, filters = settings.size, ""
    if settings.max_frames is not None and frames > settings.max_frames:
        # the choice of frames comes first: the others are then neither cropped nor scaled
        filters = f"fps={settings.max_frames / seconds:.6f},"
    filters += f"crop='min(iw,ih)':'min(iw,ih)',scale={side}:{side}"
    options = [word for name, value in x264_options(settings).items() for word in (f"-{name}", value)]
    start = [program, "-nostdin", "-v", "error", "-y", "-filter_threads", "1", "-threads", "1", "-i", str(source)]
    video = ["-map", "0:v:0", "-an", "-vf", filters, "-c:v", "libx264", "-threads", "1", *options]
    done = subprocess.run([*start, *video, "-pix_fmt", "yuv420p", str(target)], capture_output=True, check=False)
    if done.returncode:
        words = clean_message(done.stderr.decode("utf-8", "replace"))
        raise ConfigError(f"ffmpeg failed: {words}", file=program, hint="put a working ffmpeg on PATH, or none")


def ffmpeg_version(program: str) -> str:
    """The version that `program` says of itself; "unknown" where it says none."""
    words = subprocess.run([program, "-version"], capture_output=True, check=False).stdout.split()
    return words[2].decode("utf-8", "replace") if len(words) > 2 else "unknown"


# --- reading -------------------------------------------------------------------------------------


def read_pyav(path: Path, wanted: Sequence[int]) -> Pictures:
    """Seek by time, and take a frame's number from its time and the mean rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        rate, base = float(stream.average_rate or 25), float(stream.time_base or 1)
        first = stream.start_time or 0
        container.seek(int(first + min(wanted) / rate / base), stream=stream)
        last, found = max(wanted), {}
        for frame in container.decode(stream):
            number = round(((frame.pts or 0) - first) * base * rate)
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= last:
                break
    return np.stack([found[number] for number in wanted])


def read_decord(path: Path, wanted: Sequence[int]) -> Pictures:
    """Frames by number, as decord finds them: (T, H, W, 3). Needs the package decord."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1, ctx=decord.cpu(0))
    pictures: Pictures = reader.get_batch(list(wanted)).asnumpy()
    return pictures


def middle(picture_HWC: Pictures) -> Pictures:
    """The middle square, (S, S, 3)."""
    height, width = picture_HWC.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture_HWC[top : top + side, left : left + side]

"""Ways to read frames of a clip held in memory: ours, and what others do. Each gives (T, H, W, 3) uint8 RGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vidkit.data.media.frames import ClipReader

Frames = npt.NDArray[np.uint8]
Reader = Callable[[bytes, Sequence[int]], Frames]


def vidkit(data: bytes, wanted: Sequence[int]) -> Frames:
    with ClipReader(data) as reader:
        return reader.frames(wanted)


def naive_pyav(data: bytes, wanted: Sequence[int]) -> Frames:
    """What is written first with PyAV: seek by time, take a frame's number from its time and the mean rate."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        base = float(stream.time_base or 1)
        first = stream.start_time or 0
        container.seek(int(first + min(wanted) / rate / base), stream=stream)
        last, found = max(wanted), {}
        for frame in container.decode(stream):
            number = round((frame.pts - first) * base * rate)
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= last:
                break
    return np.stack([found[i] for i in wanted])


def decord(data: bytes, wanted: Sequence[int]) -> Frames:
    import decord

    frames: Frames = decord.VideoReader(io.BytesIO(data), num_threads=1).get_batch(list(wanted)).asnumpy()
    return frames


def torchcodec(data: bytes, wanted: Sequence[int]) -> Frames:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found,unused-ignore]

    decoder = VideoDecoder(data, num_ffmpeg_threads=1, dimension_order="NHWC")
    frames: Frames = decoder.get_frames_at(list(wanted)).data.numpy()
    return frames


def available() -> dict[str, Reader]:
    """The readers that can be used here, by name."""
    found: dict[str, Reader] = {"vidkit": vidkit, "PyAV, naive": naive_pyav}
    for name, reader in (("decord", decord), ("torchcodec", torchcodec)):
        try:
            __import__(name)
        except (ImportError, OSError, RuntimeError):  # torchcodec without FFmpeg's libraries fails in its own ways
            continue
        found[name] = reader
    return found


def versions() -> dict[str, Any]:
    found = {"vidkit": __import__("vidkit").__version__, "PyAV": av.__version__}
    for name in ("decord", "torchcodec"):
        if name in available():
            found[name] = __import__(name).__version__
    return found

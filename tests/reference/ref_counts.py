"""How many frames a file shows, counted without vidkit: plain PyAV packet by packet, and the ffmpeg program."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import av


def count_frames(data: bytes, stream: int) -> int:
    """Frames that come out of the decoder, damaged packets passed over, those it held back included."""
    count = 0
    with av.open(io.BytesIO(data), metadata_errors="replace") as container:
        video = container.streams[stream]
        assert isinstance(video, av.VideoStream)
        video.codec_context.thread_count = 1
        for packet in container.demux(video):
            if not packet.size:
                continue
            try:
                count += len(video.codec_context.decode(packet))
            except av.error.FFmpegError:
                continue
        return count + len(video.codec_context.decode(None))


def count_with_program(exe: str, path: Path, stream: int) -> int:
    """Frames that the ffmpeg program passes on, each at its own time."""
    command = f"-nostdin -v quiet -i IN -map 0:{stream} -fps_mode passthrough -f framecrc -"
    arguments = [f"file:{path}" if word == "IN" else word for word in command.split()]
    lines = subprocess.run([exe, *arguments], capture_output=True, text=True, check=False).stdout
    return sum(bool(line) and not line.startswith("#") for line in lines.splitlines())


def count_best(data: bytes) -> int:
    """Frames of the stream that FFmpeg's own choice, in PyAV, names the best."""
    with av.open(io.BytesIO(data), metadata_errors="replace") as container:
        best = container.streams.best("video")
        assert best is not None
        number = best.index
    return count_frames(data, number)

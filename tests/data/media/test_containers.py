"""Containers that a folder of videos may hold, written here by PyAV: each is opened and gives all of its frames."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from tests.badmedia import has_encoder
from vidkit.data.media.transcode import transcode
from vidkit.data.sources.parts.endings import VIDEO_ENDINGS
from vidkit.settings.encode import EncodeSettings

FRAMES = 12

#: Ending -> (muxer, encoder, pixel format). H.261 and H.263 have fixed sizes.
WRITTEN = {
    "mjpeg": ("mjpeg", "mjpeg", "yuvj420p"),
    "y4m": ("yuv4mpegpipe", "rawvideo", "yuv420p"),
    "rm": ("rm", "rv20", "yuv420p"),
    "wtv": ("wtv", "mpeg2video", "yuv420p"),
    "h261": ("h261", "h261", "yuv420p"),
    "h263": ("h263", "h263", "yuv420p"),
    "mxf": ("mxf", "mpeg2video", "yuv420p"),
    "m4v": ("m4v", "mpeg4", "yuv420p"),
    "vob": ("vob", "mpeg2video", "yuv420p"),
    "asf": ("asf", "wmv2", "yuv420p"),
    "divx": ("avi", "mpeg4", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
    "h264": ("h264", "libx264", "yuv420p"),
    "m2ts": ("mpegts", "libx264", "yuv420p"),
}


@pytest.mark.parametrize("ending", WRITTEN)
def test_every_frame_comes_out_in_order(ending: str) -> None:
    muxer, encoder, pixels = WRITTEN[ending]
    if not has_encoder(encoder):
        pytest.skip(f"this PyAV has no encoder {encoder}")
    assert f".{ending}" in VIDEO_ENDINGS
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as output:
        stream = output.add_stream(encoder, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, pixels
        for i in range(FRAMES):
            grey = np.full((144, 176, 3), 20 + 18 * i, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode(None))
    clip = transcode(buffer.getvalue(), EncodeSettings(size=64, max_frames=None, preset="ultrafast", crf=12))
    assert (clip.frames, clip.source_frames) == (FRAMES, FRAMES)
    with av.open(io.BytesIO(clip.data)) as stored:
        levels = [frame.to_ndarray(format="gray").mean() for frame in stored.decode(video=0)]
    assert len(levels) == FRAMES
    assert (np.diff(levels) > 8).all()

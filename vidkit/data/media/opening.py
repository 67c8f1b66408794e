"""Opening video files: which demuxers may be used, which stream is taken, and how to begin again.

What FFmpeg says while a file is read is collected here too: it reports concealed damage in its log alone.
"""

from __future__ import annotations

import io
import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import av
import av.logging

from vidkit.data.media.ends import lacks_index
from vidkit.data.media.packets import FirstPacket
from vidkit.data.media.streams import choose_stream, find_posters
from vidkit.errors import ClipError, clean_message

Source = bytes | bytearray | memoryview | BinaryIO

#: Demuxers that may be tried. A playlist or script named .mp4 could otherwise open other files.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,h264,hevc,ivf,nut,"
    "m4v,obu,gif,dv,mxf,rm,wtv,yuv4mpegpipe,mjpeg,h261,h263,vvc,vc1"
)

#: Makes a decoder report damage as an error instead of guessing the missing picture.
STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}

#: Titles in other encodings must not stop a clip; from version 19 PyAV never raises for them.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class _LastWords(logging.Handler):
    """Keeps what FFmpeg says at level error; one clip's worth."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        if len(self.said) < 20:
            self.said.append(clean_message(record.getMessage(), 120))


@contextmanager
def listening() -> Iterator[_LastWords]:
    """Collect FFmpeg's error messages while a clip is handled, and keep them off the terminal.

    FFmpeg reports concealed damage in its log alone, so the count is what `warnings` is made from.
    """
    words = _LastWords()
    logger = logging.getLogger("libav")
    with _LISTENERS_LOCK:  # of several threads, the first one in and the last one out set the state
        if not _LISTENERS:
            _BEFORE[:] = [av.logging.get_level(), av.logging.get_skip_repeated(), logger.propagate]
            av.logging.set_level(av.logging.ERROR)
            # what is said twice would be told with the next clip's words, or the one's after it
            av.logging.set_skip_repeated(False)
            logger.propagate = False
        _LISTENERS.append(words)
        logger.addHandler(words)
    try:
        yield words
    finally:
        with _LISTENERS_LOCK:
            logger.removeHandler(words)
            _LISTENERS.remove(words)
            if not _LISTENERS:
                level, skip_repeated, logger.propagate = _BEFORE
                av.logging.set_level(level)
                av.logging.set_skip_repeated(skip_repeated)


_LISTENERS: list[_LastWords] = []
_LISTENERS_LOCK = threading.Lock()
#: FFmpeg's log level, whether it is silent on repetitions, and whether its messages go on, while nobody listens.
_BEFORE: list[Any] = []


def words_of(error: Exception) -> str:
    """A decoder's last words without its buffer addresses."""
    log = getattr(error, "log", None)
    name = getattr(error, "strerror", None) or str(error)
    return clean_message(f"{name}; {log[1]}: {log[2]}" if log else name)


@contextmanager
def failing_as_clip_error() -> Iterator[None]:
    """What a damaged index makes demuxer and PyAV raise, as the error of a clip."""
    try:
        yield
    except av.error.EOFError as error:
        raise ClipError("truncated", words_of(error)) from None
    except av.error.FFmpegError as error:
        raise ClipError("decode-error", words_of(error)) from None
    except (IndexError, OverflowError, ValueError) as error:
        # PyAV's own: a stream that appears on the way, a time out of range, a decoder that did not open
        raise ClipError("decode-error", f"PyAV gave up: {error}") from None


class OpenVideo:
    """A file open for decoding with one thread.

    `container` and `video` change when the file is opened anew (`from_start`): what was kept of the old ones
    points to memory that was freed. So ask for them again each time.
    """

    def __init__(self, source: Source, *, strict: bool = False, stream: int | None = None) -> None:
        self.file: BinaryIO
        self.file = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
        self.strict, self._stream = strict, stream
        self._posters: frozenset[int] | None = None
        self.first: FirstPacket | None = None
        """The first packet of the stream, once it was read: how a beginning is known where seeks can be trusted."""
        self._open()

    def _open(self) -> None:
        self.container: Any = self._connect()
        if self._posters is None:
            self._posters = find_posters(self.container)
            if self._posters is not None:
                self.close()
                self.container = self._connect()
        try:
            self.video, self.warnings = choose_stream(self.container, self._stream, self._posters or frozenset())
        except ClipError:
            self.close()
            raise
        self.video.codec_context.thread_count = 1  # workers are the parallelism; threads only add latency
        if self.strict:
            self.video.codec_context.options = STRICT

    def _connect(self) -> Any:
        self.file.seek(0)
        if not self.file.read(1):
            raise ClipError("empty", "the file has 0 bytes")
        self.file.seek(0)
        try:
            return av.open(
                self.file,
                mode="r",
                buffer_size=1 << 18,
                **_METADATA,
                # an opened file must not open others: no protocols, and no demuxer that follows references
                container_options={"format_whitelist": FORMATS, "protocol_whitelist": ""},
            )
        except av.error.FFmpegError as error:
            raise ClipError("truncated" if lacks_index(self.file) else "not-a-video", words_of(error)) from None

    def close(self) -> None:
        """Free what FFmpeg holds; the file itself stays open."""
        self.container.close()

    @property
    def format(self) -> str:
        """FFmpeg's name of the container, e.g. "matroska,webm"."""
        return str(self.container.format.name)

    def from_start(self) -> Iterator[Any]:
        """The stream's packets from the very first one on, with a decoder that remembers nothing.

        A seek is cheap, but not every file has a way back: raw streams have none, a wrapped clock or an index
        of keyframes leads elsewhere. Where the packet that comes is not the first one, the file is opened anew.
        The second of two equal recordings begins as the first one does, so its place in the file counts as well.
        """
        with suppress(av.error.FFmpegError, OverflowError, ValueError):
            if self.first is not None and self.first.place is not None:
                self.container.seek(0)
                packets = self._behind(lambda packet: FirstPacket.of(packet) == self.first)
                if packets is not None:
                    return packets
        self.close()
        self._open()
        return iter(self.container.demux(self.video))

    def from_time(self, time: int) -> Iterator[Any]:
        """Packets from the one shown at `time` on, or from before it."""
        with suppress(av.error.FFmpegError):
            self.container.seek(time, stream=self.video)
            packets = self._behind(lambda packet: packet.pts is not None and packet.pts <= time)
            if packets is not None:
                return packets
        return self.from_start()

    def _behind(self, is_right: Any) -> Iterator[Any] | None:
        """Packets from here on, if the first of them is right."""
        self.video.codec_context.flush_buffers()
        packets = self.container.demux(self.video)
        first = next(packets, None)
        if first is None or not is_right(first):
            return None
        return itertools.chain((first,), packets)


@contextmanager
def open_video(source: Source, *, strict: bool = False, stream: int | None = None) -> Iterator[OpenVideo]:
    """Open a file for decoding with one thread.

    Args:
        strict: damage that the decoder notices, and times that had to be made, are errors.
        stream: take the n-th video stream, from 0; by default the one that ffmpeg would take.

    Raises:
        ClipError: `empty`, `not-a-video`, `truncated` (no index), `no-video-stream`, `unsupported-codec`.
    """
    opened = OpenVideo(source, strict=strict, stream=stream)
    try:
        yield opened
    finally:
        opened.close()

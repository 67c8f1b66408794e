"""A first reading of a video stream: its packets, and whether their times tell what is shown when."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import gt
from typing import Any, NamedTuple

#: Codecs of which one packet is one picture, so that packets can be counted instead of pictures.
#: VP8 and MPEG-4 in AVI hide pictures or pack two into one packet; those are counted by decoding.
PACKET_IS_PICTURE = frozenset(
    {"h264", "hevc", "vp9", "av1", "libdav1d", "libvpx-vp9", "mjpeg", "ffv1", "qtrle", "png", "prores", "huffyuv"}
)

#: Containers whose times can be trusted. AVI has none, and FFmpeg makes up wrong ones where pictures are reordered.
_TIMED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "flv", "nut", "ivf"})

#: Containers with an index of their own, so that a seek leads to the keyframe that was meant.
_SEEKABLE = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})

#: Containers that hold a running clock, which jumps where recordings were joined.
CLOCKED = frozenset({"mpegts", "mpeg", "dv"})

#: Streams without a container: only the coded stream states a rate. What FFmpeg reports is its own default, 25.
BARE = frozenset({"h264", "hevc", "vvc", "m4v", "mpegvideo", "h261", "h263", "vc1", "obu", "mjpeg"})

#: A clock that runs ahead by more than this has jumped, as in ffmpeg.
JUMP_S = 10

#: Times of decoding in less disorder than this are no sign of a join.
_RAN_BACK_S = 0.5

#: Decoders hold back 16 pictures at most: a packet further from its place is out of order.
_FURTHEST = 32


@dataclass(slots=True)
class Packets:
    """The packets of a video stream that are not empty, in decoding order; times in the stream's ticks."""

    pts: list[int | None]
    dts: list[int | None]
    durations: list[int]
    """0 where a packet does not say how long it lasts."""
    hidden: set[int]
    """Packets before an edit list's first picture or after its last: decoded, never shown."""
    keys: list[int]
    """Keyframes from which decoding can begin cleanly, in containers where a seek finds them."""
    first_key: int
    """The first keyframe; the number of packets where there is none."""
    last_duration: int
    held_until: int | None
    """When the last empty packet ends: the picture before it stays on screen until then."""
    places: int
    """Pictures that the packets make room for: in AVI an empty chunk is one too."""
    read_to: int
    """Where in the file the last packet of any stream ends."""
    end_s: float
    """When the last picture ends, on a clock that never runs back; likewise sound, and any stream."""
    heard_end_s: float
    any_end_s: float

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def shown(self) -> list[tuple[int, int]]:
        """(time, packet) of the pictures that are shown, by time. All packets must have one."""
        timed = ((p, k) for k, p in enumerate(self.pts) if p is not None)
        return sorted(item for item in timed if item[1] not in self.hidden)


class FirstPacket(NamedTuple):
    """How the packet with which a stream begins is known again."""

    time: int | None
    size: int
    place: int | None
    """Of its first byte in the file, where the demuxer tells."""

    @classmethod
    def of(cls, packet: Any) -> FirstPacket:
        """What is known of a packet that was read."""
        return cls(packet.pts, packet.size, packet.pos)


class _Clock:
    """How far a stream's clock has come, in seconds, where recordings were joined and it ran back on the way.

    Pictures are shown in another order than they are stored, so that their times alone do not tell: those of
    keyframes do, and the times of decoding. What was joined goes on one step after what is before it.
    """

    __slots__ = ("_before", "_decoded", "_key", "end", "ran_back")

    def __init__(self) -> None:
        self.end = self._before = 0.0
        self._key = self._decoded = -math.inf
        self.ran_back = False

    def tick(self, packet: Any) -> None:
        """Take note of a packet that has a time."""
        unit = float(packet.time_base)
        start, lasts = packet.pts * unit, (packet.duration or 0) * unit
        decoded = start if packet.dts is None else packet.dts * unit
        ran_back = decoded < self._decoded - _RAN_BACK_S
        if packet.is_keyframe:
            ran_back = ran_back or start < self._key
            self._key = start
        if ran_back:
            self.ran_back = True
            self._before += max(0.0, self._decoded + lasts - decoded)
        self._decoded = decoded
        self.end = max(self.end, start + lasts + self._before)


def read_packets(container: Any, video: Any) -> tuple[Packets, FirstPacket | None]:
    """Demux a file from where it was opened to its end.

    The second value is the first packet, by which the beginning is known again after a seek; None where the clock
    runs back: some demuxers then find the first recording, and stop at its end.
    """
    pts: list[int | None] = []
    dts: list[int | None] = []
    durations: list[int] = []
    hidden: set[int] = set()
    keys: list[int] = []
    first = None
    first_key = -1
    last_duration = empty = read_to = 0
    held_until: int | None = None
    clocks = {stream.index: _Clock() for stream in container.streams}
    seekable, own = container.format.name in _SEEKABLE, video.index
    for packet in container.demux():
        time, size = packet.pts, packet.size
        if not size and time is None and packet.dts is None:
            continue  # the end of a stream
        stream = packet.stream_index
        read_to = max(read_to, (packet.pos or 0) + size)
        if time is not None and packet.time_base is not None:
            clocks.setdefault(stream, _Clock()).tick(packet)
        if stream != own:
            continue
        if not size:
            empty += 1
            held_until = held_until if time is None else time + (packet.duration or 0)
            continue
        k = len(pts)
        if first is None:
            first = FirstPacket.of(packet)
        if packet.is_keyframe:
            if first_key < 0:
                first_key = k
            if seekable and _starts_anew(packet, video):
                keys.append(k)
        if time is not None:
            last_duration = packet.duration or last_duration
            if packet.is_discard:
                hidden.add(k)
        pts.append(time)
        dts.append(packet.dts)
        durations.append(packet.duration or 0)
    places = len(pts) + empty
    if container.format.name == "avi" and dts and dts[-1] is not None:
        places = max(places, dts[-1] + 1)  # their times are numbers of chunks
    heard = {stream.index for stream in container.streams if stream.type in ("audio", "video")}
    found = Packets(
        pts=pts,
        dts=dts,
        durations=durations,
        hidden=hidden,
        keys=keys,
        first_key=first_key if first_key >= 0 else len(pts),
        last_duration=last_duration,
        held_until=held_until,
        places=places,
        read_to=read_to,
        end_s=clocks[own].end,
        heard_end_s=max(clock.end for stream, clock in clocks.items() if stream in heard),
        any_end_s=max(clock.end for clock in clocks.values()),
    )
    known = [time for time in dts if time is not None]
    return found, None if clocks[own].ran_back or any(map(gt, known, known[1:])) else first


#: Kinds of coded pictures that make a decoder forget all earlier ones: H.264's and HEVC's IDR.
_IDR = {"h264": frozenset({5}), "hevc": frozenset({19, 20})}


def _starts_anew(packet: Any, video: Any) -> bool:
    """Whether a keyframe of an MP4 or Matroska file is a clean start, and not merely decodable by itself.

    x264's open GOPs begin with such pictures; decoding from there works, but not without complaints about
    missing references, which would count as damage.
    """
    codec, head = video.codec_context.name, video.codec_context.extradata
    if codec not in _IDR:
        return True
    at_length, data, at = {"h264": 4, "hevc": 21}[codec], bytes(packet), 0
    if not head or len(head) <= at_length or head[0] != 1:
        return False
    size = (head[at_length] & 3) + 1  # units are preceded by their length, in so many bytes
    while at + size < len(data):
        kind = data[at + size] & 31 if codec == "h264" else data[at + size] >> 1 & 63
        if kind in _IDR[codec]:
            return True
        at += size + int.from_bytes(data[at : at + size], "big")
    return False


def tells_pictures(container: Any, video: Any, packets: Packets) -> bool:
    """Whether each packet is a picture that is shown at the packet's time, as far as can be told without decoding.

    Where this is denied, decoding tells; what is found may well be that all was in order.
    """
    context = video.codec_context
    if container.format.name not in _TIMED or context.name not in PACKET_IS_PICTURE:
        return False
    times = [p for p in packets.pts if p is not None]
    if len(times) < len(packets):
        return False
    seen = [p for k, p in enumerate(times) if k not in packets.hidden] if packets.hidden else times
    if len(set(seen)) < len(seen):
        return False
    if packets.first_key > 0 or min(times) < times[0]:
        return False  # cut within a group: its first pictures may lack what they refer to
    known = [d for d in packets.dts if d is not None]
    if any(map(gt, known, known[1:])):
        return False  # recordings that were joined
    ordered = sorted(times)
    if ordered == times:
        if len(times) > 1 and context.name in ("h264", "hevc") and context.has_b_frames:
            return False  # the codec reorders its pictures, the container's times do not
    else:
        before = list(accumulate(times, max))
        if any(k and before[k - 1] >= times[k] for k in packets.keys):
            return False
        if any(abs(bisect_left(ordered, time) - k) > _FURTHEST for k, time in enumerate(times)):
            return False
    if field_coded(video):
        return False
    if container.format.name not in CLOCKED:
        return True
    jump = JUMP_S / video.time_base
    return all(b - a <= jump for a, b in pairwise(ordered))


def field_coded(video: Any) -> bool:
    """Whether the two fields of a picture may lie in two packets, so that there are more packets than pictures."""
    context = video.codec_context  # PyAV tells from version 18 on
    return bool(context.name == "h264" and getattr(context, "field_order", 0) > 1)


def closed_groups(packets: Packets) -> tuple[tuple[int, int], ...]:
    """(packet, time) of the first packet, and of keyframes that part the packets before from those after."""
    times = [p for p in packets.pts if p is not None]
    before, after = list(accumulate(times, max)), list(accumulate(reversed(times), min))[::-1]
    good = [k for k in packets.keys if k and before[k - 1] < times[k] == after[k]]
    return tuple((k, times[k]) for k in [0, *good])

"""Decoders of stored clips, by name: (file, frame numbers, frames that it must have) -> RGB pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from vidkit.data.media import stored
from vidkit.errors import ClipError, ConfigError, clean_message

#: Gives (T, H, W, 3) uint8; raises ClipError.
Decoder = Callable[[bytes, Sequence[int] | npt.NDArray[np.int64], int], npt.NDArray[np.uint8]]


def _pyav(data: bytes, wanted: Sequence[int] | npt.NDArray[np.int64], frames: int) -> npt.NDArray[np.uint8]:
    return stored.read_frames(data, wanted, frames=frames)


def _decord(data: bytes, wanted: Sequence[int] | npt.NDArray[np.int64], frames: int) -> npt.NDArray[np.uint8]:
    """For comparison. Conceals damage, and is exact only where groups of pictures are closed."""
    try:
        import decord
    except ImportError:
        raise ConfigError("decord is not installed", field="decoder", hint="pip install 'vidkit[decord]'") from None
    try:
        reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        if len(reader) != frames:
            raise ClipError("truncated", f"the clip has {len(reader)} frames; the ledger says {frames}")
        pictures: npt.NDArray[np.uint8] = reader.get_batch([int(i) for i in wanted]).asnumpy()
    except decord.DECORDError as error:
        raise ClipError("decode-error", clean_message(str(error).splitlines()[0])) from None
    return pictures


DECODERS: dict[str, Decoder] = {"pyav": _pyav, "decord": _decord}

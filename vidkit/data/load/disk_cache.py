"""Clips of a dataset in a store, kept on a disk once they were read, within a limit.

Which clips are kept is decided before the first one is read: the ledger has the length of each, so the first ones
whose bytes fit are chosen, and none is thrown out for another. Epochs read every clip once, in another order each
time: a cache that replaces what was read longest ago has then nearly always let go what comes next, while a fixed
part gives its share of hits in every epoch (Mohan et al. 2021, "Analyzing and mitigating data stalls in DNN
training").
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

from vidkit.errors import ConfigError

log = logging.getLogger("vidkit.data")

#: Behind the bytes of a clip: a disk that lost power can hold a file of the right length and other bytes.
_SUM_BYTES = 4


class DiskCache:
    """A file for each clip: FOLDER/DATASET/SHARD/OFFSET. Processes share it; each file appears whole.

    Args:
        folder: where datasets keep their clips; made if need be.
        dataset: a name that no other contents have, such as a digest.
        clips: (shard, offset, nbytes) of the clips that will be read.
        limit: bytes that clips of this dataset may take in the folder. Where there are more, of an earlier use with
            another limit, those that are not in `clips` go first.

    Raises:
        ConfigError: the folder cannot be written, or the limit is below 1.
    """

    def __init__(self, folder: Path, dataset: str, clips: Iterable[tuple[str, int, int]], limit: int) -> None:
        if limit < 1:
            raise ConfigError(f"the limit of the disk cache is {limit!r} bytes; expected at least 1")
        self.folder = folder.absolute() / dataset
        wanted = {_name(shard, offset): nbytes + _SUM_BYTES for shard, offset, nbytes in clips}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = {file.relative_to(self.folder).as_posix(): file.stat().st_size for file in self._files()}
            left = limit - sum(there.values())
            for name in sorted(there, key=lambda name: name in wanted):
                if left >= 0:
                    break
                (self.folder / name).unlink(missing_ok=True)
                left += there.pop(name)
        except OSError as error:
            raise ConfigError(
                f"no cache of clips can be there: {error.strerror}", file=folder, hint="give another folder"
            ) from None
        self.chosen: set[str] = wanted.keys() & there.keys()
        for name, nbytes in wanted.items():
            if name not in there and nbytes <= left:
                self.chosen.add(name)
                left -= nbytes

    def _files(self) -> Iterable[Path]:
        return (file for file in self.folder.glob("**/*") if file.is_file())

    def get(self, shard: str, offset: int, nbytes: int) -> bytes | None:
        """A clip's bytes, or None where they are not kept, or not as they were."""
        name = _name(shard, offset)
        if name not in self.chosen:
            return None
        try:
            kept = (self.folder / name).read_bytes()
        except OSError:
            return None
        data, told = kept[:-_SUM_BYTES], kept[-_SUM_BYTES:]
        return data if len(data) == nbytes and _sum(data) == told else None

    def put(self, shard: str, offset: int, data: bytes) -> None:
        """Keep a clip, if it is one of those that are kept. A disk that is full costs the cache, not the run."""
        name = _name(shard, offset)
        if name not in self.chosen:
            return
        path = self.folder / name
        part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data + _sum(data))
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            self.chosen = set()
            log.warning("%s: no more clips are kept there: %s", self.folder, error.strerror)


def _name(shard: str, offset: int) -> str:
    return f"{shard.removesuffix('.tar')}/{offset}"


def _sum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_SUM_BYTES, "little")

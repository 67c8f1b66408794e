"""Objects written to a store: each appears whole, once, and is known to hold the bytes that were meant.

A SHA-256 goes with every upload. Stores that compare it refuse what was damaged on the way; of those that do not,
every object is read back. An ETag is no checksum: it depends on parts and encryption. Stores that know "only if
there is none" (`If-None-Match: *`) are asked for it; with the others one looks first, which leaves a gap in which
another can write, so whatever is there afterwards is compared as well.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.data.storage import stores
from vidkit.data.storage.places import StorePath
from vidkit.data.storage.stores import S3, s3

#: Bytes of a part of a large upload; what is smaller goes in one request. S3 takes 10,000 parts.
PART = 64 << 20

#: How often an object that arrived damaged is sent.
_SENT = 3

_SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a store does with an upload."""

    checks: bool
    """Refuses bytes that do not fit their checksum."""
    only_new: bool
    """Refuses to replace an object where it is told not to."""


def abilities(folder: StorePath) -> Abilities:
    """Found out once in each process, with objects in `folder` that are removed again.

    Raises:
        OSError: the folder cannot be written.
    """
    return _abilities(os.getpid(), folder)


@functools.lru_cache(maxsize=8)
def _abilities(process: int, folder: StorePath) -> Abilities:
    if folder.protocol not in S3:
        return Abilities(checks=False, only_new=True)  # fsspec says so itself
    probe = folder / f"probe-{uuid.uuid4().hex}"
    right, other = _base64(hashlib.sha256(b"probe").digest()), _base64(hashlib.sha256(b"other").digest())
    try:
        checks = not _accepted(probe, ChecksumSHA256=other)
        s3(probe, "put_object", Body=b"probe", ChecksumSHA256=right)
        only_new = not _accepted(probe, ChecksumSHA256=right, IfNoneMatch="*")
    finally:
        remove(probe)
    return Abilities(checks, only_new)


def _accepted(probe: StorePath, **how: Any) -> bool:
    """Whether the store takes an upload that it should refuse."""

    def again(error: BaseException) -> bool:
        return stores.passes(error) and stores.status(error) not in (400, 409, 412, 501)

    try:
        s3(probe, "put_object", again, Body=b"probe", **how)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.EINVAL, errno.ENOSYS):
            raise
        return "IfNoneMatch" in how and not isinstance(error, FileExistsError)  # it does not know the condition
    return True


def put(to: StorePath, source: bytes | Path, able: Abilities, *, only_new: bool = False) -> bool:
    """Write an object and make sure that it holds `source`.

    Args:
        source: the bytes, or a file of them.
        only_new: another object of this name is an error; one that holds the same is fine.

    Returns:
        Whether it was written; False where it was there already.

    Raises:
        FileExistsError: `only_new`, and there are other bytes; the text has both digests.
        OSError: it cannot be written, or arrives damaged every time.
    """
    sha256 = _digest(source)
    wanted = sha256.hex()
    damaged = False
    for _ in range(_SENT):
        if only_new and not damaged:
            found = sha256_of(to, able)
            if found == wanted:
                return False
            if found is not None:
                raise FileExistsError(errno.EEXIST, f"it holds sha256 {found}; new is {wanted}", str(to))
        try:
            send(to, source, only_new=only_new and able.only_new and not damaged, sha256=sha256)
        except FileExistsError:  # another was there first, or our own answer was lost on the way
            continue
        if able.checks or sha256_of(to, able) == wanted:
            return True
        damaged = True
    raise OSError(errno.EIO, f"what arrives is not what was sent, {_SENT} times", str(to))


def create(to: StorePath, data: bytes, able: Abilities) -> bool:
    """Write a small object if there is none of its name, and say whether. Where the store knows no condition, two
    who ask at the same time may both be told so.

    Raises:
        OSError: it cannot be written.
    """
    try:
        if not able.only_new and to.exists():
            return False
        send(to, data, only_new=able.only_new)
    except FileExistsError:
        return False
    return True


def sha256_of(at: StorePath, able: Abilities) -> str | None:
    """Digest of an object's bytes; None: there is no object.

    What was noted beside an object holds where the store had compared it; otherwise the object is read.
    """
    if at.protocol in S3 and able.checks:
        try:
            noted = s3(at, "head_object").get("Metadata", {}).get(_SHA256)
        except FileNotFoundError:
            return None
        if noted:
            return str(noted)
    digest = hashlib.sha256()
    try:
        for block in at.blocks():
            digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def remove(at: StorePath) -> None:
    """Remove an object, if there is one."""
    try:
        stores.asked(at, "rm_file", at.key)
    except FileNotFoundError:
        return


def abort_half_made(folder: StorePath) -> int:
    """Give up uploads of many parts that never ended, of processes that were killed: they cost room, and are seen
    in no listing. Returns how many there were.
    """
    if folder.protocol not in S3:
        return 0
    bucket, _, key = folder.key.partition("/")
    listed = functools.partial(
        stores.file_system(folder.protocol).call_s3, "list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/"
    )
    try:
        uploads = stores.retrying(listed, folder).get("Uploads", [])
    except OSError as error:
        if not isinstance(error, PermissionError) and error.errno != errno.ENOSYS:
            raise
        stores.log.warning("%s: half-made uploads cannot be listed: %s", folder, error.strerror)
        return 0
    for one in uploads:
        _abort(StorePath(f"{folder.protocol}://{bucket}/{one['Key']}"), one["UploadId"])
    return len(uploads)


def send(to: StorePath, source: bytes | Path, *, only_new: bool = False, sha256: bytes | None = None) -> None:
    """One upload, of which the store may or may not notice that it was damaged; see `put`.

    Args:
        only_new: the store knows the condition, and shall refuse where there is an object.

    Raises:
        FileExistsError: it does.
    """
    if to.protocol not in S3:
        mode = "create" if only_new else "overwrite"
        if isinstance(source, bytes):
            stores.asked(to, "pipe_file", to.key, source, mode=mode)
        else:
            stores.asked(to, "put_file", os.fspath(source), to.key, mode=mode)
        return
    sha256 = sha256 or _digest(source)
    about = {_SHA256: sha256.hex()}
    condition: dict[str, Any] = {"IfNoneMatch": "*"} if only_new else {}
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size <= PART:
        body = source if isinstance(source, bytes) else source.read_bytes()
        s3(to, "put_object", Body=body, ChecksumSHA256=_base64(sha256), Metadata=about, **condition)
        return
    upload = s3(to, "create_multipart_upload", ChecksumAlgorithm="SHA256", Metadata=about)["UploadId"]
    try:
        parts = []
        for number, block in enumerate(_blocks(source), start=1):
            checksum = _base64(hashlib.sha256(block).digest())
            part: dict[str, Any] = {"PartNumber": number, "UploadId": upload, "ChecksumSHA256": checksum}
            tag = s3(to, "upload_part", Body=block, **part)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum})
        whole: dict[str, Any] = {"UploadId": upload, "MultipartUpload": {"Parts": parts}}
        s3(to, "complete_multipart_upload", **whole, **condition)
    except BaseException:
        _abort(to, upload)
        raise


def _abort(at: StorePath, upload: str) -> None:
    try:
        s3(at, "abort_multipart_upload", UploadId=upload)
    except OSError as error:  # the next build looks for it again
        stores.log.warning("%s: a half-made upload stays behind: %s", at, error.strerror)


def _digest(source: bytes | Path) -> bytes:
    digest = hashlib.sha256()
    for block in _blocks(source):
        digest.update(block)
    return digest.digest()


def _blocks(source: bytes | Path) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(PART):
            yield block


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()

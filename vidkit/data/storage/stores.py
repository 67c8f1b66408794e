"""Requests to stores, through fsspec: one file system for each process, bounded retries, plain errors.

The libraries below (s3fs, botocore) would try again by themselves, each in its own way and the one around the
other. They are told not to: what is tried again, how often, and what is said then, is decided here alone.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from vidkit.errors import ConfigError, clean_message

if TYPE_CHECKING:
    from vidkit.data.storage.places import StorePath

T = TypeVar("T")

log = logging.getLogger("vidkit.data")

#: Protocols of S3.
S3 = ("s3", "s3a")

#: Seconds before each further try; half of it at random, so that many readers do not come back at once.
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)

#: Of its own: a user's seeds stay theirs.
_CHANCE = random.Random()

#: HTTP answers that pass.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

#: What S3 says of a busy store, of two who write one object at a time, and of bytes that were damaged on the way.
_PASSING_CODES = frozenset(
    {
        *("SlowDown", "RequestTimeout", "OperationAborted", "ConditionalRequestConflict"),
        *("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
    }
)

#: Errors of connections, by name: their libraries are not loaded to know them.
_CONNECTION = frozenset(
    {
        *("ConnectionError", "TimeoutError", "FSTimeoutError", "HTTPClientError", "EndpointConnectionError"),
        *("IncompleteRead", "IncompleteReadError", "ResponseParserError", "ResponseStreamingError"),
        *("ClientPayloadError", "ClientConnectionError", "ServerDisconnectedError"),
    }
)

_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})

NO_BUCKET = "there is no such bucket"

#: File systems beside those of protocols: one that signs addresses of S3 as all its kind understand (botocore has
#: an older signature by default), and one that asks for addresses which are signed, as they stand.
SIGNS, SIGNED = "s3, signing", "https, signed"

_S3 = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 64}

#: Protocol, or one of those above -> fsspec's protocol, and its options; others are as they are called.
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {"config_kwargs": _S3}) for name in S3},
    SIGNS: ("s3", {"config_kwargs": {**_S3, "signature_version": "s3v4"}}),
    SIGNED: ("https", {"encoded": True}),
}

#: What brings the library of a protocol.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}

_MADE: dict[tuple[int, str], Any] = {}


def file_system(protocol: str) -> Any:
    """This process's fsspec file system for a protocol, or for `SIGNS` or `SIGNED`. Its library finds credentials.

    A forked process makes its own: connections and event loops cannot be shared.

    Raises:
        ConfigError: its library is not installed, or there is none.
    """
    mine = (os.getpid(), protocol)
    if mine not in _MADE:
        _MADE[mine] = _make(protocol)
    return _MADE[mine]


def _make(protocol: str) -> Any:
    import fsspec

    protocol, options = _KINDS.get(protocol, (protocol, {}))
    try:
        made = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        raise ConfigError(
            f"{protocol}:// addresses need a library that is not installed ({clean_message(str(error))})",
            hint=f"pip install 'vidkit[{extra}]'" if extra else "install it",
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{protocol}:// is no kind of address that fsspec knows ({clean_message(str(error))})",
            hint="give a folder, or an s3://, gs://, http:// or https:// address",
        ) from None
    if hasattr(type(made), "retries"):
        made.retries = 1
    return made


def asked(where: StorePath, method: str, *args: Any, **how: Any) -> Any:
    """`method` of the file system of `where`; what passes is tried again, with a growing wait.

    Raises:
        OSError: of the kind that `pathlib` would raise, with `strerror`; once tries are used up.
        ConfigError: as `file_system`.
    """
    fs = file_system(where.protocol)
    return retrying(functools.partial(getattr(fs, method), *args, **how), where)


def s3(
    at: StorePath, method: str, again: Callable[[BaseException], bool] | None = None, **arguments: Any
) -> dict[str, Any]:
    """A request of S3's own, which fsspec has no words for.

    Args:
        again: see `retrying`.

    Raises:
        OSError: as `asked`.
    """
    bucket, _, key = at.key.partition("/")
    call = functools.partial(file_system(at.protocol).call_s3, method, Bucket=bucket, Key=key, **arguments)
    answer: dict[str, Any] = retrying(call, at, again)
    return answer


def retrying(call: Callable[[], T], where: object, again: Callable[[BaseException], bool] | None = None) -> T:
    """What `call` gives, tried again while its error is one that passes.

    Args:
        again: whether an error passes; by default `passes`.

    Raises:
        OSError: as `asked`.
    """
    for wait in (*WAITS_S, None):
        try:
            return call()
        except ConfigError:
            raise
        except Exception as error:
            if wait is None or not (again or passes)(error):
                raise plain(error, where, tries=len(WAITS_S) + 1 if wait is None else 1) from None
            if wait >= 2:
                log.warning("%s: %s; trying again", where, words(error))
        time.sleep(wait * _CHANCE.uniform(0.5, 1))
    raise AssertionError


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, the first cause first."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__
    return reversed(found)


def _kinds(error: BaseException) -> set[str]:
    """Names of the classes that the error, and what it came from, belong to."""
    return {cls.__name__ for one in _chain(error) for cls in type(one).__mro__}


def status(error: BaseException) -> int | None:
    """The HTTP status that an error came from, if any."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        for name in ("status", "code"):  # aiohttp, gcsfs
            found = getattr(one, name, None)
            if str(found).isdigit():
                return int(str(found))
    return None


def error_code(error: BaseException) -> str:
    """The store's own word for an error, such as "NoSuchBucket"; empty where there is none."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def passes(error: BaseException) -> bool:
    """Whether a try later may well succeed."""
    found = status(error)
    if found is not None:
        return found in PASSING or error_code(error) in _PASSING_CODES
    return bool(_kinds(error) & _CONNECTION)


def words(error: BaseException) -> str:
    """What is wrong, without addresses: they may hold secrets."""
    code, found = error_code(error), status(error)
    if code == "NoSuchBucket":
        return NO_BUCKET
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            told = response.get("Error", {})
            return clean_message(f"{told.get('Message', 'refused')} ({code or found})")
    kinds = _kinds(error)
    if kinds & _NO_CREDENTIALS:
        return "no credentials were found"
    if found is not None:
        return {404: "not there"}.get(found, f"the server answers HTTP {found}")
    if kinds & _CONNECTION:
        first = type(next(_chain(error))).__name__
        return f"the server cannot be reached, or does not answer ({first})"
    if isinstance(error, FileNotFoundError):
        return "not there"
    return clean_message(f"{type(error).__name__}: {error}" if "://" not in str(error) else type(error).__name__)


def plain(error: BaseException, where: object, *, tries: int = 1) -> OSError:
    """The error as `pathlib` would raise it. Its text names no secret."""
    told = words(error) + (f", after {tries} tries" if tries > 1 else "")
    found, kinds = status(error), _kinds(error)
    if found is None and kinds & _CONNECTION:
        return OSError(errno.EIO, told, str(where))
    if found == 412 or isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, told, str(where))
    if found in (401, 403) or isinstance(error, PermissionError) or kinds & _NO_CREDENTIALS:
        return PermissionError(errno.EACCES, told, str(where))
    if found == 404 or isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, told, str(where))
    numbers = {400: errno.EINVAL, 416: errno.ERANGE, 501: errno.ENOSYS}
    return OSError(numbers.get(found or 0, errno.EIO), told, str(where))


def hint(error: OSError) -> str:
    """What to do about an error of `asked`."""
    if isinstance(error, PermissionError):
        return (
            "give credentials as the store's own tools find them (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "~/.aws, GOOGLE_APPLICATION_CREDENTIALS), with the right to this address"
        )
    if isinstance(error, FileNotFoundError):
        return "check the address, and the store it is asked of (AWS_ENDPOINT_URL)"
    if error.errno == errno.EOPNOTSUPP:
        return "serve it with a server that knows ranges (python -m http.server does not), or copy it to a disk"
    return "check the network and the store (AWS_ENDPOINT_URL), then run the same command again"

"""A child process that transcodes clips one at a time and can be killed with all that it started.

Decoding happens in C, where a hostile file can hang or crash the process. So it happens in a child:
a clip that hangs is stopped at its time limit, one that crashes takes only the child with it, and
the build goes on with a new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, BinaryIO

from vidkit.data.packed.opening import open_source
from vidkit.data.paths import OutOfReachError
from vidkit.data.processes import die_with
from vidkit.errors import BuildError, ClipError, clean_message
from vidkit.settings.encode import EncodeSettings

log = logging.getLogger("vidkit.data")

#: Files up to this size are read whole: one read serves the checksum, the index and the decoder.
_WHOLE_FILE_BYTES = 256 << 20

#: The child's program. The current folder is taken off the path: nothing there may stand in for a library.
_CHILD = "import sys; sys.path[:] = filter(None, sys.path); from vidkit.data.build.clip_worker import main; main()"

#: What the child says once its libraries are loaded, and how long that may take.
_READY = b"ready"
_START_S = 120

#: More than a stored clip can come to; a longer answer is rubbish. Once begun, it may not pause for so long.
_LONGEST_ANSWER = 1 << 30
_ANSWER_S = 10

#: A process is replaced after so many clips: what libraries leak stays small, and starting one costs little.
_CLIPS_A_PROCESS = 5000

_LIVENESS_S = 0.2  # how often a waiting parent looks whether it should stop


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipJob:
    """What the child needs to make one stored clip."""

    root: str
    """Folder of the source."""
    path: str
    """Relative to `root`, as in the clip table (`path_to_text`)."""
    settings: EncodeSettings
    start_s: float | None = None
    end_s: float | None = None
    strict: bool = False
    transcoder: str = "pyav"
    follow_symlinks: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipOutcome:
    """What became of a job: a stored clip, or an error code with the decoder's last words."""

    clip: Any = None
    """A `transcode.StoredClip`, or None."""
    error: str | None = None
    message: str | None = None
    source_sha256: str | None = None
    source_bytes: int | None = None
    out_of_reach: str | None = None
    """Why the source could not be read now, which is no fault of the clip."""


def make_clip(job: ClipJob) -> ClipOutcome:
    """Open, checksum and transcode; every `ClipError` becomes an outcome."""
    sha256: str | None = None
    size: int | None = None
    try:
        with open_source(job.root, job.path, follow_symlinks=job.follow_symlinks) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            source: bytes | BinaryIO
            try:
                if size <= _WHOLE_FILE_BYTES:
                    source = file.read()
                    sha256 = hashlib.sha256(source).hexdigest()
                else:
                    sha256 = _sha256(file)
                    source = file
            except OSError as error:  # a bad sector, or a server that went away
                raise ClipError("unreadable", os.strerror(error.errno or errno.EIO)) from None
            clip = _transcoder(job.transcoder)(
                source, job.settings, start_s=job.start_s, end_s=job.end_s, strict=job.strict
            )
    except OutOfReachError as error:
        return ClipOutcome(out_of_reach=f"{error.filename}: {error.strerror}")
    except ClipError as error:
        return ClipOutcome(error=error.code, message=error.message, source_sha256=sha256, source_bytes=size)
    return ClipOutcome(clip=clip, source_sha256=sha256, source_bytes=size)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    file.seek(0, io.SEEK_SET)
    return digest.hexdigest()


def _transcoder(name: str) -> Callable[..., Any]:
    if name == "ffmpeg":
        from vidkit.data.media import transcode_ffmpeg

        return transcode_ffmpeg.transcode
    from vidkit.data.media import transcode

    return transcode.transcode


class ClipWorker:
    """A child process with a time limit on each clip. Not safe to share between threads.

    Args:
        timeout_s: seconds a clip may take; the child is killed after that.
        should_stop: asked while waiting; when it says yes, the child is killed and `Stopped` raised.
    """

    def __init__(self, timeout_s: float, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.timeout_s, self.should_stop = timeout_s, should_stop
        self._process: subprocess.Popen[bytes] | None = None
        self._link: Connection[Any, Any] | None = None
        self._served = 0

    def __enter__(self) -> ClipWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: ClipJob) -> ClipOutcome:
        """Transcode one clip in the child.

        Raises:
            Stopped: `should_stop` said so.
            BuildError: the child cannot be started, or a store that holds the source does not answer.
        """
        fresh = self._link is None
        outcome = self._run(job)
        if outcome.out_of_reach is not None:
            raise unreachable(outcome.out_of_reach)
        if outcome.error == "crashed" and self._link is None and not fresh:
            # an earlier clip may have hurt the process: a clip is to blame only for a process of its own
            outcome = self._run(job)
        return outcome

    def _run(self, job: ClipJob) -> ClipOutcome:
        if self._served >= _CLIPS_A_PROCESS:
            self._kill()
        link = self._link or self._start()
        self._served += 1
        try:
            link.send(job)
            if not self._wait(link, self.timeout_s):
                self._kill()
                return ClipOutcome(error="timeout", message=f"stopped after {self.timeout_s:g} s")
            answer = link.recv_bytes(_LONGEST_ANSWER)
        except (EOFError, OSError):
            return ClipOutcome(error="crashed", message=f"the decoding process died: {self._kill()}")
        try:
            outcome = pickle.loads(answer)
        except Exception:  # a process whose memory is damaged can say anything
            log.debug("an answer that cannot be read", exc_info=True)
            outcome = None
        if not isinstance(outcome, ClipOutcome):
            self._kill()
            return ClipOutcome(error="crashed", message="the decoding process gave no usable answer")
        return outcome

    def _wait(self, link: Connection[Any, Any], limit_s: float) -> bool:
        """Whether there is something to read (or the end) within the limit."""
        deadline = time.monotonic() + limit_s
        while not link.poll(_LIVENESS_S):
            if self.should_stop():
                self._kill()
                raise Stopped
            if time.monotonic() > deadline:
                return False
        return True

    def _start(self) -> Connection[Any, Any]:
        ours, theirs = socket.socketpair()
        # `recv_bytes` waits for the whole of an answer that has begun, without looking at the time
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _ANSWER_S, 0))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _ANSWER_S, 0))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # nothing a library prints may mix with the build's own output
                start_new_session=True,  # its own group: killed as a whole, and deaf to the terminal's Ctrl-C
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        except OSError as error:
            ours.close()
            raise BuildError(f"cannot start a worker process: {error}", hint="lower --workers") from None
        finally:
            theirs.close()
        link = self._link = Connection(ours.detach())
        # loading libraries is not the first clip's time, and failing to load them is no clip's fault
        try:
            ready = self._wait(link, _START_S) and link.recv_bytes(len(_READY)) == _READY
        except (EOFError, OSError):
            ready = False
        if not ready:
            raise BuildError(
                f"a worker process did not start: {self._kill()}",
                hint="see what it printed above; `vidkit doctor` names what is missing",
            )
        return link

    def _kill(self) -> str:
        """Kill the child and what it started; returns how it ended, in words."""
        process, link = self._process, self._link
        self._process = self._link = None
        self._served = 0
        if link is not None:
            link.close()
        if process is None:
            return "not started"
        # a child that died by itself has its status before we send the signal
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """Kill the child, if there is one; `run` would start another."""
        self._kill()


def unreachable(words: str) -> BuildError:
    """The error for a source in a store that does not answer: no clip is to blame."""
    return BuildError(
        f"a source cannot be read: {words}",
        hint="see to the store or its credentials, and run the same command again; what is done is kept",
    )


class Stopped(Exception):  # noqa: N818 - not an error
    """The build was asked to stop (Ctrl-C, SIGTERM, or a failure elsewhere)."""


def serve(link: Connection[Any, Any]) -> None:
    """The child's loop: a job in, an outcome out, until the parent hangs up."""
    while True:
        try:
            job = link.recv()
        except EOFError:
            return
        try:
            outcome = make_clip(job)
        except MemoryError:
            outcome = ClipOutcome(error="crashed", message="out of memory")
        except Exception as error:  # a bug of ours or the library's: it costs one clip, with its name on it
            outcome = ClipOutcome(error="crashed", message=clean_message(f"{type(error).__name__}: {error}"))
        try:
            link.send(outcome)
        except (BrokenPipeError, ConnectionError):
            return


def main() -> None:
    """Entry of the child: the link's file descriptor and the parent's process id are its arguments."""
    die_with(int(sys.argv[2]))
    with Connection(int(sys.argv[1])) as link:
        _transcoder("pyav")
        try:
            link.send_bytes(_READY)
        except (BrokenPipeError, ConnectionError):  # the build was stopped meanwhile
            return
        serve(link)

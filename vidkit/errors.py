"""Errors a user can act on: what is wrong, where it is, and what to do next.

Two families. `VidkitError` ends a command: the CLI prints it without a traceback and exits with
`exit_code`. `ClipError` is about one clip: the build records it in the ledger and goes on.
"""

from __future__ import annotations

import os
import re


class VidkitError(Exception):
    """Something the user must fix before the command can go on.

    Args:
        message: what is wrong, with the value that was found and what was expected.
        file: the file it was found in, if any.
        row: 1-based line or record number within `file`.
        field: column or key within the row.
        hint: the next step, as an imperative sentence.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        file: str | os.PathLike[str] | None = None,
        row: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.file = os.fspath(file) if file is not None else None
        self.row = row
        self.field = field
        self.hint = hint
        super().__init__(str(self))

    @property
    def where(self) -> str:
        """File, row and field in words, as far as they are known."""
        parts = []
        if self.file is not None:
            parts.append(display_path(self.file))
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.field is not None:
            parts.append(f"field {self.field!r}")
        return ", ".join(parts)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  -> {self.hint}" if self.hint else text


class ConfigError(VidkitError):
    """A bad flag, spec file or setting. Exit code 2."""

    exit_code = 2


class AnnotationError(VidkitError):
    """An annotation file that cannot be read as what it claims to be. Exit code 2."""

    exit_code = 2


class DatasetError(VidkitError):
    """A built dataset that is incomplete, damaged or written by a newer vidkit."""


class BuildError(VidkitError):
    """A build that cannot start or go on (locked folder, full disk, other settings)."""


class TrainingError(VidkitError):
    """A run that cannot go on: values that are not finite, no memory, a checkpoint that cannot be written."""


#: Every code that a ledger row may carry in `error`, with what it means.
#: Codes are part of the format: add, never rename.
CLIP_ERRORS: dict[str, str] = {
    "missing": "annotated, but no file of that name was found",
    "unreadable": "the file exists, but cannot be opened or is no regular file",
    "unsafe-path": "the path leaves the source folder",
    "empty": "the file has 0 bytes",
    "not-a-video": "no supported container could be recognised",
    "no-video-stream": "the container has no video stream",
    "unsupported-codec": "the video codec is unknown to the decoder",
    "truncated": "the file ends before the frames its container or index promises",
    "decode-error": "the decoder failed, or frames that were planned did not come out",
    "too-short": "fewer frames, or a shorter duration, than the plan needs",
    "timeout": "the clip took longer than --timeout and was stopped",
    "crashed": "the process that decoded the clip died",
    "encode-error": "the encoder or muxer failed",
    "bad-annotation": "the annotation row lacks a field or has a value that cannot be used",
    "unknown-label": "the label is in no class list of the spec",
    "no-label": "the label rule needs a label and the row has none",
    "label-set-not-kept": "its label set, and every subset of it, ranks below the classes that are kept",
    "duplicate-row": "the clip is annotated more than once in one split",
}


class ClipError(Exception):
    """One clip cannot be used. `code` is a key of `CLIP_ERRORS`; `message` holds the last words."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CLIP_ERRORS:
            raise ValueError(f"unknown clip error code {code!r}; expected one of {sorted(CLIP_ERRORS)}")
        self.code = code
        self.message = clean_message(message)
        super().__init__(code, self.message)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


_ADDRESS = re.compile(r"\s*@\s*0x[0-9a-fA-F]+|0x[0-9a-fA-F]{6,}")


def clean_message(text: str, limit: int = 300) -> str:
    """One line without memory addresses, so that the same failure gives the same ledger bytes."""
    text = _ADDRESS.sub("", text.encode("utf-8", "backslashreplace").decode("utf-8"))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def display_path(path: str) -> str:
    """A path as printable text; bytes that are not UTF-8 show as backslash escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

"""A run's folder: config.json, log.jsonl, checkpoints/, summary.json. Each file is written whole or not at all.

A run that was stopped goes on in the same folder. The log then holds each step once: lines that were written after
the checkpoint are taken back, since those steps are done again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidkit.errors import ConfigError
from vidkit.files import cannot_write, save_whole
from vidkit.settings.plain import to_plain

#: Of config.json and log.jsonl.
FORMAT = 1

#: What may differ when a run goes on: none of it changes what is learnt.
FREE = ("data.workers", "data.cache", "data.decoder", "log.", "optim.compile", "probe_epochs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files lie."""

    root: Path

    @property
    def last(self) -> Path:
        """The checkpoint that a run goes on from."""
        return self.root / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint that did best on the validation clips."""
        return self.root / "checkpoints" / "best.pt"

    def epoch(self, number: int) -> Path:
        """The weights after so many epochs, where they are kept."""
        return self.root / "checkpoints" / f"epoch-{number:04d}.pt"

    def step(self, number: int) -> Path:
        """The weights after so many steps, where they are kept."""
        return self.root / "checkpoints" / f"step-{number:06d}.pt"

    def begin(self, kind: str, config: Any, facts: Mapping[str, Any], *, resume: bool) -> bool:
        """Make the folder, or check that it holds the same run. Returns whether it can go on from a checkpoint.

        What a start has left that failed before its first step (a batch too large, no room for a cache) is no run:
        its settings are written over.

        Raises:
            ConfigError: it holds a run and `resume` is off, or one with other settings.
        """
        described = {"format": FORMAT, "kind": kind, **facts, "config": to_plain(config)}
        path = self.root / "config.json"
        if path.exists() and self._trained():
            if not resume:
                raise ConfigError(
                    f"{self.root} holds a run already", hint="go on with it by --resume, or give another --out"
                )
            lines = _differences(read_json(path), described)
            if lines:
                raise ConfigError(
                    f"{self.root} holds a run with other settings:\n    " + "\n    ".join(lines),
                    hint="give the settings it was begun with, or another --out",
                )
            return self.last.exists()
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot make the folder: {error.strerror}",
                file=self.root,
                hint="give --out a place that can be written",
            ) from error
        write_json(path, {**described, "versions": versions()})
        return False

    def _trained(self) -> bool:
        """Whether a step of a run is on record."""
        return self.last.exists() or self.best.exists() or bool(self.rows())

    def log(self, row: Mapping[str, Any]) -> None:
        """
        Raises:
            TrainingError: it cannot be written.
        """
        path = self.root / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error

    def rows(self) -> list[dict[str, Any]]:
        """Lines of the log; a line cut off by a crash is left out."""
        path = self.root / "log.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def rewind(self, step: int) -> None:
        """Take back what was logged after `step`."""
        path = self.root / "log.jsonl"
        kept = [row for row in self.rows() if row["step"] <= step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        # not by rows: what is left of a line that was cut off would be the beginning of the next one
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            save_whole(path, text)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json. TrainingError: it cannot be written."""
        write_json(self.root / "summary.json", summary)


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    from importlib.metadata import PackageNotFoundError, version

    import vidkit

    found = {"python": platform.python_version(), "vidkit": vidkit.__version__}
    for name in ("torch", "torchvision", "timm", "accelerate", "av"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def read_json(path: Path) -> Any:
    """
    Raises:
        ConfigError: no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read: {error}", file=path, hint="restore it from a copy, or begin anew with another --out"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole or not at all. TrainingError: it cannot be written."""
    save_whole(path, json.dumps(value, indent=2) + "\n")


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    ours, theirs = flat(wanted), flat({key: value for key, value in found.items() if key != "versions"})
    names = sorted(ours.keys() | theirs.keys())
    return [
        f"{name}: {theirs.get(name)!r} in the run, {ours.get(name)!r} now"
        for name in names
        if ours.get(name) != theirs.get(name) and not name.removeprefix("config.").startswith(FREE)
    ]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names; lists as text."""
    if not isinstance(value, Mapping):
        return {prefix: str(value) if isinstance(value, (list, tuple)) or value is None else value}
    parts = (flat(inner, f"{prefix}.{name}" if prefix else name) for name, inner in value.items())
    return {name: inner for part in parts for name, inner in part.items()}

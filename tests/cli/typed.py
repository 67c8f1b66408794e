"""Commands as they are typed, run in this process: exit code, stdout, stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from vidkit.cli.app import main

#: Settings of a network that learns nothing and takes no time.
TINY = [
    "model.encoder.frames=4",
    "model.encoder.size=32",
    "model.encoder.width=32",
    "model.encoder.depth=2",
    "model.encoder.heads=2",
    "model.encoder.patch=8",
    "model.encoder.positions=1d",  # other projects know no others
    "model.decoder.width=16",
    "model.decoder.depth=1",
    "model.decoder.heads=2",
    "model.sampler.heads=2",
]


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `vidkit WORDS`."""
    monkeypatch.setattr(
        sys, "argv", ["vidkit", *(os.fspath(w) if isinstance(w, os.PathLike) else str(w) for w in words)]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """What `vidkit WORDS` ends with and prints."""
    capsys.readouterr()
    code = command(monkeypatch, *words)
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def stopped(*args: object, **more: object) -> None:
    """In the place of what takes long: Ctrl-C comes at once."""
    raise KeyboardInterrupt


def settings(pairs: list[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


#: Of an ablation or a study: one epoch of everything on that network.
MICRO = settings(
    [
        *(f"pretrain.{text}" for text in TINY),
        "pretrain.optim.epochs=1",
        "pretrain.optim.warmup_epochs=0",
        "pretrain.optim.batch_size=4",
        "pretrain.data.cache=none",
        "finetune.optim.epochs=1",
        "finetune.optim.warmup_epochs=0",
        "finetune.optim.batch_size=4",
        "finetune.data.cache=none",
        "test.views=[1, 1]",
    ]
)


@pytest.fixture
def vidkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs `vidkit ...` in an empty folder."""
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    before = signal.getsignal(signal.SIGTERM)
    yield lambda *words: said(monkeypatch, capsys, *words)
    signal.signal(signal.SIGTERM, before)

"""Every command of the guide is one that the command line takes, and does what the page says on generated data."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.typed import command
from tests.data import builds
from tests.data.builds import InProcess
from tests.guide.fences import DOCS, PAGES, READER, SHELL, Fence, commands, fences, named, tables
from tests.guide.places import APART, PLACES, Words, disk, told
from vidkit.cli.commands import BENCH, PANELS, Entry, load

ENTRIES: dict[str, Entry] = {name: entry for panel in PANELS.values() for name, entry in panel.items()}
BENCHES: dict[str, Entry] = {name: entry for panel in BENCH.values() for name, entry in panel.items()}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
#: Options in the text that are another program's.
OTHERS = {"--user", "--build-arg", "--no-compile", "--num-cpus", "--num-gpus", "--gpus", "--signal", "--requeue"}


@each_page
def test_blocks_say_what_becomes_of_them(page: Path) -> None:
    for fence in fences(page):
        if fence.language in SHELL:
            plain = fence.title == "" or fence.title.startswith(("needs ", "takes "))
            assert plain, f"{fence}: the title is {fence.title!r}; see tests/guide/fences.py"
        elif fence.language == "python":
            compile(fence.text, str(fence), "exec")


@each_page
def test_commands_exist(page: Path) -> None:
    """Names, options and types, by the parser that the commands themselves have. Nothing is run."""
    for fence in fences(page):
        if fence.language not in SHELL:
            continue
        for one in commands(fence):
            name, *words = one.words
            if name.startswith("-"):
                continue
            entry, table = ENTRIES.get(name), ENTRIES
            if name == "bench":
                (name, *words), table = words, BENCHES
                entry = table.get(name)
            assert entry is not None, f"{fence}: there is no `vidkit {name}`"
            try:
                load(name, entry).make_context(name, list(words))
            except click.ClickException as error:
                raise AssertionError(f"{fence}: vidkit {' '.join(one.words)}\n{error.format_message()}") from None


@pytest.fixture(scope="module")
def options() -> set[str]:
    every = [load(name, entry) for name, entry in [*ENTRIES.items(), *BENCHES.items()] if entry.module]
    known: set[str] = {"--help", "--version"}
    for one in every:
        known |= {opt for param in one.params for opt in (*param.opts, *param.secondary_opts)}
    return known


@each_page
def test_options_in_the_text_exist(page: Path, options: set[str]) -> None:
    for block in READER.parse(page.read_text(encoding="utf-8")):
        for token in block.children or []:
            if token.type == "code_inline":
                for word in token.content.split():
                    if word.startswith("--") and len(word) > 2:
                        name = word.split("=")[0].rstrip(",.;)")
                        assert name in options | OTHERS, f"{page.name}: there is no option {name}"


# --- run -------------------------------------------------------------------------------------------

#: What a reader of the guide has on the disk before the first command of a page.
FOLDERS = {
    "kinetics": "synth kinetics --out data/kinetics --clips 6 --classes 2 --frames 8 --size 64x48",
    "minikinetics": "synth minikinetics --out data/minikinetics --clips 4 --classes 2 --frames 8 --size 64x48",
    "ssv2": "synth ssv2 --out data/ssv2 --clips 4 --classes 2 --frames 8 --size 64x48",
    "tinyvirat": "synth tinyvirat-v1 --out data/tinyvirat --clips 6 --frames 8 --size 32x32",
    "ucf101": "synth ucf101 --out data/ucf101 --clips 6 --classes 2 --frames 8 --size 64x48",
    "hmdb51": "synth hmdb51 --out data/hmdb51 --clips 6 --classes 2 --frames 8 --size 64x48",
    "clips": "synth demo --out clips --clips 60 --frames 16",
    "demo": "build-dataset demo --demo clips --out demo",
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All of it, made once."""
    folder = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as patch:
        _quick(patch)
        patch.chdir(folder)
        for line in FOLDERS.values():
            assert command(patch, *line.split(), "--workers", "1") == 0, line
        lists = folder / "lists"
        shutil.copytree(folder / "clips", lists / "videos")
        videos = sorted(path.relative_to(lists).as_posix() for path in (lists / "videos").rglob("*.mp4"))
        names = sorted({Path(video).parent.name for video in videos})
        lines = [f"{video} {names.index(Path(video).parent.name)}\n" for video in videos]
        (lists / "train.csv").write_text("".join(lines), encoding="utf-8")
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        yield folder


def _quick(patch: pytest.MonkeyPatch) -> None:
    """Builds decode in this process: their children have tests of their own. No power is cut here."""
    patch.setattr("vidkit.data.build.executors.ClipWorker", InProcess)
    patch.setattr(os, "fsync", lambda handle: None)


def _runnable(page: Path, slow: bool) -> list[Fence]:
    return [
        fence
        for fence in fences(page)
        if fence.is_file or (fence.language in (*SHELL, "python") and not fence.needs and (slow or not fence.slow))
    ]


def _does_something(page: Path, slow: bool) -> bool:
    marks = [fence for fence in fences(page) if fence.language in SHELL and not fence.needs]
    return any(fence.slow for fence in marks) if slow else any(not fence.slow for fence in marks)


def follow(page: Path, before: Path, here: Path, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """As a reader would, from the top of the page to its end, in a folder of its own."""
    if page.name != "index.md":  # which begins with nothing
        shutil.copytree(before, here, dirs_exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    handler = signal.getsignal(signal.SIGTERM)
    with PLACES.get(page.name, disk)(here, monkeypatch) as ours:
        for fence in _runnable(page, slow):
            _follow(fence, here, ours, monkeypatch)
    signal.signal(signal.SIGTERM, handler)


def _follow(fence: Fence, here: Path, ours: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    if fence.is_file:
        (here / fence.title).write_text(fence.text, encoding="utf-8")
    elif fence.language == "python":
        names: dict[str, Any] = {"__name__": "guide"}
        exec(compile(told(fence.text, ours), str(fence), "exec"), names)
    else:
        for one in commands(fence):
            words = [found for word in one.words for found in _expanded(told(word, ours), here)]
            if fence.page.name in APART:
                done = builds.vidkit(*words)
                code, said = done.returncode, done.stderr
            else:
                code, said = command(monkeypatch, *words), ""
            assert code == 0 or one.anyway, f"{fence}: vidkit {' '.join(one.words)} ended with {code}\n{said}"


def _expanded(word: str, here: Path) -> list[str]:
    """As a shell does with `*`."""
    if "*" not in word:
        return [word]
    found = sorted(path.relative_to(here).as_posix() for path in here.glob(word))
    assert found, f"{word} is no file"
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if _does_something(p, False)], ids=lambda page: page.name)
def test_pages_can_be_followed(
    page: Path, before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _quick(monkeypatch)
    follow(page, before, tmp_path, monkeypatch, slow=False)


def test_dataset_json_is_as_the_page_on_formats_says(before: Path) -> None:
    """Here, where a dataset was built."""
    kinds = {int: "integer", str: "string", bool: "boolean", dict: "object", list: "array"}
    facts = json.loads((before / "demo" / "dataset.json").read_text(encoding="utf-8"))
    rows = tables(DOCS / "guide" / "formats.md")
    said = {named([row])[0]: row[1] for row in rows["dataset.json"]}
    assert set(said) == set(facts)
    for name, value in facts.items():
        assert said[name].startswith(kinds[type(value)]), name
    assert named(rows["label_map"]) == list(facts["label_map"])


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if _does_something(p, True)], ids=lambda page: page.name)
def test_pages_can_be_followed_to_their_end(
    page: Path, before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(page, before, tmp_path, monkeypatch, slow=True)

"""What holds for every command: help, examples, what a process imports, and how mistakes are told."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli.typed import Run
from tests.data import builds
from tests.data.builds import environment
from vidkit.cli.commands import BENCH, PANELS, Entry, load

COMMANDS = {name: entry for panel in PANELS.values() for name, entry in panel.items() if entry.module}
COMMANDS |= {f"bench {name}": entry for panel in BENCH.values() for name, entry in panel.items()}

each_command = pytest.mark.parametrize("name", COMMANDS)

#: Packages that no help may wait for.
SLOW = {
    *("torch", "torchvision", "timm", "pandas", "numpy", "scipy", "pyarrow", "webdataset"),
    *("av", "PIL", "matplotlib", "rich", "pydantic", "cattrs"),
}


def _imported(words: list[str], folder: Path) -> tuple[str, set[str]]:
    """What `vidkit WORDS` prints in a process of its own, and the modules that it imports."""
    code = "import sys; from vidkit.cli.app import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    got = builds.python(code, *words, cwd=folder)
    assert got.returncode == 0, got.stderr
    return got.stdout, set(got.stderr.split())


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("--help", None),
        ("--version", None),
        ("bench --help", None),
        ("build-dataset --help", "build-dataset"),
        ("fewshot --help", "fewshot"),
        ("bench regress --help", "bench regress"),
    ],
)
def test_help_imports_nothing_slow_and_no_other_command(words: str, needed: str | None, tmp_path: Path) -> None:
    """Time depends on the machine; what is imported does not, and is nearly all of the time."""
    said, modules = _imported(words.split(), tmp_path)
    assert said.strip()
    assert not modules & SLOW
    commands = {entry.module for entry in COMMANDS.values()} & modules
    assert commands == ({COMMANDS[needed].module} if needed else set())


def test_all_commands_together_import_nothing_slow(tmp_path: Path) -> None:
    names = sorted({entry.module for entry in COMMANDS.values()})
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    modules = set(got.stdout.split())
    assert not modules & SLOW
    ours = {name for name in modules if name.split(".")[0] == "vidkit" and not name.startswith("vidkit.cli")}
    assert ours == {"vidkit", "vidkit.errors", "vidkit.lazy"}


@each_command
def test_the_list_of_commands_says_what_the_help_says(name: str) -> None:
    entry = COMMANDS[name]
    text = inspect.getdoc(import_module(entry.module).run)
    assert text is not None
    assert " ".join(text.split("\n\n")[0].split()) == entry.about


@each_command
def test_help_ends_with_an_example_that_can_be_typed(name: str, vidkit: Run) -> None:
    entry = COMMANDS[name]
    example = import_module(entry.module).EXAMPLE
    said = vidkit(*name.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.rstrip().endswith(f"Example:\n    {example}")
    assert " ".join(said.out.split()).count(entry.about) == 1
    words = shlex.split(example)
    assert words[: 1 + len(name.split())] == ["vidkit", *name.split()]
    load(name, entry).make_context(name, words[1 + len(name.split()) :])  # parses, and would fail on a bad option


def test_panels_are_folders() -> None:
    folders = {"Datasets": "datasets", "Training": "training", "Few-shot": "fewshot", "Benchmarks": "bench"}
    for panel, folder in folders.items():
        for entry in PANELS[panel].values():
            assert not entry.module or entry.module.startswith(f"vidkit.cli.{folder}.")
    assert {entry.module for entry in PANELS["This machine"].values()} == {"vidkit.cli.doctor"}
    assert list(PANELS) == [*folders, "This machine"]


def test_help_lists_every_command_below_its_panel(vidkit: Run) -> None:
    said = vidkit("--help")
    assert said.code == 0
    at = [said.out.index(f"{panel}:\n") for panel in PANELS]
    assert at == sorted(at)
    for number, panel in enumerate(PANELS.values()):
        part = said.out[at[number] : at[number + 1] if number + 1 < len(at) else None]
        for name, entry in panel.items():
            assert f"\n  {name} " in part
            assert entry.about in " ".join(part.split())


def test_options_are_shown_by_panel(vidkit: Run) -> None:
    said = vidkit("fewshot", "--help").out
    part = said.partition("\nEpisodes:\n")[2].partition("\n\n")[0]
    for name in ("--way", "--shot", "--query", "--episodes-list"):
        assert f"  {name} " in part
    assert said.count("  --way ") == 1
    assert "\nOptions:\n  --data DIR" in said


@pytest.mark.parametrize("words", [[], ["bench"]])
def test_without_a_command_the_help_is_shown(words: list[str], vidkit: Run) -> None:
    said = vidkit(*words)
    assert (said.code, said.err) == (2, "")
    assert said.out == vidkit(*words, "--help").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["verfy"], "No such command 'verfy'. Did you mean 'verify'?"),
        (["bench", "loadr"], "No such command 'loadr'. Did you mean 'loader'?"),
        (["--nothing"], "No such option: --nothing"),
        (["verify"], "Missing argument 'DIR'"),
        (["evaluate", "--data"], "Option '--data' requires an argument"),
        (["convert", "a", "b"], "Missing option '--to'"),
    ],
)
def test_mistakes_exit_2(words: list[str], told: str, vidkit: Run) -> None:
    said = vidkit(*words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_the_version(vidkit: Run) -> None:
    import vidkit as package

    assert vidkit("--version") == (0, f"{package.__version__}\n", "")


def test_an_entry_without_a_module_is_a_group() -> None:
    group = load("bench", Entry("", "Measure."))
    assert sorted(group.list_commands(None)) == ["loader", "regress"]
    assert group.get_command(None, "verify") is None

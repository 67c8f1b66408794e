"""Who may import whom, held by a walk over the syntax trees; and what must stay light, by looking at imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.data.builds import environment
from vidkit.cli.commands import BENCH, PANELS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vidkit"

#: Lines of a module. One idea each; longer ones are two.
MOST_LINES = 450

#: Slow to import, and not needed by every command: only where tensors are the whole point.
HEAVY = {
    "torch",
    "torchvision",
    "pandas",
    "webdataset",
    "timm",
    "matplotlib",
    "scipy",
    "accelerate",
    "torchmetrics",
    "decord",
    "datasets",
    "jinja2",
    "yaml",
    "fsspec",
    "starlette",
    "uvicorn",
    "ray",
}
MAY_BE_HEAVY = ("vidkit.models.", "vidkit.train.", "vidkit.fewshot.", "vidkit.bench.")
#: but these, which lie within
LIGHT = ("vidkit.fewshot.episodes.",)
#: What a room is made of; it brings nothing else of the above.
MADE_OF = {"vidkit.view.web.": {"starlette", "uvicorn"}}

#: Modules of one folder. A room with more is two.
MOST_MODULES = 16

#: Rooms from the ground up, as the way of a clip has them. A room may import from those in the lines before its
#: own, and from no other in its line. A module is of the longest name here that holds it; `vidkit.data` itself is
#: for the few modules that lie there without a folder.
ROOMS = (
    ("vidkit.lazy", "vidkit.extras"),
    ("vidkit.errors", "vidkit"),
    ("vidkit.files", "vidkit.processor", "vidkit.cluster"),
    ("vidkit.settings",),
    ("vidkit.data.storage",),
    ("vidkit.data",),
    ("vidkit.data.media", "vidkit.data.packed"),
    ("vidkit.data.sources",),
    ("vidkit.data.plan",),
    ("vidkit.data.build",),
    ("vidkit.data.load", "vidkit.data.look", "vidkit.data.synth", "vidkit.data.verify"),
    ("vidkit.models",),
    ("vidkit.models.foreign", "vidkit.models.memory"),
    ("vidkit.train",),
    ("vidkit.train.features",),
    ("vidkit.train.probe",),
    ("vidkit.train.pretrain",),
    ("vidkit.fewshot.episodes",),
    ("vidkit.fewshot.inputs", "vidkit.fewshot.matchers"),
    ("vidkit.fewshot.learners",),
    ("vidkit.fewshot.selftest",),
    ("vidkit.fewshot",),
    ("vidkit.bench.measure",),
    ("vidkit.bench.rows",),
    ("vidkit.bench.ablate",),
    ("vidkit.bench.regress", "vidkit.bench.report"),
    ("vidkit.bench.studies",),
    ("vidkit.bench",),
    ("vidkit.view",),
    ("vidkit.doctor",),
    ("vidkit.cli",),
    ("vidkit.__main__",),
)


class Import(NamedTuple):
    module: str
    line: int
    at_top: bool
    """At module level, so that it runs whenever the module is imported."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file; those under `if TYPE_CHECKING` never run, and are left out."""

    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, at_top)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: a relative import"
                assert child.module is not None
                for alias in child.names:
                    longer = f"{child.module}.{alias.name}"
                    yield Import(longer if longer in MODULES else child.module, child.lineno, at_top)
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from walk(child, at_top and not inner)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
IMPORTS = {name: list(imports(path)) for name, path in MODULES.items()}


def where(name: str, line: int) -> str:
    return f"{MODULES[name].relative_to(ROOT)}:{line}"


def room(name: str) -> str:
    """The room of a module: the longest name in ROOMS that is it or holds it."""
    names = [known for line in ROOMS for known in line]
    fitting = [known for known in names if name == known or (known != "vidkit" and name.startswith(f"{known}."))]
    assert fitting, f"{name} is in no room: see ROOMS"
    return max(fitting, key=len)


def line_of(known: str) -> int:
    return next(number for number, line in enumerate(ROOMS) if known in line)


def own(name: str) -> list[Import]:
    return [item for item in IMPORTS[name] if item.module.split(".")[0] == "vidkit"]


def test_every_module_has_a_room_and_imports_exist() -> None:
    for known in (known for line in ROOMS for known in line):
        assert known in MODULES, f"{known} is no module any more: see ROOMS"
    for name in MODULES:
        room(name)
        for item in own(name):
            assert item.module in MODULES, f"{where(name, item.line)} imports {item.module}"


def test_imports_run_only_backwards() -> None:
    """So no two rooms can be in a circle: each import goes to an earlier line, or stays in its room."""
    for name in MODULES:
        mine = room(name)
        for item in own(name):
            theirs = room(item.module)
            assert theirs == mine or line_of(theirs) < line_of(mine), (
                f"{where(name, item.line)}: {mine} looks ahead to {item.module}"
            )


def test_no_room_is_crowded() -> None:
    for folder in sorted({path.parent for path in MODULES.values()}):
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES, f"{folder.relative_to(ROOT)} has {len(modules)} modules: two rooms"


def test_every_room_says_what_it_is_for() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name} has no docstring"


def test_data_and_models_never_meet() -> None:
    for name in MODULES:
        for item in own(name):
            for one, other in (("vidkit.data", "vidkit.models"), ("vidkit.models", "vidkit.data")):
                assert not (name.startswith(one) and item.module.startswith(other)), where(name, item.line)


def _has_no_circle(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {name: {item.module for item in own(name) if item.at_top and item.module != name} for name in MODULES}
    _has_no_circle({name: {other for other in others if other in MODULES} for name, others in graph.items()})


def test_no_command_needs_itself_by_a_detour() -> None:
    """There nearly every import is within a function, which hides a circle from Python, not from readers."""
    names = {name for name in MODULES if name.startswith("vidkit.cli.")}
    graph = {name: {item.module for item in own(name)} & names - {name} for name in names}
    _has_no_circle(graph)


def test_heavy_modules_are_imported_where_they_are_used() -> None:
    for name in MODULES:
        if f"{name}.".startswith(MAY_BE_HEAVY) and not f"{name}.".startswith(LIGHT):
            continue
        own_stuff = next((of for start, of in MADE_OF.items() if name.startswith(start)), set[str]())
        for item in IMPORTS[name]:
            heavy = item.module.split(".")[0] in HEAVY - own_stuff
            assert not (heavy and item.at_top), f"{where(name, item.line)}: {item.module} at module level"


def test_commands_import_in_their_bodies() -> None:
    """At the top of a command's module, and of whatever that imports at its top: errors, options, helpers."""
    commands = {entry.module for panels in (PANELS, BENCH) for panel in panels.values() for entry in panel.values()}
    todo, seen = {"vidkit.cli.app", *commands} - {""}, set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        for item in IMPORTS[name]:
            if not item.at_top:
                continue
            if item.module.split(".")[0] == "vidkit":
                light = {"vidkit", "vidkit.errors", "vidkit.extras", "vidkit.lazy"}
                fine = item.module in light or item.module.startswith("vidkit.cli")
                assert fine, f"{where(name, item.line)}: {item.module} at module level"
                todo |= {item.module} - seen
            else:
                package = item.module.split(".")[0]
                assert package == "typer" or package in sys.stdlib_module_names, where(name, item.line)


def test_every_command_is_in_the_table() -> None:
    """Who has an EXAMPLE is a command; commands are called `run`, and lie in modules with plain names."""
    table = {entry.module for panels in (PANELS, BENCH) for panel in panels.values() for entry in panel.values()}
    found = set()
    for name, path in MODULES.items():
        if name.startswith("vidkit.cli."):
            assert not path.name.startswith("_") or path.name == "__init__.py", f"{name}: a plain name"
            body = ast.parse(path.read_text(encoding="utf-8")).body
            given = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}  # type: ignore[attr-defined]
            if "EXAMPLE" in given:
                assert any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in body), name
                found.add(name)
    assert found == table - {""}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines; split it"


def test_importing_data_is_light(tmp_path: Path) -> None:
    """All of data in one process: none of it brings torch or pandas along."""
    names = [name for name in MODULES if name.startswith(("vidkit.data", "vidkit.fewshot.episodes"))]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_broad_except_swallows() -> None:
    """`except Exception` and bare ones either raise again or turn the exception into something that is kept."""
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            if broad:
                assert not all(isinstance(line, (ast.Pass, ast.Continue)) for line in node.body), where(
                    name, node.lineno
                )
                assert node.type is not None, where(name, node.lineno)

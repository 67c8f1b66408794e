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
    "accelerate",
    "torchmetrics",
    "decord",
}
MAY_BE_HEAVY = ("vidkit.models.", "vidkit.train.", "vidkit.bench.")

#: Layers from the ground up. A module may import from its own layer and from those before it.
LAYERS = (
    ("vidkit", "vidkit.errors"),
    (
        "vidkit.config",
        "vidkit.model_config",
        "vidkit.train_config",
        "vidkit.settings",
        "vidkit.recipes",
        "vidkit.ablation_config",
    ),
    ("vidkit.data", "vidkit.models"),
    ("vidkit.train",),
    ("vidkit.bench",),
    ("vidkit.doctor",),
    ("vidkit.commands",),
    (
        "vidkit.cli",
        "vidkit.cli_train",
        "vidkit.cli_models",
        "vidkit.cli_fewshot",
        "vidkit.cli_bench",
        "vidkit.cli_options",
    ),
    ("vidkit.__main__",),
)

#: Within data, the way from annotations to a built dataset: nothing looks ahead.
DATA_ORDER = (
    ("vidkit.data.paths", "vidkit.data.tables", "vidkit.data.manifests", "vidkit.data.progress"),
    ("vidkit.data.sources",),
    ("vidkit.data.labels",),
    ("vidkit.data.composite",),
    ("vidkit.data.layout", "vidkit.data.shards", "vidkit.data.dataset"),
    ("vidkit.data.planning",),
    ("vidkit.data.frame_index",),
    ("vidkit.data.media",),
    ("vidkit.data.transcode",),
    ("vidkit.data.transcode_ffmpeg",),
    ("vidkit.data.clip_worker",),
    ("vidkit.data.make_shard",),
    ("vidkit.data.card",),
    ("vidkit.data.state",),
    ("vidkit.data.build",),
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


def position(name: str, order: tuple[tuple[str, ...], ...]) -> int | None:
    """The layer of a module: that of the longest name which is it, or holds it."""
    fitting = [
        (len(prefix), i)
        for i, layer in enumerate(order)
        for prefix in layer
        if name == prefix or (prefix != "vidkit" and name.startswith(prefix + "."))
    ]
    return max(fitting)[1] if fitting else None


def own(name: str) -> list[Import]:
    return [item for item in IMPORTS[name] if item.module.split(".")[0] == "vidkit"]


def test_every_module_has_a_layer_and_imports_exist() -> None:
    for name in MODULES:
        assert position(name, LAYERS) is not None, f"{name} is in no layer: see LAYERS"
        for item in own(name):
            assert item.module in MODULES, f"{where(name, item.line)} imports {item.module}"


def test_imports_run_only_backwards() -> None:
    for name in MODULES:
        mine = position(name, LAYERS)
        for item in own(name):
            theirs = position(item.module, LAYERS)
            assert mine is not None
            assert theirs is not None
            assert theirs <= mine, f"{where(name, item.line)}: {name} looks ahead to {item.module}"


def test_data_and_models_never_meet() -> None:
    for name in MODULES:
        for item in own(name):
            for one, other in (("vidkit.data", "vidkit.models"), ("vidkit.models", "vidkit.data")):
                assert not (name.startswith(one) and item.module.startswith(other)), where(name, item.line)


def test_the_way_through_data_has_one_direction() -> None:
    placed = {prefix for layer in DATA_ORDER for prefix in layer}
    assert placed <= set(MODULES), "a module was renamed: see DATA_ORDER"
    for name in MODULES:
        mine = position(name, DATA_ORDER)
        for item in own(name) if mine is not None else []:
            theirs = position(item.module, DATA_ORDER)
            assert theirs is None or mine is None or theirs <= mine, (
                f"{where(name, item.line)}: {name} looks ahead to {item.module}"
            )


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {name: {item.module for item in own(name) if item.at_top and item.module != name} for name in MODULES}
    graph = {name: {other for other in others if other in MODULES} for name, others in graph.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_heavy_modules_are_imported_where_they_are_used() -> None:
    for name in MODULES:
        if f"{name}.".startswith(MAY_BE_HEAVY):
            continue
        for item in IMPORTS[name]:
            heavy = item.module.split(".")[0] in HEAVY
            assert not (heavy and item.at_top), f"{where(name, item.line)}: {item.module} at module level"


def test_the_command_line_imports_in_its_bodies() -> None:
    modules = [name for name in MODULES if name.startswith("vidkit.cli")]
    for name in modules:
        for item in IMPORTS[name]:
            if item.at_top and item.module.startswith("vidkit"):
                assert item.module in {"vidkit.errors", "vidkit", *modules}, where(name, item.line)


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name: str) -> None:
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines; split it"


def test_importing_data_is_light(tmp_path: Path) -> None:
    """All of data in one process: none of it brings torch or pandas along."""
    names = [name for name in MODULES if name.startswith("vidkit.data")]
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

"""`import vidkit` and `import vidkit.settings`: light, and every name leads to what it says."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import types
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import vidkit
import vidkit.data
import vidkit.settings
from tests.data.builds import check_whole, environment, listed_spec, listed_tree
from vidkit.errors import ConfigError

PACKAGES = (vidkit, vidkit.data, vidkit.settings)
NAMES = [(package, name) for package in PACKAGES for name in package._HOMES]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=lambda value: getattr(value, "__name__", value))
def test_every_name_leads_to_a_documented_thing(package: types.ModuleType, name: str) -> None:
    found = getattr(package, name)
    home = package._HOMES[name].partition(":")
    module = importlib.import_module(f"{package.__name__}.{home[0]}")
    assert found is getattr(module, home[2] or name)
    assert getattr(package, name) is found
    assert name in dir(package) or package is vidkit.data
    if callable(found) and package is not vidkit.settings:
        assert inspect.getdoc(found)
    # what a type checker believes is what happens
    source = Path(str(package.__file__)).read_text(encoding="utf-8")
    assert f"from {module.__name__} import {home[2] or name} as {name}\n" in source


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_name_that_is_not_there(package: types.ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing


def test_all_settings_are_there() -> None:
    """Each public dataclass of a module of settings, and the recipes."""
    homes = vidkit.settings._HOMES
    for path in sorted(Path(str(vidkit.settings.__file__)).parent.glob("*.py")):
        module = importlib.import_module(f"vidkit.settings.{path.stem}") if path.stem != "__init__" else None
        for name, found in vars(module).items() if module else ():
            if is_dataclass(found) and isinstance(found, type) and found.__module__ == module.__name__:
                assert homes.get(name) == path.stem or name == "Faults", f"{module.__name__}.{name}"


def test_importing_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import vidkit, vidkit.settings, vidkit.data\n"
        "print(*sorted(name for name in set(sys.modules) - before if name.partition('.')[0] == 'vidkit'))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - {*sys.stdlib_module_names, 'vidkit'}))\n"
        "vidkit.plan, vidkit.build, vidkit.VidkitError, vidkit.RECIPES\n"
        "print(*sorted({'torch', 'torchvision', 'pandas', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    got = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    ours, others, heavy = got.stdout.split("\n")[:3]
    assert ours.split() == ["vidkit", "vidkit.data", "vidkit.lazy", "vidkit.settings"]
    assert not {"numpy", "pyarrow", "av", "cattrs", "rich", "torch"} & set(others.split())
    assert heavy == "", "building by a script is as light as by the command"


def test_from_clips_to_batches_by_a_script(tmp_path: Path) -> None:
    listed_tree(tmp_path / "t", 8, missing=1, broken=1)
    planned = vidkit.plan(listed_spec(tmp_path), {"lists": str(tmp_path / "t")}, frames=3)
    assert planned.table.num_rows == 8
    built = vidkit.build(planned, tmp_path / "out", quiet=True)
    assert built.made == 8
    assert {row["frames"] for row in check_whole(tmp_path / "out") if row["status"] == "ok"} == {3}
    assert vidkit.build(planned, str(tmp_path / "out"), quiet=True).made == 0
    assert vidkit.verify(str(tmp_path / "out")).ok
    assert vidkit.open_dataset(str(tmp_path / "out")).facts["counts"]["ok"] == 4
    clips = vidkit.ClipDataset(tmp_path / "out", "train", frames=2, stride=1, size=32)
    shapes = [batch.video.shape for batch in vidkit.ClipLoader(clips, batch_size=2)]
    assert shapes[0] == (2, 3, 2, 32, 32)


@pytest.mark.parametrize(
    ("spec", "folders", "how", "message"),
    [
        ("k4", {"kinetics": "."}, {}, "k4"),
        ("k400", {}, {}, "no source of k400 was found"),
        ("k400", {"ssv2": "."}, {}, "k400 has no source 'ssv2'"),
        ("k400", {"kinetics": "nowhere"}, {}, "nowhere is no folder"),
        ("demo", {"demo": "."}, {"transcoder": "magic"}, "'magic'; expected pyav or ffmpeg"),
    ],
)
def test_a_plan_that_cannot_be(
    spec: str,
    folders: dict[str, str],
    how: dict[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        vidkit.plan(spec, folders, **how)


def test_sources_that_are_not_named_are_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command looks under ./data; a script gets what it says."""
    (tmp_path / "data/kinetics").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no source of k400 was found"):
        vidkit.plan("k400", {})

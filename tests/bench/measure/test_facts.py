"""Machine facts: complete, plain, and silent about whose machine it is."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common
from tests.data.builds import environment
from vidkit.bench.measure import facts

ROOT = Path(__file__).resolve().parents[3]


def test_machine_is_plain_and_names_nobody() -> None:
    found = facts.machine()
    assert list(found) == ["cpu", "cores", "memory_gb", "os", "python", "vidkit", "git", "load_average"]
    text = json.dumps(found)
    assert platform.node() not in text
    assert str(ROOT) not in text
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0


def test_benchmarks_say_the_same_and_add_their_own() -> None:
    ours, theirs = facts.machine(), common.machine()
    assert list(theirs) == [*list(ours)[:-1], "pyav", "encoder", "load_average"]
    assert {name: theirs[name] for name in list(ours)[:-1]} == {name: ours[name] for name in list(ours)[:-1]}


def test_versions_are_those_imported() -> None:
    import numpy
    import torch

    found = facts.versions()
    assert set(found) == set(facts.PACKAGES)
    assert found["numpy"] == numpy.__version__
    assert found["torch"] is not None
    assert torch.__version__.startswith(found["torch"].split("+")[0])


def test_an_absent_package_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "PACKAGES", ("no-such-package-anywhere",))
    assert facts.versions() == {"no-such-package-anywhere": None}


def test_facts_are_light(tmp_path: Path) -> None:
    code = "import sys, vidkit.bench.measure.facts as f; f.machine(); f.versions(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr


def test_accelerator_matches_torch() -> None:
    import torch

    found = facts.accelerator()
    assert (found is not None) == torch.cuda.is_available()


@pytest.fixture
def copy_of_facts(tmp_path: Path) -> Path:
    """A vidkit of five files, to be run as if it were installed there."""
    package = tmp_path / "place" / "vidkit"
    (package / "bench" / "measure").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "0"\n')
    for room in ("bench", "bench/measure"):
        (package / room / "__init__.py").write_text("")
    for name in ("processor.py", "bench/measure/facts.py"):
        shutil.copy(ROOT / "vidkit" / name, package / name)
    return package.parent


def commit_said_at(folder: Path) -> str:
    code = "from vidkit.bench.measure import facts; print(facts.git_commit())"
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_commit_is_the_packages_own(copy_of_facts: Path) -> None:
    """None outside a checkout and in another project's; the commit in its own, with its changes."""

    def git(*words: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *settings, *words], cwd=copy_of_facts, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert commit_said_at(copy_of_facts) == "None"
    git("init", "-q")
    (copy_of_facts / "other.txt").write_text("someone else's project\n")
    git("add", "other.txt")
    git("commit", "-qm", "other")
    assert commit_said_at(copy_of_facts) == "None"
    git("add", "vidkit")
    git("commit", "-qm", "vidkit")
    commit = git("rev-parse", "HEAD")
    assert commit_said_at(copy_of_facts) == commit
    (copy_of_facts / "other.txt").write_text("not the package\n")
    assert commit_said_at(copy_of_facts) == commit
    (copy_of_facts / "vidkit" / "__init__.py").write_text('__version__ = "1"\n')
    assert commit_said_at(copy_of_facts) == commit + "+changes"

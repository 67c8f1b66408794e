"""What the package says of its extras holds: a base install does without them, and names the one that lacks."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import builds
from vidkit.extras import EXTRAS, extra_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Extras for work on vidkit itself.
OURS = {"dev", "docs"}
#: Distributions whose module is called otherwise, or that bring the module along.
MODULES = {"ffmpeg-python": "ffmpeg", "imageio-ffmpeg": "imageio_ffmpeg", "fsspec[http]": "aiohttp"}

#: A process in which nothing of an extra can be found or imported.
BARE = f"""
import importlib.util, sys
GONE = {sorted({name for extra in EXTRAS.values() for name in extra.modules})!r}
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in GONE else real(name, package)
from vidkit.cli.app import main
"""


def distribution(requirement: str) -> str:
    return re.split(r"[><=!;\s]", requirement, maxsplit=1)[0]


@pytest.mark.parametrize("name", sorted(set(PROJECT["optional-dependencies"]) - OURS))
def test_each_extra_brings_what_the_table_says(name: str) -> None:
    brought = {distribution(one) for one in PROJECT["optional-dependencies"][name]}
    assert {MODULES.get(one, one) for one in brought} == set(EXTRAS[name].modules)


def test_dev_has_every_extra_that_it_can_test() -> None:
    """So that `make test` skips nothing; a store at a cloud's own service cannot be had here."""
    (line,) = (one for one in PROJECT["optional-dependencies"]["dev"] if one.startswith("vidkit["))
    named = set(line.removeprefix("vidkit[").rstrip("]").split(","))
    assert set(PROJECT["optional-dependencies"]) - {"dev", "gcs", "http"} <= named


def test_modules_belong_to_extras() -> None:
    assert extra_of("torch.utils.data") == "train"
    assert extra_of("imageio_ffmpeg") == "ffmpeg"
    assert extra_of("numpy") is None
    assert extra_of(None) is None
    base = {distribution(one) for one in PROJECT["dependencies"]}
    assert not base & {name for extra in EXTRAS.values() for name in extra.modules}


def bare(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return builds.python(f"{BARE}\nmain()", *words, cwd=cwd)


def test_a_base_install_builds_and_verifies(tmp_path: Path) -> None:
    """The whole way of the data, in processes that find none of the extras."""
    for words in (
        "synth demo --out clips --clips 24 --frames 8 --workers 1",
        "build-dataset demo --demo clips --out demo --workers 1",
        "verify demo --workers 1",
        "inspect demo --sheet sheet.png --clips 4",
    ):
        got = bare(*words.split(), cwd=tmp_path)
        assert got.returncode == 0, f"{words}\n{got.stdout}{got.stderr}"
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    got = bare("pretrain", "--data", "demo", "--out", "run", "--recipe", "tiny", cwd=tmp_path)
    assert got.returncode == 1
    words = 'vidkit: this needs torch, which is not installed\n  -> pip install "vidkit[train]"\n'
    assert got.stderr.endswith(words)


def test_another_module_that_lacks_is_a_bug_and_no_advice(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None\nfrom vidkit.cli.app import main\nmain()"
    got = builds.python(code, "inspect", ".", cwd=tmp_path)
    assert got.returncode == 1
    assert "Traceback" in got.stderr
    assert "pip install" not in got.stderr


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    import vidkit

    try:
        installed = importlib.metadata.version("vidkit")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vidkit is not installed, only on the path")
    assert installed == vidkit.__version__

"""`vidkit view` as it is typed: the address it prints, how it ends, and what it says where something lacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.cli.typed import Run
from tests.data import builds
from vidkit.data.manifests import load_spec


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    spec = load_spec(builds.listed_spec(folder))
    prepared = builds.plan(spec, builds.listed_tree(folder / "clips", clips=4))
    builds.run(prepared, folder / "data")
    return folder / "data"


def test_it_serves_until_it_is_stopped(data: Path, tmp_path: Path) -> None:
    before = builds.snapshot(data)
    process = subprocess.Popen(
        builds.command("view", data, "--port", "0"),
        env=builds.environment(VIDKIT_CACHE=str(tmp_path), DISPLAY="", WAYLAND_DISPLAY=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        there, _, token = address.partition("/?token=")
        assert len(token) > 20
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{there}/d/0/rows", timeout=20)
        ours = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        ours.open(f"{there}/d/0/rows?token={token}", timeout=20).close()
        with ours.open(f"{there}/d/0/rows", timeout=20) as answer:
            assert json.load(answer)["total"] == 4
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "Stop with Ctrl-C.\n")
    assert builds.snapshot(data) == before, "nothing in the dataset is changed"


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(data: Path, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['view', {os.fspath(data)!r}]; "
    code += "from vidkit.cli.app import main; main()"
    done = builds.python(code)
    assert done.returncode == 2
    assert done.stderr == f'vidkit: `vidkit view` needs {package}\n  -> pip install "vidkit[view]"\n'


def test_folders_with_nothing_to_see(vidkit: Run, tmp_path: Path) -> None:
    said = vidkit("view", tmp_path / "none")
    assert (said.code, "there is no" in said.err) == (2, True)
    said = vidkit("view", tmp_path)
    assert (said.code, "nothing to look at" in said.err) == (2, True)


def test_a_port_that_is_taken(vidkit: Run, data: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = vidkit("view", data, "--port", port)
    assert (said.code, f"port {port} cannot be had" in said.err) == (2, True)

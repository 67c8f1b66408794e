"""Addresses: what they name, what they show, and what is wrong with them. No server is asked."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from vidkit.data.storage.places import StorePath, is_address, on_disk, place
from vidkit.errors import ConfigError, DatasetError


def test_paths_stay_paths(tmp_path: Path) -> None:
    assert place(tmp_path) == tmp_path
    assert place("a b/c:d") == Path("a b/c:d")
    assert place("file:///data/k%20400") == Path("/data/k 400")
    assert not is_address(r"C:\data")
    with on_disk(tmp_path / "x") as path:
        assert path == tmp_path / "x"


def test_an_address_is_shown_without_secrets() -> None:
    at = place("s3://user:pass@word@bucket/a/k400/")
    assert isinstance(at, StorePath)
    assert (str(at), at.key, at.name) == ("s3://bucket/a/k400", "bucket/a/k400", "k400")
    signed = place("https://user:pw@host:8080/k400?sig=abc%2F")
    assert isinstance(signed, StorePath)
    assert str(signed / "train/0.tar") == "https://host:8080/k400/train/0.tar"
    assert (signed / "train/0.tar").key == "https://user:pw@host:8080/k400/train/0.tar?sig=abc%2F"
    for shown in (repr(at), repr(signed / "x"), str(DatasetError("bad", file=at)), f"{signed}"):
        assert not any(secret in shown for secret in ("pass", "word", "pw", "sig", "abc"))
    assert pickle.loads(pickle.dumps(signed)) == signed


def test_an_address_that_went_through_a_path_is_mended() -> None:
    """`Path` folds the two slashes into one, and settings and options often hold one."""
    assert place(Path("s3://bucket/k400")) == place("s3://bucket/k400")
    assert place(Path("https://host/k400") / "x") == place("https://host/k400/x")


@pytest.mark.parametrize("text", ["s3://", "s3:///k400", "https://?sig=1"])
def test_an_address_names_a_bucket_or_host(text: str) -> None:
    with pytest.raises(ConfigError, match="names no bucket and no host"):
        place(text)


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="nosuch:// is no kind of address") as caught:
        place("nosuch://bucket/k400").is_file()
    assert "s3://" in str(caught.value)


def test_local_paths_never_load_fsspec(whole: Path) -> None:
    code = (
        "import sys; from vidkit.data.dataset import open_dataset; from vidkit.data.verify.dataset import verify;"
        f"open_dataset({str(whole)!r}).ledger(); from vidkit.data.look.inspect import summarise;"
        f"summarise({str(whole)!r}); print('fsspec' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

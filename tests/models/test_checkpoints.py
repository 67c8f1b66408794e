"""vidkit's own checkpoints: what comes back, what is refused and in which words, and what a crash leaves."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.test_adamae import MINI, build, clips
from vidkit.errors import ConfigError, TrainingError
from vidkit.models import checkpoints
from vidkit.models.checkpoints import Checkpoint
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import SIZES, ClassifierConfig, ViTConfig

SMALL = ClassifierConfig(encoder=MINI.encoder, classes=5, drop_path=0.2)
FACTS = {"step": 7, "epoch": 1, "classes": ["a", "b"], "metrics": {"top1": 0.5}, "rule": None, "ok": True}


@pytest.fixture
def whole() -> Checkpoint:
    """Weights with an optimiser that has taken a step."""
    model = build(MINI)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(clips(MINI), torch.Generator().manual_seed(0)).loss.backward()
    optimiser.step()
    training = {"optimizer": optimiser.state_dict(), "ema": None, "loader": {"epoch": 1, "at": (3, 4)}}
    return Checkpoint(config=MINI, model=model.state_dict(), facts=FACTS, training=training)


@pytest.fixture
def path(tmp_path: Path, whole: Checkpoint) -> Path:
    checkpoints.save(tmp_path / "last.pt", whole)
    return tmp_path / "last.pt"


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def test_everything_comes_back(path: Path, whole: Checkpoint) -> None:
    found = checkpoints.load(path, training=True)
    assert (found.kind, found.config, found.facts) == ("adamae", MINI, FACTS)
    assert equal(found.model, dict(whole.model))
    assert equal(found.training, whole.training)
    assert not list(path.parent.glob("*.part"))


def test_without_training_the_optimiser_stays_on_disk(path: Path, whole: Checkpoint) -> None:
    found = checkpoints.load(str(path))
    assert found.training is None
    assert equal(found.model, dict(whole.model))
    assert "0." not in repr(found)
    assert f"{whole.parameters:,} parameters" in repr(found)


def test_the_model_computes_what_it_did(path: Path) -> None:
    before = torch.random.get_rng_state()
    model = checkpoints.build(checkpoints.load(path))
    assert torch.equal(before, torch.random.get_rng_state())
    trained = build(MINI)
    trained.load_state_dict(checkpoints.load(path).model)
    video = clips(MINI)
    keep = trained.eval()(video, torch.Generator().manual_seed(1)).keep
    assert torch.equal(model.eval()(video, keep_BV=keep).loss, trained(video, keep_BV=keep).loss)


def test_a_model_outlives_its_file(path: Path) -> None:
    """Weights are read from the file when they are used; a model has its own."""
    model = checkpoints.build(checkpoints.load(path))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    path.write_bytes(b"\0" * path.stat().st_size)
    assert equal(dict(model.state_dict()), kept)


def test_classifier(tmp_path: Path) -> None:
    model = VideoClassifier(SMALL)
    checkpoints.save(tmp_path / "best.pt", Checkpoint(config=SMALL, model=model.state_dict(), facts={}))
    found = checkpoints.load(tmp_path / "best.pt", training=True)
    again = checkpoints.build(found)
    assert (found.kind, found.config, found.training) == ("classifier", SMALL, None)
    assert torch.equal(again.eval()(clips(MINI)), model.eval()(clips(MINI)))


@pytest.mark.parametrize("name", SIZES)
def test_every_config_comes_back(tmp_path: Path, name: str) -> None:
    config = SIZES[name]()
    config = replace(config, encoder=replace(config.encoder, pixel_mean=(0.1, 0.2, 0.3), tokenizer="spt"))
    checkpoints.save(tmp_path / "a.pt", Checkpoint(config=config, model={}, facts={}))
    assert checkpoints.load(tmp_path / "a.pt").config == config


def test_a_view_is_stored_without_the_rest(tmp_path: Path) -> None:
    rows = torch.zeros(1000, 1000)
    checkpoints.save(tmp_path / "a.pt", Checkpoint(config=MINI, model={"x": rows[:2]}, facts={}))
    assert (tmp_path / "a.pt").stat().st_size < 50_000


# --- what cannot be written ---


@pytest.mark.parametrize(
    ("facts", "training", "where"),
    [
        ({"metrics": {"top1": np.float64(0.5)}}, None, r"facts\['metrics'\]\['top1'\] is a numpy.float64"),
        ({"where": Path("x")}, None, r"facts\['where'\] is a pathlib"),
        ({"t": torch.zeros(1)}, None, r"facts\['t'\] is a torch.Tensor"),
        ({}, {"loader": [0, np.zeros(2)]}, r"training\['loader'\]\[1\] is a numpy.ndarray"),
        ({}, {"args": argparse.Namespace()}, r"training\['args'\] is a argparse.Namespace"),
        ({}, {(1, 2): 0}, r"training has the key \(1, 2\)"),
    ],
)
def test_values_that_could_not_be_read_back(
    tmp_path: Path, facts: dict[str, Any], training: dict[str, Any] | None, where: str
) -> None:
    with pytest.raises(TypeError, match=where):
        checkpoints.save(tmp_path / "a.pt", Checkpoint(config=MINI, model={}, facts=facts, training=training))
    assert not list(tmp_path.iterdir())


def test_a_crash_before_the_rename_leaves_the_old_one(
    path: Path, whole: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        patched.setattr(Path, "unlink", killed)  # a killed process tidies nothing up
        with pytest.raises(Killed):
            checkpoints.save(path, replace(whole, facts={"step": 8}))
    assert path.with_name("last.pt.part").exists()
    assert checkpoints.load(path).facts["step"] == 7
    checkpoints.save(path, replace(whole, facts={"step": 8}))
    assert checkpoints.load(path).facts["step"] == 8
    assert os.listdir(path.parent) == ["last.pt"]


def test_synced_before_it_is_renamed(path: Path, whole: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    sync, rename = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        sync(handle)

    def replaced(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    checkpoints.save(path, whole)
    assert order == ["file", "rename", "folder"]


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room(path: Path, whole: Checkpoint) -> None:
    """torch's writer is interrupted by a real error of the file system."""
    with largest_file(10_000), pytest.raises(TrainingError, match="cannot write: File too large") as caught:
        checkpoints.save(path, replace(whole, facts={"step": 8}))
    assert "make room" in str(caught.value)
    assert checkpoints.load(path).facts["step"] == 7
    assert os.listdir(path.parent) == ["last.pt"]


def test_disk_full_at_the_end(path: Path, whole: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        checkpoints.save(path, whole)
    assert os.listdir(path.parent) == ["last.pt"]


def test_no_folder(tmp_path: Path, whole: Checkpoint) -> None:
    with pytest.raises(TrainingError, match="No such file or directory\n  -> make the folder"):
        checkpoints.save(tmp_path / "no" / "last.pt", whole)


# --- what cannot be read ---


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.pt: cannot be read: No such file"):
        checkpoints.load(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_cut_off(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for training in (False, True):
        with pytest.raises(
            ConfigError, match=r"last.pt: the file is cut off or damaged: .*\n  -> copy or download"
        ):
            checkpoints.load(path, training=training)
    assert not checkpoints.is_own(path)


@pytest.mark.parametrize("text", ["", "step,loss\n1,0.5\n", "PK"])
def test_no_checkpoint(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.pt").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"log.pt: (is empty|is no file that torch.save wrote); expected"):
        checkpoints.load(tmp_path / "log.pt")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(tmp_path: Path, whole: Checkpoint, zipped: bool) -> None:
    value = {"vidkit": 1, "model": {}, "facts": Bomb(tmp_path / "ran")}
    torch.save(value, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=r"bad\.pt: .*(posix|nt)\.system") as caught:
        checkpoints.load(tmp_path / "bad.pt")
    assert "torch.save(model.state_dict()" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_plain_pickle(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"x": Bomb(tmp_path / "ran")}))
    with pytest.raises(ConfigError, match=r"bad\.pt: "):
        checkpoints.load(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


def test_arguments_are_not_restored_here(tmp_path: Path) -> None:
    torch.save({"vidkit": 1, "args": argparse.Namespace(lr=1)}, tmp_path / "bad.pt")
    with pytest.raises(ConfigError, match=r"have to run code to be restored: argparse\.Namespace"):
        checkpoints.load(tmp_path / "bad.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vidkit": 2}, r"field 'vidkit': was written in format 2; this vidkit reads up to format 1\n  -> update"),
        ({"vidkit": "x"}, "was written in format 'x'"),
        ({"kind": "mann"}, "kind is 'mann'; expected adamae or classifier"),
        ({"model": None}, "'model' is missing or no dict"),
        ({"facts": []}, "'facts' is missing or no dict"),
        ({"config": {"encoder": {"widht": 3}}}, r"field 'config': bad AdaMAEConfig: .*widht"),
        ({"config": {"encoder": {"heads": 7}}}, "heads is 7"),
    ],
)
def test_contents(path: Path, change: dict[str, Any], message: str) -> None:
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ConfigError, match=message) as caught:
        checkpoints.load(path)
    assert caught.value.file == str(path)


def test_another_project(tmp_path: Path) -> None:
    torch.save({"model": {"encoder.norm.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(
        ConfigError, match=r"no checkpoint of vidkit's\n  -> for one of .*vidkit convert .*other.pth"
    ):
        checkpoints.load(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match=r"no checkpoint of vidkit's$"):
        checkpoints.load(tmp_path / "list.pt")
    assert not checkpoints.is_own(tmp_path / "other.pth")


def test_own(path: Path) -> None:
    assert checkpoints.is_own(path)
    torch.save({"vidkit": 99}, path)
    assert checkpoints.is_own(path)


def test_weights_that_do_not_fit_are_all_listed(whole: Checkpoint) -> None:
    model = dict(whole.model)
    del model["head.bias"], model["encoder.1.norm1.weight"]
    model["extra"] = torch.zeros(1)
    model["mask_token"] = torch.zeros(3)
    with pytest.raises(ConfigError) as caught:
        checkpoints.build(replace(whole, model=model))
    for line in (
        "head.bias: missing",
        "encoder.1.norm1.weight: missing",
        "extra: not in this model",
        "mask_token: shape (3,), the model's is (24,)",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize("name", SIZES)
def test_expected_shapes_cost_nothing(name: str) -> None:
    config = SIZES[name]()
    shapes = checkpoints.expected_shapes(config)
    assert shapes["encoder_norm.weight"] == (config.encoder.width,)
    assert shapes["sampler.positions"] == (config.encoder.tokens, config.encoder.width)


def test_expected_shapes_are_those_of_the_model() -> None:
    for encoder in (MINI.encoder, replace(MINI.encoder, tokenizer="spt", attention="lsa"), ViTConfig(depth=1)):
        config = ClassifierConfig(encoder=encoder, classes=3)
        state = VideoClassifier(config).state_dict()
        assert checkpoints.expected_shapes(config) == checkpoints.shapes_of(state)


@pytest.mark.skipif(sys.platform == "win32", reason="paths that are no text")
def test_paths_that_are_no_text(tmp_path: Path, whole: Checkpoint) -> None:
    odd = tmp_path / os.fsdecode(b"a\xff.pt")
    checkpoints.save(odd, whole)
    assert checkpoints.load(odd).facts == FACTS


def test_damage_within_the_weights(path: Path) -> None:
    """The file opens and every number in it can be read: only the checksum tells."""
    whole = path.read_bytes()
    weight = checkpoints.load(path).model["head.weight"].clone()
    at = whole.index(weight.numpy().tobytes()[:64])
    path.write_bytes(whole[:at] + bytes(16) + whole[at + 16 :])
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["head.weight"], weight)
    for training in (False, True):
        with pytest.raises(
            ConfigError, match=r"the file is damaged: .*/data/\d+ is not what was written"
        ) as caught:
            checkpoints.load(path, training=training)
        assert caught.value.hint == "copy it again, or take an earlier checkpoint"

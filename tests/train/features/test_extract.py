"""Features of a dataset against a plain loop over its clips, and what becomes of a file that cannot be finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.cli.training import extract as command
from vidkit.data import ClipDataset
from vidkit.data.shards import sha256_file
from vidkit.errors import ConfigError, DatasetError, TrainingError, VidkitError
from vidkit.train.features import extract
from vidkit.train.features.file import open_features
from vidkit.train.features.readout import Reading, tokens_at

CLASSES = {"a": 0, "b": 1, "c": 2}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits, with a clip that failed and one without a label."""
    clips = [Clip(labels=(small.NAMES[i % 3],), first=i % 4, frames=12 + i % 3) for i in range(7)]
    clips[2:2] = [Clip(labels=("a",), status="failed"), Clip(labels=(), first=9, frames=12)]
    clips += [Clip(labels=("b",), split="test", first=i, frames=12) for i in range(3)]
    return build(tmp_path_factory.mktemp("data") / "d", clips)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    folder = tmp_path_factory.mktemp("ckpt")
    return {
        "adamae": (folder / "a.pt", saved.adamae(folder / "a.pt")),
        "classifier": (folder / "c.pt", saved.classifier(folder / "c.pt")),
    }


def run(built: Path, checkpoint: Path, out: Path, **more: Any) -> dict[str, Any]:
    how: dict[str, Any] = {"workers": 0, "device": "cpu", "quiet": True}
    return extract.run(built, checkpoint, out, **how | more)


def load(path: Path, layer: int = 2, norm: bool = True, **more: Any) -> Any:
    return open_features(path).load(Reading(layer, norm), **more)


def expected(
    built: Path, model: Any, split: str, reading: Reading, views: tuple[int, int] = (1, 1)
) -> torch.Tensor:
    """One clip after the other, mean and deviation over space by loops: (n, T, 2 D)."""
    how: dict[str, Any] = {"frames": 4, "stride": 2, "mode": "views", "size": 32}
    dataset = ClipDataset(built, split, views=views, **how)
    rows = []
    with torch.no_grad():
        for i in range(len(dataset)):
            (tokens_RTSD,) = tokens_at(model, dataset[i].video, (reading,))
            each = [[[step.mean(0), step.std(0, correction=0)] for step in view] for view in tokens_RTSD]
            rows.append(torch.stack([torch.stack([torch.cat(pair) for pair in view]) for view in each]).mean(dim=0))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["adamae", "classifier"])
@pytest.mark.parametrize("views", [(1, 1), (2, 1)])
def test_against_a_plain_loop(
    built: Path, models: dict[str, Any], tmp_path: Path, kind: str, views: tuple[int, int]
) -> None:
    path, model = models[kind]
    facts = run(built, path, tmp_path / "f.parquet", views=views)
    assert facts["clips"] == {"train": 8, "test": 3}
    assert (facts["steps"], facts["width"], facts["readout"]) == (2, 64, "slots-std")
    for layer in (1, 2):
        for norm in (False, True):
            found = load(tmp_path / "f.parquet", layer, norm)
            reading = Reading(layer, norm)
            wanted = torch.cat([expected(built, model, split, reading, views) for split in ("train", "test")])
            np.testing.assert_allclose(found.array, wanted, rtol=1e-3, atol=1e-3)  # half precision
            assert np.ptp(found.array, axis=0).max() > 1e-3, "clips differ"
    assert found.keys == tuple(f"{i:08d}" for i in (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11))
    assert found.class_ids.tolist() == [0, 1, -1, 2, 0, 1, 2, 0, 1, 1, 1]
    assert found.labels[:4] == ((0,), (1,), (), (2,))
    assert found.split.tolist() == ["train"] * 8 + ["test"] * 3
    assert load(tmp_path / "f.parquet", splits=["test"]).keys == found.keys[8:]
    table = pq.read_table(tmp_path / "f.parquet")
    columns = ["layer01", "layer01-norm", "layer02", "layer02-norm"]
    assert table.column_names == ["key", "clip_id", "split", "class_id", "labels", *columns]
    assert table["clip_id"].to_pylist() == [f"made/{int(key)}" for key in found.keys]
    assert table["class_id"].null_count == 1
    assert table.schema.field("layer02").type == pa.list_(pa.float16(), 2 * 64)


def test_the_file_says_where_it_comes_from(built: Path, models: dict[str, Any], tmp_path: Path) -> None:
    path, _ = models["adamae"]
    run(built, path, tmp_path / "new" / "f.parquet", splits=["test"], views=(2, 1), stride=3)
    facts = open_features(tmp_path / "new" / "f.parquet").facts
    described = json.loads((built / "dataset.json").read_text())
    assert facts["dataset"] == "tiny"
    assert facts["label_map_sha256"] == described["label_map"]["sha256"]
    assert facts["checkpoint_sha256"] == sha256_file(path)[0]
    assert (facts["checkpoint"], facts["checkpoint_kind"]) == ("a.pt", "adamae")
    assert (facts["views"], facts["stride"], facts["splits"]) == ([2, 1], 3, ["test"])
    assert facts["ledger_sha256"] == sha256_file(built / "clips.parquet")[0]
    assert facts["shards_sha256"] == sha256_file(built / "shards.json")[0]
    assert facts["classes"] == list(small.NAMES)
    assert facts["vidkit"]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (100, 0), (4, 2)])
def test_batches_and_workers_change_nothing(
    built: Path, models: dict[str, Any], tmp_path: Path, batch_size: int, workers: int
) -> None:
    path, _ = models["adamae"]
    run(built, path, tmp_path / "one.parquet")
    run(built, path, tmp_path / "other.parquet", batch_size=batch_size, workers=workers, views=(1, 1))
    one, other = load(tmp_path / "one.parquet"), load(tmp_path / "other.parquet")
    assert one.keys == other.keys
    np.testing.assert_allclose(one.array, other.array, rtol=1e-3, atol=1e-3)


def test_the_same_call_writes_the_same_bytes(built: Path, models: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(built, models["classifier"][0], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_row_groups(built: Path, models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = models["adamae"]
    run(built, path, tmp_path / "one.parquet", batch_size=2)
    monkeypatch.setattr(extract, "GROUP", 3)
    run(built, path, tmp_path / "many.parquet", batch_size=2)
    groups = pq.ParquetFile(tmp_path / "many.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 4, 3]
    one, many = load(tmp_path / "one.parquet"), load(tmp_path / "many.parquet")
    assert one.keys == many.keys
    assert np.array_equal(one.class_ids, many.class_ids)
    assert np.array_equal(one.array, many.array)


def test_several_labels_have_no_class(models: dict[str, Any], tmp_path: Path) -> None:
    built = small.dataset(tmp_path / "d", train=3, val=2, rule="multi-hot")
    run(built, models["classifier"][0], tmp_path / "f.parquet")
    found = load(tmp_path / "f.parquet")
    assert found.class_ids.tolist() == [-1] * 5
    assert found.labels[:2] == ((0,), (1, 2))


# --- what cannot be ------------------------------------------------------------------------------


def test_a_clip_that_cannot_be_decoded(models: dict[str, Any], tmp_path: Path) -> None:
    clips = [Clip(labels=("a",), frames=12) for _ in range(5)]
    built = build(tmp_path / "d", [*clips, Clip(labels=("b",), payload=b"\0" * 2000)])
    out = tmp_path / "out" / "f.parquet"
    out.parent.mkdir()
    for before in (None, b"older features"):
        if before is not None:
            out.write_bytes(before)
        with pytest.raises(
            DatasetError, match=r"could not be decoded: dataset 'tiny', shard train/000001.tar, .*made/5"
        ):
            run(built, models["adamae"][0], out, batch_size=2)
        left = [path.read_bytes() for path in out.parent.iterdir()]
        assert left == ([] if before is None else [before])


def test_features_that_are_not_finite(built: Path, tmp_path: Path) -> None:
    saved.adamae(tmp_path / "a.pt")
    saved.change(tmp_path / "a.pt", "encoder_norm.bias", float("inf"))
    with pytest.raises(TrainingError, match=r"not finite: dataset 'tiny', shard train/000000.tar, key 00000000"):
        run(built, tmp_path / "a.pt", tmp_path / "f.parquet")
    assert not list(tmp_path.glob("f.parquet*"))


def test_splits_and_places(built: Path, models: dict[str, Any], tmp_path: Path) -> None:
    path, out = models["adamae"][0], tmp_path / "f.parquet"
    run(built, path, out, splits=["test", "train"])
    assert open_features(out).facts["splits"] == ["train", "test"], "in the order of the dataset"
    for splits, match in ((["val"], "no usable clip in split 'val'"), (["x"], "splits are x"), ([], "none")):
        with pytest.raises(VidkitError, match=match):
            run(built, path, tmp_path / "g.parquet", splits=splits)
    with pytest.raises(ConfigError, match="expected some of train, val, test, each once"):
        run(built, path, tmp_path / "g.parquet", splits=["test", "test"])
    with pytest.raises(ConfigError, match="is a folder"):
        run(built, path, tmp_path)
    with pytest.raises(VidkitError, match=r"cannot write: (Not a directory|File exists)"):
        run(built, path, out / "g.parquet")
    with pytest.raises(ConfigError, match="batch_size"):
        run(built, path, tmp_path / "g.parquet", batch_size=0)
    assert [p.name for p in tmp_path.iterdir()] == ["f.parquet"]


def test_what_is_no_file_of_features(built: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the file is not there"):
        open_features(tmp_path / "none.parquet")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(DatasetError, match="damaged features"):
        open_features(tmp_path / "text")
    with pytest.raises(DatasetError, match="not a file of features"):
        open_features(built / "clips.parquet")


def test_features_of_something_else(built: Path, models: dict[str, Any], tmp_path: Path) -> None:
    path, out = models["adamae"][0], tmp_path / "f.parquet"
    run(built, path, out, splits=["train"], layers=[1], norms=[True], readout="slots")
    file = open_features(out)
    other = small.dataset(tmp_path / "other", train=3, val=2)
    with pytest.raises(DatasetError, match=r"features of another dataset: 'tiny', ledger_sha256 \w{12}; that of"):
        file.check(data=other)
    file.check(data=built, splits=["train"], reading=Reading(1), readout="mean")
    with pytest.raises(DatasetError, match="no features of split 'test'; there are train"):
        file.load(splits=["test"])
    with pytest.raises(
        ConfigError, match=r"no features of layer 2; there are layer 1, norm\n  -> extract them again"
    ):
        file.load(Reading(2, norm=False))
    with pytest.raises(ConfigError, match="are the read-out 'slots', of which 'slots-std' cannot be made"):
        file.load(readout="slots-std")
    assert file.load(readout="mean").array.shape == (8, 1, 32)
    with pytest.raises(ConfigError, match="layers are 3; the encoder has layers 1 to 2, each at most once"):
        run(built, path, out, layers=[3])
    with pytest.raises(ConfigError, match="read-out is 'max'; expected one of mean, mean-std, slots, slots-std"):
        run(built, path, out, readout="max")
    old = pq.read_table(out)
    facts = {**file.facts, "format": 1}
    pq.write_table(old.replace_schema_metadata({b"vidkit": json.dumps(facts)}), out)
    with pytest.raises(DatasetError, match=r"in format 1; this vidkit reads format 2\n  -> extract them again"):
        open_features(out)


def test_size_and_time_are_said_before_the_work(
    built: Path, models: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = models["adamae"][0], []
    run(
        built,
        path,
        tmp_path / "f.parquet",
        tell=lambda text: said.append((text, (tmp_path / "f.parquet").exists())),
    )
    assert len(said) == 1
    assert said[0][0].startswith("11 clips x 4 readings x 2 steps x 64 numbers: up to 0.0 MB, in about ")
    assert said[0][1] is False
    monkeypatch.setattr(extract.shutil, "disk_usage", lambda path: type("Free", (), {"free": 100}))
    with pytest.raises(ConfigError, match=r"the features take up to 0\.0 GB, and the disk has 0\.0 GB left"):
        run(built, path, tmp_path / "g.parquet")
    assert not (tmp_path / "g.parquet").exists()


def test_numbers_too_large_for_half_precision(built: Path, tmp_path: Path) -> None:
    saved.adamae(tmp_path / "a.pt")
    saved.change(tmp_path / "a.pt", "encoder.1.mlp.fc2.bias", 1e6)
    with pytest.raises(TrainingError, match=r"features of layer 2 are too large for float16 \(1e\+06\): dataset"):
        run(built, tmp_path / "a.pt", tmp_path / "f.parquet")
    assert run(built, tmp_path / "a.pt", tmp_path / "f.parquet", norms=[True])["steps"] == 2


def test_the_command(
    built: Path, models: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"views": "2x1", "batch_size": 4, "workers": 0, "device": "cpu"}
    path, out = models["classifier"][0], tmp_path / "f.parquet"
    assert command.run(built, path, out, layers="1,2", norm="after", **how) == 0
    said = capsys.readouterr()
    columns = "layer01-norm, layer02-norm"
    assert said.out == (
        f"{out}: slots-std of {columns}, 2 steps x 64 numbers each, for 11 clips (train 8, test 3)\n"
    )
    assert said.err.startswith("11 clips x 2 readings x 2 steps x 64 numbers: up to 0.0 MB, in about ")
    assert command.run(built, path, out, readout="mean", as_json=True, **how) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["clips"], found["steps"], found["width"]) == ({"train": 8, "test": 3}, 1, 32)
    assert found["views"] == [2, 1]
    with pytest.raises(ConfigError, match="norm is 'no'; expected before, after or both"):
        command.run(built, path, out, norm="no", **how)

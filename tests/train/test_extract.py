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
from vidkit.models.classifier import VideoClassifier
from vidkit.models.layers import run_blocks
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import MaskConfig
from vidkit.train import extract
from vidkit.train.extract import feature_facts, load_features

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


def expected(built: Path, model: Any, split: str, views: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """One clip after the other."""
    how: dict[str, Any] = {"frames": 4, "stride": 2, "mode": "views", "size": 32}
    dataset = ClipDataset(built, split, views=views, **how)
    with torch.no_grad():
        return torch.stack([model.features(dataset[i].video).mean(dim=0) for i in range(len(dataset))])


@pytest.mark.parametrize("kind", ["adamae", "classifier"])
@pytest.mark.parametrize("views", [(1, 1), (2, 1)])
def test_against_a_plain_loop(
    built: Path, models: dict[str, Any], tmp_path: Path, kind: str, views: tuple[int, int]
) -> None:
    path, model = models[kind]
    facts = run(built, path, tmp_path / "f.parquet", views=views)
    assert facts["clips"] == {"train": 8, "test": 3}
    assert facts["width"] == small.VIT.width
    keys, class_ids, array = load_features(tmp_path / "f.parquet")
    wanted = torch.cat([expected(built, model, split, views) for split in ("train", "test")]).numpy()
    np.testing.assert_allclose(array, wanted, atol=2e-6)
    assert np.ptp(array, axis=0).max() > 1e-3, "clips differ"
    assert keys == tuple(f"{i:08d}" for i in (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11))
    assert class_ids.tolist() == [0, 1, -1, 2, 0, 1, 2, 0, 1, 1, 1]
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["key", "clip_id", "split", "class_id", "feature"]
    assert table["clip_id"].to_pylist() == [f"made/{int(key)}" for key in keys]
    assert table["split"].to_pylist() == ["train"] * 8 + ["test"] * 3
    assert table["class_id"].null_count == 1
    assert table.schema.field("feature").type == pa.list_(pa.float32(), small.VIT.width)


def test_the_file_says_where_it_comes_from(built: Path, models: dict[str, Any], tmp_path: Path) -> None:
    path, _ = models["adamae"]
    run(built, path, tmp_path / "new" / "f.parquet", splits=["test"], views=(2, 1), stride=3)
    facts = feature_facts(tmp_path / "new" / "f.parquet")
    described = json.loads((built / "dataset.json").read_text())
    assert facts["dataset"] == "tiny"
    assert facts["label_map_sha256"] == described["label_map"]["sha256"]
    assert facts["checkpoint_sha256"] == sha256_file(path)[0]
    assert (facts["checkpoint"], facts["checkpoint_kind"]) == ("a.pt", "adamae")
    assert (facts["views"], facts["stride"], facts["splits"]) == ([2, 1], 3, ["test"])
    assert facts["vidkit"]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 1), (100, 0), (4, 2)])
def test_batches_and_workers_change_nothing(
    built: Path, models: dict[str, Any], tmp_path: Path, batch_size: int, workers: int
) -> None:
    path, _ = models["adamae"]
    run(built, path, tmp_path / "one.parquet")
    run(built, path, tmp_path / "other.parquet", batch_size=batch_size, workers=workers, views=(1, 1))
    one, other = load_features(tmp_path / "one.parquet"), load_features(tmp_path / "other.parquet")
    assert one.keys == other.keys
    np.testing.assert_allclose(one.array, other.array, atol=2e-6)


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
    one, many = load_features(tmp_path / "one.parquet"), load_features(tmp_path / "many.parquet")
    assert one.keys == many.keys
    assert np.array_equal(one.class_ids, many.class_ids)
    assert np.array_equal(one.array, many.array)


def test_several_labels_have_no_class(models: dict[str, Any], tmp_path: Path) -> None:
    built = small.dataset(tmp_path / "d", train=3, val=2, rule="multi-hot")
    run(built, models["classifier"][0], tmp_path / "f.parquet")
    assert load_features(tmp_path / "f.parquet").class_ids.tolist() == [-1] * 5


# --- the encoder of a masked autoencoder ---------------------------------------------------------


def test_nothing_is_masked(models: dict[str, Any], tmp_path: Path) -> None:
    """The blocks over all tokens, as the classifier that takes them over runs them; then the model's own norm."""
    model = models["adamae"][1]
    video = torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    taken = VideoClassifier(models["classifier"][1].config).eval()
    taken.load_encoder(model.state_dict())
    with torch.no_grad():
        tokens = taken.tokenizer(taken.tokenizer.inputs(video, patchify(video, small.VIT)))
        wanted = model.encoder_norm(run_blocks(taken.encoder, tokens + taken.positions)).mean(dim=1)
        torch.testing.assert_close(model.features(video), wanted)
        assert torch.equal(model.features(video), model.features(video)), "nothing is drawn"
        other = saved.adamae(tmp_path / "o.pt", mask=MaskConfig(strategy="frame", ratio=0.5))
        other.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("sampler.")})
        assert torch.equal(other.features(video), model.features(video))
    with pytest.raises(ConfigError, match="clips have shape"):
        model.features(video[:, :, :2])


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
    assert feature_facts(out)["splits"] == ["train", "test"], "in the order of the dataset"
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
        load_features(tmp_path / "none.parquet")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(DatasetError, match="damaged features"):
        load_features(tmp_path / "text")
    with pytest.raises(DatasetError, match="not a file of features"):
        feature_facts(built / "clips.parquet")


def test_the_command(
    built: Path, models: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"splits": None, "views": "2x1", "stride": None, "batch_size": 4, "workers": 0}
    how |= {"device": "cpu"}
    path, out = models["classifier"][0], tmp_path / "f.parquet"
    assert command.run(built, path, out, **how, as_json=False) == 0
    assert capsys.readouterr().out == f"{out}: 32 numbers for each of 11 clips (train 8, test 3)\n"
    assert command.run(built, path, out, **how, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["clips"], said["width"], said["views"]) == ({"train": 8, "test": 3}, 32, [2, 1])

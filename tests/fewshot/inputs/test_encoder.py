"""Clips in memory, encoders to start from, and what few-shot learners need of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.tinyset import Clip, build
from tests.fewshot.made import config, encoder, features
from tests.train import saved, small
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, DatasetError
from vidkit.fewshot import evaluate as fewshot
from vidkit.fewshot.episodes.class_split import ClassSplit, split_classes
from vidkit.fewshot.episodes.draw import LabelledClips, open_labelled
from vidkit.fewshot.inputs.encoder import RANDOM, open_encoder, random_checkpoint
from vidkit.fewshot.inputs.features import ClipFeatures, clip_features
from vidkit.fewshot.inputs.pixels import ClipPixels, class_rows, load_pixels, meta_splits_needed
from vidkit.settings.fewshot import ALL_BLOCKS, FewshotConfig
from vidkit.settings.plain import from_plain, to_plain
from vidkit.train.inference import views_of

# --- clips in memory ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of three clips over two splits, with a clip that failed and one without a label."""
    made = [
        Clip(labels=(f"c{i}",), split=part, first=40 * i + k, frames=10)
        for part, several in (("train", (0, 1)), ("test", (2,)))
        for i in range(6)
        for k in several
    ]
    made[3:3] = [Clip(labels=("c1",), status="failed"), Clip(labels=(), first=300, frames=10)]
    return build(tmp_path_factory.mktemp("data") / "d", made)


def test_clips_in_memory_are_what_feature_extraction_sees(built: Path) -> None:
    clips = open_labelled(built, ("test", "train"))
    split = split_classes(clips, shares=(0.34, 0.33, 0.33))
    views = views_of({"stride": 2})
    found = load_pixels(clips, split, ("val", "test"), small.VIT, views, workers=0, batch_size=5, quiet=True)
    wanted = class_rows(clips, [*split.val, *split.test]).tolist()
    assert len(wanted) == 12
    assert (found.place >= 0).nonzero().flatten().tolist() == wanted
    assert found.video.shape == (12, 3, 4, 32, 32)
    for row in wanted:
        part, number = clips.place(row)
        dataset = ClipDataset(built, part, frames=4, stride=2, mode="views", size=32)
        assert torch.equal(found.take(torch.tensor([row])), dataset[number].video)
    with pytest.raises(IndexError, match="are not held in memory"):
        found.take(class_rows(clips, split.train)[:1])


def test_clips_that_do_not_fit_into_memory_are_told_before_any_is_read(built: Path) -> None:
    clips = open_labelled(built)
    split = split_classes(clips, shares=(0.34, 0.33, 0.33))
    with pytest.raises(ConfigError) as raised:
        load_pixels(clips, split, ("val", "test"), small.VIT, views_of({}), limit=12 * 12288 - 1, quiet=True)
    assert (
        "the 12 clips of meta-val, meta-test as 4 frames of 32 x 32 pixels take 147,456 bytes; the limit is "
        "147,455 bytes" in str(raised.value)
    )
    assert "use fewer clips or classes (--splits, --class-split), an encoder for smaller" in str(raised.value)
    found = load_pixels(clips, split, ("val", "test"), small.VIT, views_of({}), limit=12 * 12288, quiet=True)
    assert len(found.video) == 12


def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    made = [Clip(labels=(f"c{i % 4}",), first=i, frames=10) for i in range(8)]
    made[5] = replace(made[5], payload=b"no video")
    clips = open_labelled(build(tmp_path / "d", made))
    split = split_classes(clips, shares=(0.0, 0.5, 0.5))
    with pytest.raises(DatasetError, match=r"a clip could not be decoded: .*made/5"):
        load_pixels(clips, split, ("val", "test"), small.VIT, views_of({}), workers=0, quiet=True)


def test_which_clips_learners_need() -> None:
    assert meta_splits_needed(config("proto", "mann")) == ()
    assert meta_splits_needed(config("proto", "scratch")) == ("val", "test")
    assert meta_splits_needed(config("proto", tune=ALL_BLOCKS)) == ("train", "val", "test")


# --- encoders ----------------------------------------------------------------------------------------------------


def test_a_random_encoder_is_small_and_the_same_for_a_seed(built: Path) -> None:
    clips = open_labelled(built)
    one, again, other = (random_checkpoint(clips, seed) for seed in (0, 0, 1))
    assert one.config.encoder.size == 64
    assert all(torch.equal(one.model[name], again.model[name]) for name in one.model)
    assert not torch.equal(one.model["encoder.0.mlp.fc1.weight"], other.model["encoder.0.mlp.fc1.weight"])
    found = clip_features(clips, RANDOM, workers=0, quiet=True)
    assert (found.name, found.checkpoint_sha256, found.array.shape[1:]) == ("random", None, (4, 192))
    source = open_encoder(clips, RANDOM)
    dataset = ClipDataset(built, "train", frames=8, mode="segments", training=False, size=64)
    with torch.no_grad():
        expected = source.features(source.build(), dataset[4].video)[0]
    np.testing.assert_allclose(found.flat[4], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("stored", "size"), [(20, 16), (63, 48), (224, 64), (15, None)])
def test_a_random_encoder_fits_the_stored_size(built: Path, tmp_path: Path, stored: int, size: int | None) -> None:
    root = tmp_path / "d"
    root.mkdir()
    facts = json.loads((built / "dataset.json").read_text())
    facts["settings"]["encode.size"] = stored
    (root / "dataset.json").write_text(json.dumps(facts))
    for name in ("clips.parquet", "shards.json"):
        (root / name).write_bytes((built / name).read_bytes())
    clips = open_labelled(root)
    if size is None:
        with pytest.raises(ConfigError, match="stores 15 x 15 pixels; the smallest network here takes 16"):
            open_encoder(clips, RANDOM)
    else:
        assert open_encoder(clips, RANDOM).vit.size == size


def test_classes_that_an_encoder_learned_are_told_by_name(built: Path, tmp_path: Path) -> None:
    clips = open_labelled(built)
    model = saved.classifier(tmp_path / "c.pt")
    saved.save(tmp_path / "c.pt", model, {"classes": ["c1", "other"], "rule": "single", "label_map_sha256": "x"})
    assert open_encoder(clips, tmp_path / "c.pt").classes == ("c1", "other")
    saved.adamae(tmp_path / "a.pt", facts={"classes": ["c1"]})
    assert open_encoder(clips, tmp_path / "a.pt").classes == ()  # saw no labels
    saved.save(tmp_path / "c.pt", model, {"stride": 2})
    with pytest.raises(ConfigError, match="was trained with labels and does not say which"):
        open_encoder(clips, tmp_path / "c.pt")
    sets = [Clip(labels=(name,), frames=10) for name in ("run", "jump+run", "jump+sit", "sit")]
    other = open_labelled(build(tmp_path / "sets", sets))
    saved.save(tmp_path / "c.pt", model, {"classes": ["run", "jump"], "rule": "multi-hot"})
    assert open_encoder(other, tmp_path / "c.pt").classes == ("jump+run", "run")


# --- bad input ---------------------------------------------------------------------------------------------------


def test_settings_of_networks_are_checked() -> None:
    with pytest.raises(ConfigError) as raised:
        config("nn", "mann", tune=2, finetune_rates=(0.2, 0.1), layer_decay=0.0, tune_episodes=1, tune_steps=-1)
    for part in (
        "tune is 2; expected 0 with nn: it is for proto, cosine, trx, mann, blackbox, maml",
        "finetune_rates is (0.2, 0.1); expected numbers above 0, each larger than the one before",
        "layer_decay",
        "tune_episodes is 1; expected at least 2",
        "tune_steps is -1",
    ):
        assert part in str(raised.value)
    with pytest.raises(ConfigError, match="tune is -2; expected a number of blocks from 0, or -1 for all"):
        config("proto", tune=-2)
    kept = config("proto", tune=ALL_BLOCKS)
    assert from_plain(FewshotConfig, to_plain(kept)) == kept
    with pytest.raises(ConfigError, match="expected 0 with linear, finetune, scratch: it is for proto"):
        config("linear", "finetune", "scratch", tune=ALL_BLOCKS)


def test_what_learners_need_must_be_there(clips: LabelledClips, split: ClassSplit, pixels: ClipPixels) -> None:
    source = encoder()
    found = features(pixels, source)

    def message(settings: FewshotConfig, found: ClipFeatures | None, **given: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            fewshot.evaluate(clips, found, split, settings, **given)
        return str(raised.value)

    both: dict[str, Any] = {"encoder": source, "pixels": pixels}
    assert "scratch needs an encoder and the clips themselves" in message(config("scratch"), None)
    assert "tune needs an encoder and the clips" in message(config("proto", tune=1), found, encoder=source)
    assert "proto learns from features, and there are none" in message(config("scratch", "proto"), None, **both)
    untrained = replace(source, name=RANDOM)
    said = message(config("finetune"), None, encoder=untrained, pixels=pixels)
    assert 'this one has random weights\n  -> from random weights it is "scratch"' in said
    other = encoder(name="b.pt")
    said = message(config("proto", tune=1), found, encoder=other, pixels=pixels)
    assert "features are slots-std of layer 3, norm of 'a.pt'; the encoder to be trained gives slots-std of" in said
    assert "tune is 5; the encoder has 3 blocks" in message(config("proto", tune=5), found, **both)
    longer = replace(pixels, video=pixels.video.repeat(1, 1, 2, 1, 1))
    said = message(config("scratch"), None, encoder=source, pixels=longer)
    assert "clips in memory are (3, 4, 16, 16); the encoder takes (3, 2, 16, 16)" in said
    assert "7-way episodes need 7 classes" in message(config("scratch", way=7), None, **both)
    assert "with 8 clips (6 support, 2 query) each" in message(config("scratch", shot=6), None, **both)

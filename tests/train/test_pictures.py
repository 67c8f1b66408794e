"""Mask pictures: every pixel of the rows against slow loops, the files that come out, and what cannot be drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.tinyset import Clip, build
from tests.train import saved, small
from vidkit.cli.training import masks as command
from vidkit.data import ClipDataset
from vidkit.errors import ConfigError, DatasetError, VidkitError
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE, Reconstruction
from vidkit.models.masking import mask_generator, num_visible
from vidkit.settings.model import MaskConfig, SamplerConfig, ViTConfig
from vidkit.train import pictures
from vidkit.train.drawing import Block, Row, draw_gif, heat
from vidkit.train.pictures import GREY, chosen, mask_picture, rows_of

SCALE = 4  # of clips of 32 pixels to tiles of 128


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d", train=1, val=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AdaMAE]:
    path = tmp_path_factory.mktemp("ckpt") / "a.pt"
    return path, saved.adamae(path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """What was last asked to be drawn."""
    found: list[Block] = []

    def spy(blocks: Any, title: str) -> bytes:
        found[:] = blocks
        return b"picture"

    monkeypatch.setitem(pictures.FORMATS, ".png", spy)
    return found


def val(built: Path) -> ClipDataset:
    return ClipDataset(built, "val", frames=4, stride=2, mode="views", size=32)


def draw(checkpoint: Path, out: Path, **more: Any) -> Any:
    return mask_picture(checkpoint, out, **{"device": "cpu"} | more)


# --- rows ----------------------------------------------------------------------------------------


def reconstruction(model: AdaMAE, built: Path, clip: int = 2, seed: int = 0) -> Reconstruction:
    return model.predict(val(built)[clip].video, mask_generator(seed, clip, 0))


def test_rows_pixel_by_pixel(model: tuple[Path, AdaMAE], built: Path) -> None:
    seen = reconstruction(model[1], built)
    rows = {row.name: row for row in rows_of(seen)}
    assert list(rows) == ["video", "prediction", "error", "probability", "mask"]
    assert all(row.frames.shape == (4, 128, 128, 3) and row.frames.dtype == np.uint8 for row in rows.values())
    stored = val(built)[2].video[0].permute(1, 2, 3, 0).numpy()
    assert seen.probability is not None
    error, probability = seen.error[0], seen.probability[0]
    hidden = error[~seen.visible[0]]
    ranges = {
        "error": (float(hidden.min()), float(hidden.max())),
        "probability": (float(probability.min()), float(probability.max())),
    }
    for name, (low, high) in ranges.items():
        assert rows[name].caption == f"{low:.2g} to {high:.2g}"
        assert low < high
    guess = seen.reconstruction[0]
    for f in range(4):
        for y in range(0, 128, 3):
            for x in range(0, 128, 5):
                pixel, token = (f, y // SCALE, x // SCALE), (f // 2, y // SCALE // 8, x // SCALE // 8)
                was = {name: row.frames[f, y, x].tolist() for name, row in rows.items()}
                assert was["video"] == stored[pixel].tolist()
                predicted = guess[:, pixel[0], pixel[1], pixel[2]].clamp(0, 1) * 255
                assert np.abs(np.array(was["prediction"]) - predicted.numpy()).max() <= 0.51
                low, high = ranges["probability"]
                share = (float(probability[token]) - low) / (high - low)
                assert np.abs(np.array(was["probability"], int) - heat(np.array(share))).max() <= 1
                if seen.visible[0][token]:
                    assert was["prediction"] == was["mask"] == was["video"]
                    assert was["error"] == [128, 128, 128]
                else:
                    low, high = ranges["error"]
                    share = (float(error[token]) - low) / (high - low)
                    assert np.abs(np.array(was["error"], int) - heat(np.array(share))).max() <= 1
                    greyed = 0.85 * 128 + 0.15 * stored[pixel].astype(float)
                    assert np.abs(np.array(was["mask"]) - greyed).max() <= 0.51


def test_an_even_distribution_has_one_colour(model: tuple[Path, AdaMAE], built: Path) -> None:
    seen = reconstruction(model[1], built)
    even = Reconstruction(
        video=seen.video,
        reconstruction=seen.reconstruction * 9 - 4,
        error=seen.error * 0,
        visible=seen.visible,
        target=seen.target,
        probability=torch.full_like(seen.error, 1 / 32),
    )
    rows = {row.name: row for row in rows_of(even)}
    assert (rows["probability"].frames == heat(np.array(0.0))).all()
    assert rows["probability"].caption == "0.031 to 0.031"
    assert rows["prediction"].frames.min() == 0, "cut, not wrapped"


def test_what_is_dropped_is_grey(model: tuple[Path, AdaMAE], built: Path) -> None:
    seen = reconstruction(model[1], built)
    target = seen.target.clone()
    target[:, 0] = False
    rows = {row.name: row for row in rows_of(replace(seen, target=target))}
    dropped = ~seen.visible.flatten().numpy()
    first = rows["prediction"].frames[0]
    grid = seen.visible.shape[-1]
    side = first.shape[0] // grid
    corners = first[::side, ::side].reshape(-1, 3)[dropped[: grid * grid]]
    assert len(corners) > 0
    assert (corners == GREY).all()
    assert rows["mask"].caption.endswith(f"visible, {float(target.float().mean()):.1%} predicted")


def test_heat() -> None:
    colours = heat(np.linspace(0, 1, 257)).astype(int)
    assert colours[0, 2] > colours[0, 0] + 50, "blue"
    assert colours[-1, 0] > colours[-1, 2] + 50, "red"
    assert np.abs(np.diff(colours, axis=0)).max() <= 4, "no jumps"
    assert len(np.unique(colours, axis=0)) > 200, "different numbers look different"
    assert heat(np.array([-3.0, 0.0, 1.0, 9.0])).tolist() == [colours[i].tolist() for i in (0, 0, -1, -1)]


def test_one_clip_of_each_class_first() -> None:
    class_id = np.array([0] * 50 + [1] * 3 + [2])
    for seed in range(20):
        assert class_id[chosen(class_id, 3, seed)].tolist() == [0, 1, 2]
        assert class_id[chosen(class_id, 5, seed)].tolist() == [0, 0, 1, 1, 2]
    rows = [tuple(chosen(class_id, 3, seed)) for seed in range(20)]
    assert len(set(rows)) > 10
    assert rows[3] == tuple(chosen(class_id, 3, 3))
    assert chosen(class_id, 99, 0) == list(range(54))


# --- files ---------------------------------------------------------------------------------------


def places(sheet: np.ndarray, tile: np.ndarray) -> list[tuple[int, int]]:
    """Where a tile lies in a sheet, by trying every place that has its first pixel."""
    height, width = tile.shape[:2]
    starts = np.argwhere((sheet[: -height + 1, : -width + 1] == tile[0, 0]).all(axis=-1))
    return [(x, y) for y, x in starts.tolist() if np.array_equal(sheet[y : y + height, x : x + width], tile)]


def test_a_png(model: tuple[Path, AdaMAE], built: Path, tmp_path: Path) -> None:
    """A row for each kind, a column for each time step, the first frame of its tubelet."""
    out = tmp_path / "new" / "m.png"
    facts = draw(model[0], out, data=built, clips=1, seed=5)
    (number,) = chosen(val(built).clips.class_id, 1, 5)
    assert facts.clips == (f"{small.NAMES[number % 3]}: made/{1 + number}",)
    assert (facts.strategy, facts.ratio, facts.visible, facts.tokens) == ("adaptive", 0.75, 8, 32)
    sheet = np.asarray(Image.open(out).convert("RGB"))
    rows = rows_of(reconstruction(model[1], built, number, seed=5))
    found = [[places(sheet, row.frames[f]) for f in (0, 2)] for row in rows]
    assert all(len(place) == 1 for row in found for place in row)
    left, right = ({row[i][0][0] for row in found} for i in (0, 1))
    assert len(left) == len(right) == 1, "columns"
    assert max(left) + 128 <= min(right)
    tops = [row[0][0][1] for row in found]
    assert tops == [row[1][0][1] for row in found]
    assert all(b - a >= 128 for a, b in pairwise(tops))
    assert not places(sheet, rows[0].frames[1]), "the second frame of a tubelet"
    ink = (sheet[:, : min(left)] != 255).any(axis=(1, 2))
    assert all(ink[top : top + 128].any() for top in tops), "each row has its name"


def test_a_gif(model: tuple[Path, AdaMAE], built: Path, tmp_path: Path) -> None:
    """A column for each clip, every frame, one palette: text and paper stay as they are."""
    out = tmp_path / "m.gif"
    facts = draw(model[0], out, data=built, clips=3)
    assert len(facts.clips) == 3
    with Image.open(out) as image:
        assert (image.format, image.info["loop"]) == ("GIF", 0)
        assert getattr(image, "n_frames", 1) == 4
        frames = []
        for f in range(4):
            image.seek(f)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
    blocks = [rows_of(reconstruction(model[1], built, i)) for i in chosen(val(built).clips.class_id, 3, 0)]
    sheets = [np.full_like(frames[0], 255) for _ in range(4)]
    (x, y) = _first_tile(model, built, tmp_path)
    for f, sheet in enumerate(sheets):
        for i, rows in enumerate(blocks):
            for j, row in enumerate(rows):
                at = (slice(y + j * 150, y + j * 150 + 128), slice(x + i * 146, x + i * 146 + 128))
                sheet[at] = row.frames[f]
                assert np.abs(sheet[at] - frames[f][at]).mean() < 12, "256 colours are near enough"
    outside = np.ones(frames[0].shape[:2], bool)
    for i in range(3):
        for j in range(5):
            outside[y + j * 150 : y + j * 150 + 128, x + i * 146 : x + i * 146 + 128] = False
    assert all((frame[outside] == frames[0][outside]).all() for frame in frames)


def _first_tile(model: tuple[Path, AdaMAE], built: Path, tmp_path: Path) -> tuple[int, int]:
    """Place of the first tile of a GIF: of a still one whose tile is pure red."""
    red = np.zeros((1, 128, 128, 3), np.uint8)
    red[..., 0] = 255
    data = draw_gif([Block(name="x", rows=(Row("video", "", red),))], "x")
    (tmp_path / "red.gif").write_bytes(data)
    with Image.open(tmp_path / "red.gif") as image:
        (place,) = places(np.asarray(image.convert("RGB")), red[0])
    return place


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_the_seed_decides(model: tuple[Path, AdaMAE], built: Path, tmp_path: Path, suffix: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(ord(name))
        draw(model[0], tmp_path / f"{name}{suffix}", data=built, clips=6, seed=seed)
    a, b, c = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "abc")
    assert a == b != c


def test_a_clip_looks_the_same_beside_others(
    model: tuple[Path, AdaMAE], built: Path, tmp_path: Path, drawn: list[Block]
) -> None:
    draw(model[0], tmp_path / "a.png", data=built, clips=6)
    all_of_them = {block.name: block for block in drawn}
    assert len(all_of_them) == 6
    draw(model[0], tmp_path / "a.png", data=built, clips=2)
    for block in drawn:
        for row, other in zip(block.rows, all_of_them[block.name].rows, strict=True):
            assert np.array_equal(row.frames, other.frames)


def test_a_file_looks_like_the_stored_clip(
    model: tuple[Path, AdaMAE], built: Path, tmp_path: Path, drawn: list[Block]
) -> None:
    (path, *_) = saved.as_files(val(built), tmp_path)
    facts = draw(model[0], tmp_path / "a.png", clip=path)
    assert facts.clips == ("0.mp4",)
    rows = rows_of(reconstruction(model[1], built, 0))
    for row, other in zip(drawn[0].rows, rows, strict=True):
        assert np.array_equal(row.frames, other.frames)


# --- other masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["tube", "random", "frame", "adaptive"])
@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_other_masks(
    model: tuple[Path, AdaMAE], built: Path, tmp_path: Path, drawn: list[Block], strategy: str, ratio: float
) -> None:
    facts = draw(model[0], tmp_path / "a.png", data=built, clips=1, mask=strategy, ratio=ratio)
    assert (facts.strategy, facts.ratio) == (strategy, ratio)
    assert facts.visible == num_visible(small.VIT.grid, ratio)
    rows = {row.name: row for row in drawn[0].rows}
    assert ("probability" in rows) == (strategy == "adaptive")
    same = (rows["mask"].frames == rows["video"].frames).all(axis=-1)
    patches = same.reshape(2, 2, 4, 32, 4, 32).all(axis=(1, 3, 5))
    assert patches.sum() == facts.visible
    if strategy == "tube":
        assert np.array_equal(patches[0], patches[1])


def test_a_model_without_a_sampler(built: Path, tmp_path: Path, drawn: list[Block]) -> None:
    saved.tube(tmp_path / "t.pt")
    draw(tmp_path / "t.pt", tmp_path / "a.png", data=built)
    assert [row.name for row in drawn[0].rows] == ["video", "prediction", "error", "mask"]
    with pytest.raises(ConfigError, match="trained with tube masks: it has no sampler"):
        draw(tmp_path / "t.pt", tmp_path / "a.png", data=built, mask="adaptive")


def test_weights_are_the_checkpoints(model: tuple[Path, AdaMAE]) -> None:
    loaded = checkpoints.load(model[0])
    other = pictures.remasked(loaded, model[0], strategy="tube", ratio=0.5)
    made = checkpoints.build(other)
    assert isinstance(made, AdaMAE)
    assert made.sampler is None
    assert made.config.mask == MaskConfig(strategy="tube", ratio=0.5)
    for name, value in made.state_dict().items():
        assert torch.equal(value, model[1].state_dict()[name])
    assert pictures.remasked(loaded, model[0], strategy=None, ratio=None).config == loaded.config


def test_large_and_odd_models(built: Path, tmp_path: Path, drawn: list[Block]) -> None:
    """No tile is enlarged that is large enough; frames of one time step, one frame a token."""
    vit = ViTConfig(frames=3, size=128, tubelet=1, patch=64, width=24, depth=1, heads=2)
    saved.adamae(tmp_path / "b.pt", encoder=vit, mask=MaskConfig(ratio=0.5), sampler=SamplerConfig(kind="mlp"))
    draw(tmp_path / "b.pt", tmp_path / "a.png", data=built, clips=2)
    assert drawn[0].shown == 1
    assert drawn[0].rows[0].frames.shape == (3, 128, 128, 3)


# --- what cannot be ------------------------------------------------------------------------------


def test_settings_that_cannot_be(model: tuple[Path, AdaMAE], built: Path, tmp_path: Path) -> None:
    saved.classifier(tmp_path / "c.pt")
    png = tmp_path / "a.png"
    for out, more, match in (
        (tmp_path / "a.jpg", {"data": built}, r"ends in .jpg; expected .png or .gif"),
        (tmp_path / "a", {"data": built}, "ends in nothing"),
        (png, {}, "give either a video file"),
        (png, {"data": built, "clip": built}, "give either a video file"),
        (png, {"data": built, "clips": 0}, "clips is 0; expected 1 to 24"),
        (png, {"data": built, "seed": -1}, "seed is -1"),
        (png, {"data": built, "mask": "cube"}, "mask is 'cube'; expected one of tube, random"),
        (png, {"data": built, "ratio": 1.5}, "ratio: 1.5; expected above 0|above 0 and below 1"),
        (png, {"data": built, "ratio": 0.99}, "leaves no token visible of 32"),
        (png, {"data": built, "split": "x"}, "split is 'x'"),
        (png, {"data": built, "device": "x"}, "cannot use device 'x'"),
    ):
        with pytest.raises(ConfigError, match=match):
            draw(model[0], out, **more)
    with pytest.raises(ConfigError, match="holds a classifier, which masks nothing"):
        draw(tmp_path / "c.pt", png, data=built)
    with pytest.raises(DatasetError, match="no usable clip in split 'test'"):
        draw(model[0], png, data=built, split="test")
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_what_cannot_be_decoded(model: tuple[Path, AdaMAE], tmp_path: Path) -> None:
    out, bad = tmp_path / "a.png", tmp_path / "bad.mp4"
    bad.write_bytes(b"no video " * 100)
    out.write_bytes(b"older")
    with pytest.raises(VidkitError, match=r"bad\.mp4: cannot be decoded: not-a-video"):
        draw(model[0], out, clip=bad)
    with pytest.raises(VidkitError, match=r"none\.mp4: cannot be decoded: missing"):
        draw(model[0], out, clip=tmp_path / "none.mp4")
    built = build(tmp_path / "d", [Clip(split="val", payload=b"\0" * 999)])
    with pytest.raises(DatasetError, match="a clip could not be decoded: dataset 'tiny'"):
        draw(model[0], out, data=built)
    assert out.read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "bad.mp4", "d"}


def test_the_command(
    model: tuple[Path, AdaMAE], built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how: dict[str, Any] = {"clip": None, "split": "val", "clips": 2, "mask": None, "seed": 0, "stride": None}
    out = tmp_path / "a.gif"
    assert command.run(model[0], out=out, data=built, ratio=0.5, device="cpu", **how) == 0
    assert capsys.readouterr().out == f"{out}: 2 clips, adaptive masks, 16 of 32 tokens visible (ratio 0.5)\n"
    assert out.exists()

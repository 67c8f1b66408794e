"""Pictures of masks for the page: from a checkpoint and the dataset, or a sentence that says what is missing."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.bench.made_rows import planned, row
from tests.bench.report.test_table import folder
from tests.cli.typed import command
from tests.train import small
from vidkit.bench.report import mask_pictures
from vidkit.bench.report import table as report
from vidkit.bench.report.mask_pictures import Picture
from vidkit.bench.rows.schema import Planned, Row
from vidkit.models import checkpoints
from vidkit.models.adamae import AdaMAE
from vidkit.models.checkpoints import Checkpoint
from vidkit.settings.model import MaskConfig


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.dataset(tmp_path_factory.mktemp("data") / "d", train=3, val=4)


def label_map(built: Path) -> str:
    return str(json.loads((built / "dataset.json").read_text())["label_map"]["sha256"])


def trained(path: Path, cell: Planned, built: Path) -> Row:
    """A row whose pre-training left a checkpoint."""
    name = f"pretrain/{cell.config_hash}"
    config = small.model(mask=MaskConfig(strategy=cell.in_grid.settings.mask, ratio=cell.in_grid.settings.ratio))
    model = AdaMAE(config, torch.Generator().manual_seed(0))
    (path / name / "checkpoints").mkdir(parents=True, exist_ok=True)
    facts = {"stride": 2, "mode": "uniform"}
    checkpoints.save(
        path / name / "checkpoints/last.pt", Checkpoint(config=config, model=model.state_dict(), facts=facts)
    )
    return row(cell, top1=0.5, split="val", runs={"pretrain": name}, label_map_sha256=label_map(built))


def drawn(path: Path, cells: list[Planned], rows: list[Row], data: Path | None = None) -> tuple[Picture, ...]:
    results = report.read_results([folder(path, cells, rows)])
    return mask_pictures.mask_pictures(results, report.lines(results), data=data)


def test_one_for_each_adaptive_cell_and_each_other_strategy(built: Path, tmp_path: Path) -> None:
    cells = [
        planned(mask=mask, ratio=ratio, seed=seed)
        for mask, ratio in (("tube", 0.5), ("tube", 0.75), ("adaptive", 0.75), ("adaptive", 0.5), ("random", 0.9))
        for seed in (0, 1)
    ]
    found = drawn(tmp_path, cells, [trained(tmp_path, cell, built) for cell in cells], built)
    assert [picture.name for picture in found] == ["adaptive 0.75", "adaptive 0.5", "tube 0.75", "random 0.9"]
    assert found[0].caption.startswith("8 of 32 tokens visible, seed 0, clip ")
    assert len({picture.caption.rpartition("clip ")[2] for picture in found}) == 1, "all show one clip"
    for picture in found:
        assert picture.uri.startswith("data:image/png;base64,iVBOR")
        with Image.open(io.BytesIO(picture.png or b"")) as image:
            assert 300 < image.width <= mask_pictures.WIDEST
    assert found[0].png != found[1].png


def test_the_same_pictures_again(built: Path, tmp_path: Path) -> None:
    cell = planned(ratio=0.75)
    rows = [trained(tmp_path, cell, built)]
    shutil.copytree(built, tmp_path / "data")
    assert drawn(tmp_path, [cell], rows) == drawn(tmp_path, [cell], rows, built), "without --data: that of `ablate`"


def test_wide_pictures_are_shrunk(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = planned(ratio=0.75)
    rows = [trained(tmp_path, cell, built)]
    (whole,) = drawn(tmp_path, [cell], rows, built)
    monkeypatch.setattr(mask_pictures, "WIDEST", 200)
    (less,) = drawn(tmp_path, [cell], rows, built)
    with Image.open(io.BytesIO(whole.png or b"")) as one, Image.open(io.BytesIO(less.png or b"")) as other:
        assert other.width == 200
        assert other.height == round(one.height * 200 / one.width)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no checkpoint", "No picture: the checkpoint pretrain/HASH/checkpoints/last.pt is not among the results"),
        ("damaged", "No picture: "),
        ("no data", "No picture: the dataset is not in the results' folder `data`; name its folder by --data"),
        ("no such data", "No picture: the dataset is not there; name its folder by --data"),
        ("other data", "No picture: the dataset is another one than the results are of"),
        ("no such split", "No picture: "),
    ],
)
def test_what_is_missing_is_said(what: str, said: str, built: Path, tmp_path: Path) -> None:
    cell = planned(ratio=0.75)
    made = trained(tmp_path, cell, built)
    file = tmp_path / made.runs["pretrain"] / "checkpoints/last.pt"
    data: Path | None = built
    if what == "no checkpoint":
        file.unlink()
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:1000])
    elif what == "no data":
        data = None
    elif what == "no such data":
        data = tmp_path / "elsewhere"
    elif what == "other data":
        made = row(cell, top1=0.5, runs=made.runs, label_map_sha256="ee" * 32)
    else:
        made = row(cell, top1=0.5, split="test", runs=made.runs, label_map_sha256=label_map(built))
    (found,) = drawn(tmp_path, [cell], [made], data)
    assert found.png is None
    assert found.caption.startswith(said.replace("HASH", cell.config_hash)), found.caption


def test_as_typed(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = planned(ratio=0.75)
    folder(tmp_path, [cell], [trained(tmp_path, cell, built)])
    assert command(monkeypatch, "report", tmp_path, "--html", tmp_path / "p.html", "--data", built) == 0
    assert "drawing masks: adaptive 0.75" in capsys.readouterr().err
    assert 'src="data:image/png;base64,' in (tmp_path / "p.html").read_text()


def test_memory_only_tables_have_none(tmp_path: Path) -> None:
    cell = planned(kind="memory")
    assert drawn(tmp_path, [cell], [row(cell, predicted_bytes=10**9)]) == ()

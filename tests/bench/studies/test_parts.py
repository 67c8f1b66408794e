"""Parts of a dataset: the right clips, the same pixels, nothing copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bench.studies import made as studies
from vidkit.bench.studies.parts import Part, larger_and_small, write_part
from vidkit.data import ClipDataset
from vidkit.data.dataset import open_dataset
from vidkit.errors import ConfigError, DatasetError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.dataset(tmp_path_factory.mktemp("data") / "d")


def clips(path: Path, split: str = "train") -> ClipDataset:
    return ClipDataset(path, split, frames=4, stride=2, mode="views")


def test_two_parts_are_the_whole(data: Path, tmp_path: Path) -> None:
    larger, small = larger_and_small(data)
    assert sorted(larger.classes + small.classes) == list(studies.CLASSES)
    assert len(larger.classes) == 3
    whole = clips(data)
    found = [clips(write_part(data, part, tmp_path / part.name)) for part in (larger, small)]
    ids = [list(map(str, part.clips.clip_id)) for part in found]
    assert sorted(ids[0] + ids[1]) == sorted(map(str, whole.clips.clip_id))
    place = {str(name): i for i, name in enumerate(whole.clips.clip_id)}
    for part, named in zip(found, (larger, small), strict=True):
        assert part.classes == whole.classes, "ids mean the same"
        assert part.label_sha256 == whole.label_sha256
        for i in range(len(part)):
            same = whole[place[str(part.clips.clip_id[i])]]
            assert torch.equal(part[i].video, same.video)
            assert part[i].class_id == same.class_id
            assert part.classes[part[i].class_id] in named.classes


def test_a_part_counts_its_own_clips(data: Path, tmp_path: Path) -> None:
    facts = open_dataset(write_part(data, Part(name="one", classes=("a",)), tmp_path / "p")).facts
    assert facts["splits"]["train"] == {"planned": 5, "ok": 5, "failed": 0, "missing": 0}
    assert facts["counts"]["ok"] == 7
    assert facts["name"] == "tiny, one"
    other = open_dataset(write_part(data, Part(name="one", classes=("b",)), tmp_path / "q")).facts
    assert other["plan_sha256"] != facts["plan_sha256"], "a run on one part does not go on with the other"
    assert (tmp_path / "p" / "train").is_symlink()


def test_by_source_where_there_are_several(tmp_path: Path) -> None:
    data = studies.dataset(tmp_path / "d")
    studies.with_sources(data, ["tinyvirat" if i % 3 == 0 else "kinetics" for i in range(28)])
    larger, small = larger_and_small(data)
    assert (larger.sources, small.sources) == (("kinetics",), ("tinyvirat",))
    assert str(small) == "1 source (tinyvirat)"
    part = clips(write_part(data, small, tmp_path / "small"))
    assert list(map(str, part.clips.clip_id)) == [f"made/{i}" for i in range(0, 20, 3)]
    studies.with_sources(data, ["b" if i % 2 else "a" for i in range(28)])
    assert larger_and_small(data)[0].sources == ("a",), "of equals the first by name"


def test_a_folder_holds_one_part(data: Path, tmp_path: Path) -> None:
    one, other = Part(name="x", classes=("a",)), Part(name="x", classes=("b",))
    out = write_part(data, one, tmp_path / "p")
    before = (out / "clips.parquet").stat().st_mtime_ns
    assert write_part(data, one, out) == out
    assert (out / "clips.parquet").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds another part"):
        write_part(data, other, out)


def test_what_cannot_be_divided(tmp_path: Path) -> None:
    data = studies.dataset(tmp_path / "d", classes=("a",))
    with pytest.raises(ConfigError, match="has one source and 1 classes: too few"):
        larger_and_small(data)
    with pytest.raises(DatasetError, match="no usable clip of 'tiny' is in its odd part"):
        write_part(data, Part(name="odd", sources=("nowhere",)), tmp_path / "p")
    with pytest.raises(ConfigError, match="needs either sources or classes"):
        Part(name="both", sources=("a",), classes=("b",))

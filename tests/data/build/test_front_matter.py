"""A build opens with Hugging Face's `datasets`, by its card alone, without a network and without torchcodec."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import builds
from vidkit.data.build import executors
from vidkit.data.build.front_matter import features, front_matter
from vidkit.data.shards import read_sample
from vidkit.data.tables import SAMPLE
from vidkit.settings.encode import LabelSpec

datasets = pytest.importorskip("datasets", reason="needs Hugging Face's datasets: pip install 'vidkit[hf]'")

#: Clips at the front whose columns are null: more than `datasets` looks at to guess a type, and a shard of them.
NULLS = 12
CLIPS = 32


@pytest.fixture(autouse=True)
def _offline_and_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and no cache among the user's."""

    def refuse(*_: object) -> None:
        raise AssertionError("a local folder needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    datasets.disable_progress_bars()


def filled(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real build whose first clips have neither group nor class, and whose val split has no class at all."""
    folder = tmp_path_factory.mktemp("hub")
    plan = builds.plan(builds.LISTED, builds.listed_tree(folder / "in", CLIPS, missing=1, broken=1))
    table, count = plan.table, plan.table.num_rows
    table = filled(table, "group", [None if i < NULLS else f"video {i}" for i in range(count)])
    for name in ("class_id", "class_name"):
        values = table[name].to_pylist()
        labelled = [i >= NULLS and split == "train" for i, split in enumerate(table["split"].to_pylist())]
        table = filled(table, name, [v if known else None for v, known in zip(values, labelled, strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executors, "ClipWorker", builds.InProcess)
        builds.run(replace(plan, table=table), folder / "out")
    return folder / "out"


def stored(root: Path, split: str) -> list[dict[str, Any]]:
    """What must come out, from the ledger and the shards."""
    rows = [row for row in builds.ledger(root) if row["status"] == "ok" and row["split"] == split]
    return [
        {
            "mp4": read_sample(root / row["shard"], row["offset"], row["nbytes"]),
            "json": {name: row[name] for name in SAMPLE},
            "__key__": row["key"],
        }
        for row in rows
    ]


def check_same(found: Any, wanted: list[dict[str, Any]]) -> None:
    rows = list(found)
    assert len(rows) == len(wanted) > 0
    for row, expected in zip(rows, wanted, strict=True):
        assert row["mp4"]["bytes"] == expected["mp4"]
        assert {name: row[name] for name in ("json", "__key__")} == {
            name: expected[name] for name in ("json", "__key__")
        }


@pytest.mark.parametrize("streaming", [True, False])
def test_load_dataset_of_the_folder(built: Path, streaming: bool) -> None:
    found = datasets.load_dataset(str(built), streaming=streaming)
    assert list(found) == ["train", "val"]
    for split in found:
        check_same(found[split], stored(built, split))
    groups = [row["json"]["group"] for row in stored(built, "train")]
    assert groups[:8] == [None] * 8, "the case this is about"
    assert groups[-1] is not None


@pytest.mark.parametrize("streaming", [True, False])
def test_load_dataset_of_shards_with_the_types_of_the_card(built: Path, streaming: bool) -> None:
    types = datasets.load_dataset_builder(str(built)).info.features
    found = datasets.load_dataset(
        "webdataset", data_files={"train": f"{built}/train/*.tar"}, features=types, streaming=streaming
    )
    check_same(found["train"], stored(built, "train"))


def test_types(built: Path) -> None:
    """Written out by hand with `datasets`' own classes, and filled by `datasets` from the card."""
    text, whole, real = (datasets.Value(name) for name in ("string", "int32", "float64"))
    wanted = datasets.Features(
        {
            "mp4": datasets.Video(decode=False),
            "json": {
                "clip_id": text,
                "source": text,
                "split": text,
                "labels": datasets.List(text),
                "class_id": datasets.ClassLabel(names=["a", "b"]),
                "class_name": text,
                "multi_hot": datasets.List(whole),
                "group": text,
                "frames": whole,
                "fps": real,
                "duration_s": real,
                "width": whole,
                "height": whole,
            },
            "__key__": text,
            "__url__": text,
        }
    )
    assert datasets.load_dataset_builder(str(built)).info.features == wanted
    assert list(wanted["json"]) == list(SAMPLE)


def test_ids_of_several_labels_are_of_the_base_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(builds.LISTED, labels=LabelSpec(rule="multi-hot"))
    monkeypatch.setattr(executors, "ClipWorker", builds.InProcess)
    builds.run(builds.plan(spec, builds.listed_tree(tmp_path / "in", 12)), tmp_path / "out")
    found = datasets.load_dataset(str(tmp_path / "out"), split="train")
    check_same(found, stored(tmp_path / "out", "train"))
    assert found.features["json"]["multi_hot"].feature.names == ["a", "b"]
    assert all(row["json"]["class_id"] is None for row in found)


def test_the_card_is_the_same_after_every_build(built: Path, tmp_path: Path) -> None:
    """Its head depends on the records alone, which a resumed build shares."""
    facts = builds.facts(built)
    shards = json.loads((built / "shards.json").read_text())
    card = (built / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"---\n{front_matter(facts, shards)}---\n\n# Listed\n")
    assert front_matter(facts, shards) == front_matter(json.loads(json.dumps(facts)), list(reversed(shards)))


def test_nothing_to_load_in_an_empty_build() -> None:
    facts = {"title": "", "name": "empty", "synthetic": False, "counts": {"ok": 0}}
    head = yaml.safe_load(front_matter({**facts, "label_map": {"rule": "single", "classes": []}}, []))
    assert head["pretty_name"] == "empty"
    assert "configs" not in head
    assert "license" not in head, "left to the user"


@pytest.mark.parametrize(
    ("samples", "words"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (24_927, "10K<n<100K"), (10**7, "n>10M")],
)
def test_size_categories(samples: int, words: str) -> None:
    facts = {"title": "t", "name": "t", "synthetic": True, "counts": {"ok": samples}}
    assert yaml.safe_load(front_matter(facts, []))["size_categories"] == [words]


NASTY = st.text(min_size=1, max_size=30) | st.sampled_from(
    [
        "a\n---\nb",
        "---",
        "yes",
        "null",
        "1",
        "a: b",
        "# c",
        "- d",
        "'",
        '"',
        "\\",
        "{e}",
        "\u2028",
        "\x85",
        "\ufeff",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(NASTY, unique=True, min_size=1, max_size=4), NASTY)
def test_any_name_comes_through(names: list[str], title: str) -> None:
    """As the hub's own reader of cards takes it, which looks for the second line of dashes."""
    from huggingface_hub import DatasetCard

    facts = {"title": title, "name": "n", "synthetic": False, "counts": {"ok": 1}}
    facts["label_map"] = {"rule": "single", "classes": names, "base_labels": names}
    card = DatasetCard(
        f"---\n{front_matter(facts, [{'split': 'train'}])}---\n\n# x\n", ignore_metadata_errors=False
    )
    assert card.data.pretty_name == title
    assert card.data.dataset_info["features"] == features(facts["label_map"])
    found = datasets.Features._from_yaml_list(card.data.dataset_info["features"])
    assert found["json"]["class_id"].names == names

"""The guide's tables of codes, fields and names are those of the code."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, get_args

import pyarrow as pa
import yaml

from tests.guide.fences import DOCS, PAGES, named, tables
from vidkit.bench.rows.schema import Plan, Planned, Row
from vidkit.data.shards import ShardFacts
from vidkit.data.tables import LEDGER_SCHEMA, SAMPLE
from vidkit.errors import CLIP_ERRORS
from vidkit.extras import EXTRAS
from vidkit.settings.encode import DatasetSpec, EncodeSettings, Expectation, LabelSpec, SourceSpec
from vidkit.settings.fewshot import Learner
from vidkit.settings.mask import Strategy
from vidkit.settings.recipes import RECIPES

GUIDE = DOCS / "guide"
FORMATS = tables(GUIDE / "formats.md")


def test_codes_of_the_ledger() -> None:
    rows = tables(GUIDE / "datasets.md")["What the codes in the ledger mean"]
    assert {code: meaning for (code,), meaning in ((named([row]), row[1]) for row in rows)} == CLIP_ERRORS
    assert all(row[2] for row in rows), "each says what to do"


def arrow(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def test_the_ledger() -> None:
    said = [(named([row])[0], row[1]) for row in FORMATS["clips.parquet"]]
    assert said == [(f.name, arrow(f.type) + (", or null" if f.nullable else "")) for f in LEDGER_SCHEMA]


def test_results() -> None:
    kinds = {int: "integer", float: "number", str: "string"}
    for heading, kind in (("results.jsonl", Row), ("plan, of a row", Planned), ("plan.json", Plan)):
        assert named(FORMATS[heading]) == [one.name for one in fields(kind)], heading
        for row, one in zip(FORMATS[heading], fields(kind), strict=True):
            assert ("None" in str(one.type)) == ("or null" in row[1]), f"{heading}, {one.name}"
            simple = next((word for known, word in kinds.items() if str(one.type).startswith(known.__name__)), None)
            assert simple is None or row[1].startswith(simple), f"{heading}, {one.name}"


def test_shards_and_samples() -> None:
    assert named(FORMATS["shards.json"]) == [one.name for one in fields(ShardFacts)]
    assert named(FORMATS["Shards"]) == list(SAMPLE)


def test_specs() -> None:
    said = set(named(tables(GUIDE / "own-dataset.md")["What a spec may say"]))
    for prefix, kind in (
        ("", DatasetSpec),
        ("encode.", EncodeSettings),
        ("sources.", SourceSpec),
        ("labels.", LabelSpec),
        ("expect.", Expectation),
    ):
        for one in fields(kind):
            if one.name in (
                "sources",
                "encode",
                "labels",
                "expect",
                "class_names",
            ):  # tables, and what a build adds
                continue
            assert {prefix + one.name, one.name} & said, f"{prefix}{one.name}"


def test_names_in_lists() -> None:
    assert named(tables(GUIDE / "training.md")["Recipes"]) == list(RECIPES)
    assert set(named(tables(GUIDE / "few-shot.md")["Learners"])) == set(get_args(Learner))
    masks = (GUIDE / "training.md").read_text(encoding="utf-8").split("## Masks and targets")[1]
    assert set(get_args(Strategy)) <= set(re.findall(r"`([^`]+)`", masks))
    assert set(named(tables(GUIDE / "install.md")["To install"])) == {*EXTRAS, "docs"}


def test_every_page_is_in_the_navigation() -> None:
    def leaves(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for one in inner for leaf in leaves(one)]

    text = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    found = leaves(yaml.safe_load(text)["nav"])
    assert len(found) == len(set(found))
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= set(found)


def test_the_front_page_is_one() -> None:
    assert len((DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()) < 120

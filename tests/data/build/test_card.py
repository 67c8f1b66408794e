"""The dataset card says what the records say, and the code in it runs."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from vidkit.data.build.card import bytes_words, render


@pytest.fixture
def facts(whole: Path) -> Any:
    return json.loads((whole / "dataset.json").read_text())


@pytest.fixture
def shards(whole: Path) -> Any:
    return json.loads((whole / "shards.json").read_text())


def test_what_stands_in_it(facts: Any, shards: Any) -> None:
    card = render(facts, shards)
    for line in (
        "# Tiny",
        "> **SYNTHETIC.** These clips are generated, not filmed.",
        "**Do not flip these clips left-right",
        "| split | planned | ok | failed | missing |",
        "| train | 7 | 5 | 1 | 1 |",
        "| all | 11 | 8 | 1 | 2 |",
        "| tinyvirat | v1 | 6 | 5 | 1 | 0 |",
        "- kinetics: flat; 5 matched, 2 annotated but missing",
        "| clips | 12 | 9 | 8 | -4 | inferred: 6 \\| 6 |",
        "| classes | 5 | 5 | 5 | equal | a paper |",
        f"Label map sha256 `{facts['label_map']['sha256']}`",
        "| Opening | 1 | none: `label-set-not-kept` |",
        "Classes without a clip: 1 (abseiling)",
        "centre square scaled to 64x64; at most 12 frames",
        "| `truncated` | 1 | the file ends before the frames its container or index promises |",
        "| group | tinyvirat | VIRAT_S_000001 | train, test | 2 |",
        "| `encode.preset` | ultrafast |",
        f"x264 {facts['encoder']['x264']}",
        "tinyvirat.csv",
    ):
        assert line in card


def test_no_markup_from_names_and_notes(facts: Any, shards: Any) -> None:
    card = render(facts, shards)
    assert "<b>" not in card
    assert "- Label sets | with a bar, and &lt;b>markup" in card


PARTS = [*"|\\`*_~[]()<>&;#!+-=.1a \n", "<b>", "&lt;", "](x)", "``", "\\|", "a_b", "__", "- ", "1. "]
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
NAMES = (TEXTS | st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join)).filter(str.strip)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_a_name_is_shown_as_it_is(facts: Any, shards: Any, name: str) -> None:
    """Whatever stands in it: in a table, in a list, in code, as a Markdown reader shows them."""
    facts = copy.deepcopy(facts)
    facts["folded"] = [{"label_set": name, "into": name, "clips": 2}]
    facts["absent"] = {"classes": [name], "notes": [name]}
    facts["sources"]["kinetics"]["matching"]["notes"] = [name]
    facts["settings"] = {**facts["settings"], "name": name, name: 1}
    shown = " ".join(name.split())
    _, _, body = render(facts, shards).split("---\n", 2)
    found = texts(body)
    assert [shown, "2", shown] in found, "a table of label sets"
    assert ["name", shown] in found, "a setting's value"
    assert [shown, "1"] in found, "a setting's name, as code"
    assert found.count([shown]) == 2, "two items of lists"
    assert [f"Classes without a clip: 1 ({shown})"] in found


def texts(markdown: str) -> list[list[str]]:
    """What a reader sees: of each row of a table its cells, of each other block its text."""
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    rows: list[list[str]] = []
    row: list[str] | None = None
    for token in reader.parse(markdown):
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            rows.append(row)
            row = None
        elif token.type == "inline":
            kinds = {child.type for child in token.children or []}
            plain = {"text", "text_special", "code_inline", "softbreak", "strong_open", "strong_close"}
            text = "".join(c.content for c in token.children or []) if kinds <= plain else f"markup: {kinds}"
            if row is None:
                rows.append([text])
            else:
                row.append(text)
    return rows


def test_every_table_is_rectangular(facts: Any, shards: Any) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", render(facts, shards), re.MULTILINE)
    assert len(tables) >= 8
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def test_deterministic_without_places_or_times(facts: Any, shards: Any, whole: Path) -> None:
    card = render(facts, shards)
    assert card == render(json.loads(json.dumps(facts)), shards)
    assert os.fspath(whole) not in card
    assert os.getcwd() not in card
    assert not re.search(r"\b20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", card)
    assert card.endswith("\n")
    assert "\n\n\n" not in card


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the snippets open files as people do in a notebook
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_code_in_it_runs(
    facts: Any, shards: Any, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    pytest.importorskip("datasets", reason="needs Hugging Face's datasets: pip install 'vidkit[hf]'")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (root / "README.md").write_text(render(facts, shards), encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", render(facts, shards), re.DOTALL)
    assert len(blocks) == 4
    clips = []
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block, names)
        clips.append(names["clip"])
        assert clips[-1][4:8] == b"ftyp"
    assert len(clips) == 4


def test_a_plain_dataset_has_no_empty_sections(facts: Any, shards: Any) -> None:
    facts.update(synthetic=False, flip=True, notes=[], reconciliation=[], leaks=[], folded=[], errors={})
    facts["absent"] = {"classes": [], "notes": []}
    facts["counts"]["with_warnings"] = 0
    facts["settings"].update({"encode.fit": "short-side", "encode.max_frames": None, "encode.fps": 12.5})
    card = render(facts, shards)
    assert "SYNTHETIC" not in card
    assert "Found beside expected" not in card
    assert "## Clips that could not be used\n\nNone.\n" in card
    assert "No group (original video) and no file is in two splits." in card
    assert "short side 64 pixels; every frame; resampled to 12.5 frames a second" in card
    assert "\n# Tiny\n" in render(facts, [])


def test_long_lists_are_cut(facts: Any, shards: Any) -> None:
    facts["leaks"] = [{**facts["leaks"][0], "value": f"VIRAT_{k}"} for k in range(300)]
    facts["absent"]["classes"] = [f"class {k}" for k in range(300)]
    card = render(facts, shards)
    assert "... and 280 more, in `dataset.json`." in card
    assert "class 19, ...)" in card
    assert len(card) < 20_000


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (143_360, "143 kB"), (2.5e12, "2.5 TB")],
)
def test_bytes_in_words(count: float, words: str) -> None:
    assert bytes_words(count) == words

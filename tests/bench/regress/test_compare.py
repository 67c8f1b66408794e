"""Values beside a baseline: what counts as changed, what cannot be compared, and the file itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidkit.bench.regress import compare as regress
from vidkit.bench.regress.compare import Findings, Measured, Row, Stored, compare, read_baseline, write_baseline
from vidkit.errors import ConfigError

HERE = {"encoder": {"pyav": "18.1.0", "x264": "164"}, "torch": "2.15.0", "cpu": "A"}


def one(before: Any, now: Any, *, conditions: dict[str, Any] | None = None, **how: Any) -> Row:
    """The row of a single value."""
    measured = Measured(name="x", value=now, **how)
    baseline = Stored(conditions=HERE, values={} if before is None else {"x": before})
    (row,) = compare(baseline, Findings(conditions=HERE if conditions is None else conditions, values=(measured,)))
    return row


@pytest.mark.parametrize(
    ("before", "now", "how", "verdict", "change"),
    [
        (80, 80, {}, "same", 0.0),
        (80, 79, {}, "changed", -1 / 80),
        (80, 81, {}, "changed", 1 / 80),
        (0, 0, {}, "same", 0.0),
        (0, 3, {}, "changed", None),
        ("abc", "abc", {}, "same", None),
        ("abc", "abd", {}, "changed", None),
        ("refused", 8, {}, "changed", None),
        (2.0, 2.00019, {"rule": "close", "tolerance": 1e-4}, "same", 9.5e-5),
        (2.0, 2.00021, {"rule": "close", "tolerance": 1e-4}, "changed", 1.05e-4),
        (2.0, 1.41, {"rule": "least", "tolerance": 0.3}, "same", -0.295),
        (2.0, 1.39, {"rule": "least", "tolerance": 0.3}, "slower", -0.305),
        (2.0, 2.8, {"rule": "least", "tolerance": 0.3}, "same", 0.4),
        (2.0, 2.9, {"rule": "least", "tolerance": 0.3}, "faster", 0.45),
        (None, 7, {}, "new", None),
        (7, None, {"note": "no ffmpeg"}, "not measured", None),
    ],
)
def test_verdicts(before: Any, now: Any, how: dict[str, Any], verdict: str, change: float | None) -> None:
    row = one(before, now, **how)
    assert row.verdict == verdict
    assert row.failed == (verdict in ("changed", "slower"))
    assert row.change == (None if change is None else pytest.approx(change, rel=1e-6, abs=1e-12))
    assert (row.baseline, row.now) == (before, now)
    assert row.note == how.get("note", "")


def test_what_is_gone_fails() -> None:
    baseline = Stored(conditions=HERE, values={"a": 1, "b": 2})
    rows = compare(baseline, Findings(conditions=HERE, values=(Measured(name="b", value=2),)))
    assert [(row.name, row.verdict, row.failed) for row in rows] == [("b", "same", False), ("a", "gone", True)]


def test_another_encoder_is_not_comparable() -> None:
    other = {**HERE, "encoder": {"pyav": "17.0.1", "x264": "164"}}
    row = one("abc", "abd", conditions=other, needs=("encoder",))
    assert (row.verdict, row.failed, row.change) == ("not comparable", False, None)
    assert row.note == "encoder: pyav 18.1.0 in the baseline, 17.0.1 now"
    assert one("abc", "abd", conditions=other).verdict == "changed", "a value that does not depend on it"
    assert one("abc", "abd", needs=("encoder",)).verdict == "changed", "the same encoder"


def test_another_torch_is_told_and_compared() -> None:
    other = {**HERE, "torch": "2.11.0"}
    how: dict[str, Any] = {"rule": "close", "tolerance": 1e-4, "told": ("torch", "cpu")}
    row = one((1.0, 0.5), (1.0, 0.5), conditions=other, **how)
    assert (row.verdict, row.note) == ("same", "torch 2.15.0 in the baseline, 2.11.0 now")
    row = one((1.0, 0.5), (1.0, 0.6), conditions=other, **how)
    assert row.verdict == "changed"
    assert "torch 2.15.0 in the baseline" in row.note


def test_a_ratio_may_lose_more_on_another_processor() -> None:
    how: dict[str, Any] = {"rule": "least", "tolerance": 0.3, "elsewhere": 0.5, "told": ("cpu",)}
    other = {**HERE, "cpu": "B"}
    assert one(2.0, 1.2, **how).verdict == "slower"
    row = one(2.0, 1.2, conditions=other, **how)
    assert (row.verdict, row.tolerance, row.note) == ("same", 0.5, "cpu A in the baseline, B now")
    assert one(2.0, 0.99, conditions=other, **how).verdict == "slower"


def test_curves_are_compared_step_by_step() -> None:
    how: dict[str, Any] = {"rule": "close", "tolerance": 1e-4}
    before = tuple(1 / (step + 1) for step in range(20))
    assert one(before, before, **how).verdict == "same"
    near = tuple(value * (1 - 9e-5) for value in before)
    row = one(before, near, **how)
    assert (row.verdict, row.change) == ("same", pytest.approx(-9e-5))
    apart = (*before[:6], before[6] * 1.001, before[7], before[8] * 1.01, *before[9:])
    row = one(before, apart, **how)
    assert (row.verdict, row.failed) == ("changed", True)
    assert row.change == pytest.approx(0.01), "the largest"
    assert row.note == "apart from step 7 of 20 on"
    assert one(before, before[:19], **how).note == "20 steps in the baseline, 19 now"
    assert one(1.0, (1.0,), **how).verdict == "changed"


def test_two_values_of_one_name_are_a_bug() -> None:
    twice = (Measured(name="a", value=1), Measured(name="a", value=2))
    with pytest.raises(ValueError, match="one name"):
        Findings(conditions={}, values=twice).stored()


# --- the file ------------------------------------------------------------------------------------

SECTIONS = {
    "exact": Stored(conditions=HERE, values={"n": 1568, "sha": "ab", "losses": (0.1, 1 / 3)}),
    "ratios": Stored(conditions={"cpu": "A", "decord": None}, values={"step": 1.5}),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "regress.json"
    write_baseline(path, SECTIONS)
    assert read_baseline(path) == SECTIONS
    write_baseline(path, {"ratios": SECTIONS["ratios"]})
    assert read_baseline(path) == {"ratios": SECTIONS["ratios"]}
    assert [found.name for found in path.parent.iterdir()] == ["regress.json"]


def test_what_was_not_measured_is_not_written() -> None:
    findings = Findings(conditions={}, values=(Measured(name="a", value=None), Measured(name="b", value=2)))
    assert findings.stored().values == {"b": 2}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "regress.json"
    write_baseline(path, SECTIONS)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vidkit.files.os.fsync", full)
    changed = {**SECTIONS, "exact": replace(SECTIONS["exact"], values={"n": 1})}
    with pytest.raises(ConfigError, match=r"regress\.json: cannot write: No space left on device\n  -> make room"):
        write_baseline(path, changed)
    assert read_baseline(path) == SECTIONS
    with pytest.raises(ConfigError, match="cannot make the folder: "):
        write_baseline(path / "below" / "regress.json", SECTIONS)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_baseline(tmp_path / "r.json", {"ratios": Stored(conditions={}, values={"a": float("nan")})})
    assert not (tmp_path / "r.json").exists()


GOOD = {"format": 1, "exact": {"conditions": {}, "values": {"n": 1}}}


def values(**some: Any) -> dict[str, Any]:
    return {"format": 1, "exact": {"conditions": {}, "values": some}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 1,\n "exact": {\n', "row 3: damaged JSON: "),
        ("", "row 1: damaged JSON: "),
        ("[1]", "field 'format': no baseline: `format` is missing"),
        ("{}", "field 'format': no baseline: `format` is missing"),
        ('{"format": true}', "no baseline: `format` is missing"),
        ('{"format": 1, "exact": {"conditions": {}, "values": {"n": NaN}}}', "damaged: NaN is no number"),
        (json.dumps({"format": 1, "exact": {"values": {}}}), "field 'exact': expected `conditions` and `values`"),
        (json.dumps({"format": 1, "exact": 3}), "field 'exact': expected `conditions` and `values`"),
        (json.dumps(values(n=None)), "field 'exact.values.n': None is no number, text or list of numbers"),
        (json.dumps(values(n=True)), "field 'exact.values.n': True is no number"),
        (json.dumps(values(n=[])), "field 'exact.values.n': [] is no number"),
        (json.dumps(values(n=[1, "a"])), "field 'exact.values.n': [1, 'a'] is no number"),
        ('{"format": 1, "exact": {"conditions": {}, "values": {"n": 1e999}}}', "field 'exact.values.n': inf"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "regress.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_baseline(path)
    assert "regress.json" in str(caught.value)
    assert words in str(caught.value)
    assert "--update" in str(caught.value)


def test_other_files_that_are_no_baseline(tmp_path: Path) -> None:
    path = tmp_path / "regress.json"
    with pytest.raises(ConfigError, match=r"regress\.json: there is no baseline\n  -> make one with --update"):
        read_baseline(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"damaged: .*utf-8"):
        read_baseline(path)
    path.write_text(json.dumps({**GOOD, "format": 2}))
    with pytest.raises(ConfigError, match=r"format 2 is newer than this vidkit reads \(1\)\n  -> upgrade vidkit"):
        read_baseline(path)
    with pytest.raises(ConfigError, match="the baseline cannot be read: "):
        read_baseline(tmp_path)
    path.write_text(json.dumps(GOOD))
    with pytest.raises(
        ConfigError, match=r"field 'ratios': the baseline has no 'ratios'\n  -> add it with --update"
    ):
        regress.section_of(read_baseline(path), "ratios", path)

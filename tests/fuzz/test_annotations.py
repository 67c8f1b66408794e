"""Annotation readers on hostile files: each outcome is rows or a `VidkitError` that names the file; never a crash.

The quick profile runs with the other tests; `make fuzz` (marker `slow`) runs the long one and prints its seed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.data.sources.trees import SPECS, touch, write
from vidkit.data.manifests import class_list
from vidkit.data.plan import composite, layout
from vidkit.data.sources import READERS, Roots
from vidkit.data.tables import CLIP_SCHEMA, SPLITS
from vidkit.errors import CLIP_ERRORS, VidkitError
from vidkit.settings.encode import DatasetSpec, SourceOptions

ID = "AbCdEfGhIjK"
CSV = f'label,youtube_id,time_start,time_end,split,is_cc\narchery,{ID},12,22,train,0\n"yoga",{ID},1,2,train,\n'
KINETICS_JSON = {
    ID: {"annotations": {"label": "yoga", "segment": [12.0, 22.0]}, "subset": "training", "duration": 10.0}
}
SSV2 = [
    {"id": "1", "label": "x", "template": "Holding [something] behind [something]", "placeholders": ["cup"]},
    {"id": "2"},
]
TINY = {"tubes": [{"id": 7, "path": "V/7.mp4", "dim": [60, 40, 40], "label": ["activity_walking"]}]}

#: reader -> (name of a file that it reads, good bytes of it, with videos beside)
FILES: dict[str, list[tuple[str, bytes]]] = {
    "kinetics": [
        ("train.csv", CSV.encode()),
        ("kinetics400.tsv", CSV.replace(",", "\t").encode("utf-16")),
        ("val.json", json.dumps(KINETICS_JSON).encode()),
    ],
    "minikinetics": [("train_ytid_list.txt", f"{ID}\nabc_def-012\n".encode())],
    "ssv2": [
        ("train.json", json.dumps(SSV2).encode()),
        ("labels.json", json.dumps({name: str(i) for name, i in class_list("ssv2").ids.items()}).encode()),
        ("answers.csv", b"1;Holding something\n"),
    ],
    "tinyvirat": [
        ("tiny_train.json", json.dumps(TINY).encode()),
        ("tiny_val_v2.json", json.dumps(TINY["tubes"]).encode()),
        ("class_map.json", b'{"Opening": 0}'),
    ],
    "listfile": [
        ("train.txt", b"V/7.mp4 17\n#1.webm 3\n1.webm 0 -1\nV/7.mp4 250 3\nclip 3\nV/7 4\n"),
        ("val.csv", b"V/7.mp4;1\r\n/data/V/7.mp4;2\r\n"),
    ],
}
CASES = [(kind, name, good) for kind, files in FILES.items() for name, good in files]

TOKENS = (
    b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\0", b"\\", b"{", b"}", b"[", b"]", b":", b"#", b"-1", b"1e999",
    b"NaN", b"-Infinity", b"9" * 400, b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xa0\x80",
    b"\\ud800", b"null", b"true", b"../..", b"/etc/passwd", b".mp4", b"[" * 3000, b'{"a":' * 3000, b"x" * 140_000,
    b".mp4" * 5000, b" 1" * 5000, "\u0301é".encode(), b"sep=;\n",
)  # fmt: skip

Edit = tuple[int, int, bytes]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 40), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8))),
    max_size=6,
)
encodings = st.sampled_from([None, "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1"])


def mutated(good: bytes, changes: list[Edit], encoding: str | None) -> bytes:
    """Good bytes, in another encoding, with pieces replaced."""
    data = good if encoding is None else good.decode("utf-8", "replace").encode(encoding, "replace")
    for at, length, new in changes:
        at %= len(data) + 1
        data = data[:at] + new + data[at + length :]
    return data


def check(kind: str, name: str, data: bytes) -> None:
    """Read a folder with that file, and plan what was read."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, f"yoga/{ID}.mp4", f"{ID}_000012_000022.mp4", "1.webm", "2", "V/7.mp4", "#1.webm", "clip")
        for other, good in FILES[kind]:  # a whole dataset, of which one file is bad
            if other != name and kind in ("ssv2", "minikinetics"):
                write(root, other, good)
        write(root, name, data)
        spec = SPECS[kind]
        error: VidkitError | None = None
        try:
            result = READERS[kind](spec, Roots(folder=root), SourceOptions())
        except VidkitError as caught:
            error = caught
        if error is not None:
            assert error.file is not None, f"an error that names no file: {error}"
            assert os.fspath(error.file).startswith((folder, os.path.realpath(folder)))
            assert len(str(error)) < 5000
            return
        table = result.table
        assert table.schema.names[: len(CLIP_SCHEMA)] == CLIP_SCHEMA.names
        ids = table["clip_id"].to_pylist()
        assert ids == sorted(set(ids))
        assert set(table["split"].to_pylist()) <= set(SPLITS)
        for error_code, message, path in zip(
            *(table[column].to_pylist() for column in ("error", "message", "path")), strict=True
        ):
            assert error_code is None or error_code in CLIP_ERRORS
            assert (error_code is None) == (message is None)
            assert error_code is not None or path is not None
            assert path is None or (root / path).exists()
        whole = DatasetSpec(name="x", title="X", sources=(spec,))
        plan = composite.merge(whole, {spec.name: result}, SourceOptions())
        assert plan.table.num_rows == table.num_rows
        layout.plan_sha256(layout.lay_out(plan.table, clips_per_shard=2, seed=0))


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        given_test = given(case=st.sampled_from(CASES), changes=edits, encoding=encodings)(test)
        return settings(
            max_examples=examples,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )(given_test)

    return wrap


def mutate_and_check(case: tuple[str, str, bytes], changes: list[Edit], encoding: str | None) -> None:
    kind, name, good = case
    check(kind, name, mutated(good, changes, encoding))


test_no_annotation_crashes_a_reader = fuzz(60)(mutate_and_check)
test_no_annotation_crashes_a_reader_for_long = pytest.mark.slow(fuzz(15_000)(mutate_and_check))


@settings(max_examples=50, deadline=None)
@given(case=st.sampled_from(CASES), data=st.binary(max_size=200))
@example(case=CASES[0], data=b"")
def test_bytes_of_any_kind(case: tuple[str, str, bytes], data: bytes) -> None:
    check(case[0], case[1], data)


@pytest.mark.parametrize(("kind", "name", "good"), CASES, ids=[f"{kind}-{name}" for kind, name, _ in CASES])
def test_the_seeds_are_good(tmp_path: Path, kind: str, name: str, good: bytes) -> None:
    touch(tmp_path, f"yoga/{ID}.mp4", "V/7.mp4", "1.webm", "#1.webm", "clip")
    for other, bytes_of_other in FILES[kind]:
        if kind in ("ssv2", "minikinetics"):
            write(tmp_path, other, bytes_of_other)
    write(tmp_path, name, good)
    check(kind, name, good)
    if name in ("labels.json", "class_map.json", "answers.csv"):
        return
    result = READERS[kind](SPECS[kind], Roots(folder=tmp_path), SourceOptions())
    assert name in result.annotations
    assert result.table.num_rows
    assert None in result.table["error"].to_pylist()  # so that a mutation has something to break


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name, _ in CASES])
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'[{"id": "1"}, ' + b"[" * 100_000 + b"]" * 99_999,
        b"x" * 200_000 + b",youtube_id,time_start,time_end,split,label",
        b'label,youtube_id,time_start,time_end,split\n"' + b"y" * 200_000,
        b"V/7" + b".mp4" * 50_000 + b" 1\n",
        b"V/7.mp4" + b" 1" * 50_000 + b"!\n",
        b"V/7.mp4 1\nV" + b" 1" * 50_000 + b"!\n#" + b" 1" * 50_000,
        b"9" * 10_000,
        b'[{"id": ' + b"9" * 10_000 + b"}]",
        b'{"AbCdEfGhIjK": {"annotations": {"label": "yoga", "segment": [0, 1' + b"0" * 400 + b"]}}}",
        b'{"AbCdEfGhIjK": {"annotations": {"label": "\\ud800", "segment": [NaN, 1e999]}, "subset": "train"}}',
    ],
    ids=lambda data: f"{bytes(data[:12])!r}",
)
def test_deep_and_huge(kind: str, name: str, data: bytes) -> None:
    check(kind, name, data)

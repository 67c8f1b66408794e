"""Class lists and specs are what they say; bad specs are reported whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidkit.data.manifests import (
    ClassList,
    class_list,
    class_list_names,
    load_spec,
    manifests_folder,
    source_classes,
    spec_names,
)
from vidkit.data.sources import READERS
from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.errors import ConfigError
from vidkit.settings.encode import SOURCE_KINDS, SPLIT_NAMES, DatasetSpec

SIZES = {"kinetics400": 400, "minikinetics200": 200, "ssv2": 174, "tinyvirat26": 26, "ucf101": 101, "hmdb51": 51}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_class_lists_have_their_published_sizes(name: str, size: int) -> None:
    found = class_list(name)
    assert isinstance(found, ClassList)
    assert len(found) == len(found.names) == len(set(found.names)) == size
    assert [found.ids[label] for label in found.names] == list(range(size))
    assert all(label == label.strip() and label for label in found.names)


def test_every_list_has_a_size_here() -> None:
    assert set(class_list_names()) == set(SIZES)


def test_orders() -> None:
    for name in ("kinetics400", "minikinetics200", "ssv2", "ucf101", "hmdb51"):
        assert list(class_list(name).names) == sorted(class_list(name).names)
    assert class_list("tinyvirat26").names[0] == "Opening"  # class_map.json's own order, not the alphabet's
    assert class_list("tinyvirat26").ids["activity_walking"] == 14
    assert set(class_list("minikinetics200").names) < set(class_list("kinetics400").names)
    assert class_list("minikinetics200").origin == class_list("kinetics400").origin == "kinetics400"


@pytest.mark.parametrize("name", SIZES)
def test_loose_spelling_is_unambiguous(name: str) -> None:
    names = class_list(name).names
    lookup = ClassLookup(names)
    for label in names:
        assert lookup.find(label) == label
        assert lookup.find(label.replace(" ", "_").upper()) == label
        assert lookup.find("".join(c for c in label if c not in "()'.,[] ")) == label


def test_loose_spelling_never_guesses() -> None:
    lookup = ClassLookup(["c++", "c", "d"])
    assert lookup.find("c++") == "c++"
    assert lookup.find("c") == "c"
    assert lookup.find("C") is None
    assert lookup.find("D") == "d"


def test_unknown_class_list_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"no class list 'kinetics40' \(did you mean 'kinetics400'\?\)"):
        class_list("kinetics40")


def test_shipped_specs_go_through_the_real_parser() -> None:
    assert spec_names() == (
        "composite-518",
        "demo",
        "hmdb51",
        "hmdb51-all",
        "k400",
        "minikinetics-200",
        "motions",
        "ssv2",
        "tinyvirat",
        "ucf101",
    )
    for name in spec_names():
        spec = load_spec(name)
        assert spec.name == name
        assert all(source.kind in READERS for source in spec.sources)
        assert all(source.classes is None or source.classes in SIZES for source in spec.sources)
        assert all(item.where for item in spec.expect)
        assert spec == load_spec(manifests_folder() / f"{name}.toml")


def test_readers_are_the_kinds_that_specs_may_name() -> None:
    assert tuple(READERS) == SOURCE_KINDS


def expected(spec: DatasetSpec) -> dict[tuple[str, str | None], int]:
    return {(item.what, item.version): item.value for item in spec.expect}


def test_composite_spec() -> None:
    spec = load_spec("composite-518")
    assert expected(spec) == {
        ("classes", None): 518,
        ("clips", None): 24927,
        ("clips/tinyvirat", None): 12829,
        ("clips/kinetics", None): 12098,
    }
    assert 12829 + 12098 == 24927
    assert 7663 + 5166 == 12829
    assert (spec.labels.rule, spec.labels.max_classes) == ("label-set", 518)
    assert (spec.encode.size, spec.encode.max_frames) == (64, 100)
    assert (spec.encode.fit, spec.encode.gop) == ("crop", 30)
    kinetics, tinyvirat = spec.sources
    assert dict(kinetics.splits) == {"train": "train"}
    assert dict(tinyvirat.splits) == {split: split for split in SPLIT_NAMES}
    assert any("118 label sets is an inference, not the authors' statement" in note for note in spec.notes)


def test_encodes_for_random_access() -> None:
    for name in ("k400", "ssv2"):
        encode = load_spec(name).encode
        assert (encode.size, encode.fit, encode.max_frames) == (256, "short-side", None)
        assert (encode.gop, encode.tune) == (12, "fastdecode")
    assert load_spec("ssv2").flip is False
    assert load_spec("k400").flip is True


def test_tinyvirat_expects_by_version() -> None:
    found = expected(load_spec("tinyvirat"))
    assert found["clips/train", "v1"] + found["clips/test", "v1"] == 12829
    assert [found[f"clips/{split}", "v2"] for split in SPLIT_NAMES] == [16950, 3308, 6097]


def test_minikinetics_arithmetic() -> None:
    found = expected(load_spec("minikinetics-200"))
    assert found["clips/train", None] == 200 * 400
    assert found["clips/val", None] == 200 * 25


def test_demo_is_synthetic() -> None:
    spec = load_spec("demo")
    assert spec.synthetic
    assert spec.sources[0].kind == "folders"
    assert source_classes(spec.sources[0]) is None


def test_misspelt_spec_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        load_spec("composit-518")
    assert "did you mean 'composite-518'" in str(caught.value)
    assert all(name in str(caught.value) for name in spec_names())
    assert caught.value.exit_code == 2


def test_absent_file() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such spec file"):
        load_spec("nowhere.toml")


BAD = """
name = "x"
titel = "y"
clips_per_shard = 0
flip = 1
[labels]
rule = "singel"
max_classes = "many"
[encode]
size = 63
crf = 99
gop = true
bogus = 1
[[sources]]
name = "A b"
kind = "kinetix"
classes = "kinetics40"
splits = { train = "training" }
[[sources]]
name = "k"
kind = "kinetics"
[[expect]]
what = "clips/nobody"
value = 1.5
where = "nowhere"
"""


def test_every_fault_of_a_spec_is_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BAD)
    with pytest.raises(ConfigError) as caught:
        load_spec(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: bad dataset spec, ")
    for part in (
        "title: missing",
        "titel: unknown key (did you mean 'title'?)",
        "clips_per_shard is 0; expected at least 1",
        "flip is 1; expected true or false",
        "labels.rule is 'singel'; expected 'single' or 'label-set' or 'multi-hot'",
        "labels.max_classes is 'many'; expected a whole number",
        "size is 63; expected an even number",
        "crf is 99; expected 0 to 51",
        "encode.gop is True; expected a whole number",
        "encode.bogus: unknown key",
        "sources[1].classes is 'kinetics40' (did you mean 'kinetics400'?)",
        "kind is 'kinetix'; expected one of kinetics",
        "name is 'A b'",
        "splits.train is 'training'; expected one of train, val, test",
        "sources[2]: bad source 'k': classes is None",
        "expect[1].value is 1.5; expected a whole number",
    ):
        assert part in text, part


ONE = 'name="x"\ntitle="x"\n[[sources]]\nname="a"\nkind="folders"\n'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('name = "x', "not valid TOML"),
        ("", "sources: missing"),
        ('name="x"\ntitle="x"\nsources=[]', "sources is 'none'"),
        ('name="x"\ntitle="x"\nsources="kinetics"', "sources is 'kinetics'; expected a list"),
        (f'{ONE}[[sources]]\nname="a"\nkind="folders"', "each name once"),
        (f'{ONE}[[expect]]\nwhat="clips/b"\nvalue=1\nwhere="y"', "expect.what is 'clips/b'"),
        (f'{ONE}[[sources]]\nname="b"\nkind="listfile"\nclasses="mine.txt"', "cannot read the class list"),
        (f"{ONE}splits={{}}", "splits is 'empty'"),
        (f"{ONE}splits=7", "sources[1].splits is 7; expected a table"),
        (f"encode=7\n{ONE}", "encode is 7; expected a table"),
    ],
)
def test_bad_specs(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_spec(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_spec_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_spec(path)


def test_own_class_list_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("run\njump\n\nfall\n")
    path = tmp_path / "own.toml"
    path.write_text('name="own"\ntitle="t"\n[[sources]]\nname="a"\nkind="listfile"\nclasses="mine.txt"\n')
    source = load_spec(path).sources[0]
    assert source.class_names == ("run", "jump", "fall")
    listed = source_classes(source)
    assert listed is not None
    assert listed.ids == {"run": 0, "jump": 1, "fall": 2}

    (tmp_path / "mine.txt").write_text("run\njump\nrun\n")
    with pytest.raises(ConfigError, match=r"mine\.txt, row 3: class 'run' stands in row 1 already"):
        load_spec(path)


def test_none_is_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name="own"\ntitle="t"\n[encode]\nmax_frames="none"\nfps=10\n[[sources]]\nname="a"\nkind="folders"\n'
    )
    encode = load_spec(path).encode
    assert encode.max_frames is None
    assert encode.fps == 10.0
    assert isinstance(encode.fps, float)

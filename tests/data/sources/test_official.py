"""UCF101 and HMDB51: official lists, groups, other layouts and endings, and lines that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.trees import SPECS, read, row, touch, write
from vidkit.data.manifests import class_list, load_spec
from vidkit.data.sources.hmdb51 import film_of
from vidkit.errors import AnnotationError

UCF = class_list("ucf101").names
INDEX = [f"{i} {name}" for i, name in enumerate(UCF, 1)]
ARCHERY = UCF.index("Archery") + 1
LISTS = "ucfTrainTestlist"


def ucf(root: Path, train: list[str], test: list[str], number: int = 1) -> None:
    write(root, f"{LISTS}/trainlist{number:02}.txt", tuple(train))
    write(root, f"{LISTS}/testlist{number:02}.txt", tuple(test))


def archery(group: int, clip: int = 1) -> str:
    return f"Archery/v_Archery_g{group:02}_c{clip:02}.avi"


@pytest.mark.parametrize(("videos", "ending"), [("UCF-101/", ".avi"), ("", ".avi"), ("videos/UCF-101/", ".mp4")])
def test_ucf101_as_published(tmp_path: Path, videos: str, ending: str) -> None:
    ucf(tmp_path, [f"{archery(8)} {ARCHERY}", f"{archery(9)} {ARCHERY}"], [archery(1), archery(1, 2)])
    write(tmp_path, f"{LISTS}/classInd.txt", tuple(INDEX))
    names = [archery(8), archery(1), archery(1, 2), archery(25, 7)]
    touch(tmp_path, *(f"{videos}{name.removesuffix('.avi')}{ending}" for name in names))
    result = read("ucf101", tmp_path)
    assert result.classes == UCF
    assert result.version == "1"
    one = row(result, "v_Archery_g08_c01")
    assert one["path"] == f"{videos}Archery/v_Archery_g08_c01{ending}"
    assert (one["split"], one["labels"], one["group"], one["error"]) == ("train", ["Archery"], "Archery_g08", None)
    two, three = (row(result, f"v_Archery_g01_c0{i}") for i in (1, 2))
    assert (two["split"], two["group"]) == (three["split"], three["group"]) == ("test", "Archery_g01")
    assert row(result, "v_Archery_g09_c01")["error"] == "missing"
    counts = result.matching.counts
    assert (counts["annotated"], counts["annotated and found"], counts["present but unannotated"]) == (4, 3, 1)
    assert set(result.annotations) == {
        f"{LISTS}/{name}" for name in ("trainlist01.txt", "testlist01.txt", "classInd.txt")
    }


def test_ucf101_takes_one_of_three_divisions(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        ucf(tmp_path, [f"{archery(7 + number)} {ARCHERY}"], [archery(number)], number)
    for version in ("1", "2", "3"):
        result = read("ucf101", tmp_path, spec=replace(SPECS["ucf101"], version=version))
        assert result.matching.layout == f"UCF101, split {version}"
        assert {c["split"]: c["group"] for c in result.table.to_pylist()} == {
            "train": f"Archery_g{7 + int(version):02}",
            "test": f"Archery_g{int(version):02}",
        }
        assert not any("not understood" in text for text in result.matching.notes)


def test_ucf101_bad_lines(tmp_path: Path) -> None:
    wrong = [f"{archery(8)} 1", "no path", f"Arching/v_Arching_g08_c01.avi {ARCHERY}", f"../{archery(9)} {ARCHERY}"]
    ucf(tmp_path, [*wrong, f"{archery(10)} {ARCHERY}", f"{archery(10)} {ARCHERY}"], [archery(1)])
    touch(tmp_path, *(f"UCF-101/{archery(i)}" for i in (1, 8, 9, 10)))
    result = read("ucf101", tmp_path)
    found = {c["clip_id"].partition("/")[2]: (c["error"], c["message"]) for c in result.table.to_pylist()}
    shown = f"{LISTS}/trainlist01.txt"
    assert found[f"{shown}:1"] == (
        "bad-annotation",
        f"{shown}, row 1, field 'label': 'Archery' is class {ARCHERY}, not 1",
    )
    assert found[f"{shown}:2"][0] == found[f"{shown}:4"][0] == "bad-annotation"
    assert "'no path' is not `Class/file.avi`" in found[f"{shown}:2"][1]
    assert found["v_Arching_g08_c01"][0] == "unknown-label"
    assert found["v_Archery_g10_c01"][0] is None
    assert found["v_Archery_g10_c01#2"] == ("duplicate-row", f"{shown}, row 6: the same clip as {shown}, row 5")


def test_ucf101_without_lists_or_with_another_class_index(tmp_path: Path) -> None:
    touch(tmp_path, f"UCF-101/{archery(1)}")
    with pytest.raises(AnnotationError, match=r"no list of UCF101 found: trainlist01.txt.*\n  -> unpack"):
        read("ucf101", tmp_path)
    write(tmp_path, f"{LISTS}/testlist01.txt", (archery(1),))
    assert "no trainlist01.txt found: that split is empty" in read("ucf101", tmp_path).matching.notes
    write(tmp_path, f"{LISTS}/classInd.txt", (f"1 {UCF[1]}", *INDEX[1:]))
    with pytest.raises(AnnotationError, match=r"classInd.txt, row 1: '1 ApplyLipstick' is not class 1"):
        read("ucf101", tmp_path)


# --- HMDB51 ---

SPLITS = "testTrainMulti_7030_splits"
HAIR = "April_09_brush_hair_u_nm_np1_ba_goo_{}.avi"
CART = "#20_Rhythm_cartwheel_f_cm_np1_le_med_{}.avi"


def hmdb(root: Path, number: int = 1, **more: list[str]) -> None:
    lines: dict[str, list[str]] = {
        "brush_hair": [f"{HAIR.format(0)} 1 ", f"{HAIR.format(1)} 0 "],
        "cartwheel": [f"{CART.format(3)} 2 "],
    }
    for name, found in {**lines, **more}.items():
        write(root, f"{SPLITS}/{name}_test_split{number}.txt", tuple(found))


def test_hmdb51_as_published(tmp_path: Path) -> None:
    hmdb(tmp_path)
    touch(tmp_path, *(f"hmdb51_org/brush_hair/{HAIR.format(i)}" for i in (0, 1)), f"cartwheel/{CART.format(3)}")
    result = read("hmdb51", tmp_path)
    assert len(result.classes) == 51
    one, other = row(result, HAIR.format(0)[:-4]), row(result, CART.format(3)[:-4])
    assert (one["split"], one["labels"], one["group"], one["error"]) == ("train", ["brush_hair"], "April_09", None)
    assert (other["split"], other["labels"], other["group"]) == ("test", ["cartwheel"], "#20_Rhythm")
    assert other["path"] == f"cartwheel/{CART.format(3)}"
    assert result.table.num_rows == 2
    assert result.matching.counts["not planned: split unused"] == 1
    assert any("no list of split 1 for 49 classes: catch, chew" in text for text in result.matching.doubts)
    every = read("hmdb51", tmp_path, spec=load_spec("hmdb51-all").sources[0])
    assert row(every, HAIR.format(1)[:-4])["split"] == "val"


def test_hmdb51_other_division_and_bad_lines(tmp_path: Path) -> None:
    hmdb(tmp_path)
    hmdb(tmp_path, 2, cartwheel=[f"{CART.format(3)} 1", "x.avi 7"])
    touch(tmp_path, f"cartwheel/{CART.format(3)}")
    result = read("hmdb51", tmp_path, spec=replace(SPECS["hmdb51"], version="2"))
    assert row(result, CART.format(3)[:-4])["split"] == "train"
    bad = row(result, f"{SPLITS}/cartwheel_test_split2.txt:2")
    assert bad["error"] == "bad-annotation"
    assert "'x.avi 7' is not `file.avi` and 0 (unused), 1 (training) or 2 (test)" in bad["message"]
    with pytest.raises(AnnotationError, match=r"no list of HMDB51 found, such as brush_hair_test_split3.txt"):
        read("hmdb51", tmp_path, spec=replace(SPECS["hmdb51"], version="3"))


@pytest.mark.parametrize(
    ("name", "label", "film"),
    [
        ("Fellowship_5_shoot_bow_u_cm_np1_fr_med_13.avi", "shoot_bow", "Fellowship_5"),
        ("run_lola_run_run_f_cm_np1_ri_med_0.avi", "run", "run_lola_run"),
        ("A_film_situp_f_nm_np1_le_goo_0.avi", "sit", "A_film_situp"),
        ("odd.avi", "run", None),
    ],
)
def test_films(name: str, label: str, film: str | None) -> None:
    assert film_of(name, label) == film


def test_specs_of_both_go_with_their_classes() -> None:
    found: dict[str, Any] = {name: load_spec(name).sources[0] for name in ("ucf101", "hmdb51", "hmdb51-all")}
    assert [spec.kind for spec in found.values()] == ["ucf101", "hmdb51", "hmdb51"]
    assert found["hmdb51-all"].splits == {"train": "train", "test": "test", "unused": "val"}

"""Clips of a colour for each class; `test_evaluate.py` has its own."""

from __future__ import annotations

import pytest

from tests.fewshot.made import made_clips, made_pixels, made_split
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.draw import LabelledClips
from vidkit.fewshot.inputs.pixels import ClipPixels


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    return made_clips(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="module")
def split(clips: LabelledClips) -> ClassSplit:
    return made_split(clips)


@pytest.fixture(scope="module")
def pixels(clips: LabelledClips) -> ClipPixels:
    return made_pixels(clips)

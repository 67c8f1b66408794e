"""One thread: sums of several come out in another order, which a test that asks for equal bits would notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.fewshot.made import made_clips, made_pixels, made_split
from vidkit.fewshot.episodes.class_split import ClassSplit
from vidkit.fewshot.episodes.draw import LabelledClips
from vidkit.fewshot.pixels import ClipPixels


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- few-shot: clips of a colour for each class; test_fewshot.py has its own ---


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    return made_clips(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="module")
def split(clips: LabelledClips) -> ClassSplit:
    return made_split(clips)


@pytest.fixture(scope="module")
def pixels(clips: LabelledClips) -> ClipPixels:
    return made_pixels(clips)

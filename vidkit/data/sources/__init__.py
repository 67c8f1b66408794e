"""Readers: datasets as they lie on disk -> clip tables. They only parse; nothing is decoded here."""

from __future__ import annotations

from collections.abc import Callable

from vidkit.data.sources import folders, hmdb51, kinetics, listfile, minikinetics, ssv2, tinyvirat, ucf101
from vidkit.data.sources.parts.reading import Roots
from vidkit.data.sources.parts.rows import SourceResult
from vidkit.settings.encode import SourceOptions, SourceSpec

Reader = Callable[[SourceSpec, Roots, SourceOptions], SourceResult]

#: `SourceSpec.kind` -> its reader
READERS: dict[str, Reader] = {
    "kinetics": kinetics.read,
    "minikinetics": minikinetics.read,
    "ssv2": ssv2.read,
    "tinyvirat": tinyvirat.read,
    "ucf101": ucf101.read,
    "hmdb51": hmdb51.read,
    "listfile": listfile.read,
    "folders": folders.read,
}

__all__ = ["READERS", "Reader", "Roots", "SourceResult"]

"""How every reader begins and ends: the folder is walked, annotations are found; rows become a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidkit.data.sources.parts.classes import ClassLookup, class_names
from vidkit.data.sources.parts.endings import stem_of
from vidkit.data.sources.parts.files import FileIndex, scan
from vidkit.data.sources.parts.packed import Inside
from vidkit.data.sources.parts.rows import UNANNOTATED, Rows, SourceResult, finish
from vidkit.data.sources.parts.texts import (
    AnnotationFile,
    annotation_files,
    name_unread,
    not_understood,
    read_annotation,
    unread,
)
from vidkit.data.tables import Matching
from vidkit.errors import AnnotationError, display_path
from vidkit.settings.encode import SourceOptions, SourceSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Roots:
    """The folders that were given for one source."""

    folder: Path
    annotations: tuple[Path, ...] = ()
    """Folders or files with annotations that do not lie beside the videos."""
    kinetics: Path | None = None
    """For Mini-Kinetics: the Kinetics folder, with the CSV and perhaps the videos."""
    inside: Inside = field(default_factory=Inside)
    """How to look into archives."""


@dataclass(slots=True)
class Reading:
    """One source while it is read."""

    spec: SourceSpec
    roots: Roots
    options: SourceOptions
    files: FileIndex
    annotations: list[AnnotationFile]
    lookup: ClassLookup
    matching: Matching
    rows: Rows
    hashes: dict[str, str] = field(default_factory=dict)
    """Annotation file -> sha256, of those that were read."""
    _rest: dict[str, str] | None = None
    """Stem -> a file that was not taken."""

    @classmethod
    def begin(
        cls,
        spec: SourceSpec,
        roots: Roots,
        options: SourceOptions,
        *,
        classes: Sequence[str] | None = None,
        is_named: Callable[[str], bool] = lambda path: False,
        names_class: Callable[[str], bool] | None = None,
    ) -> Reading:
        """Walk the folder and find what could hold annotations.

        Args:
            classes: class names, by default those of the spec.
            is_named: whether a file without an ending is named as this source's videos are.
            names_class: whether an archive's name is that of a class; by default one of `classes`.

        Raises:
            AnnotationError: the spec names no classes.
            BuildError: an archive that cannot be indexed or inflated here.
            ConfigError: a folder that cannot be read, or is not there.
        """
        matching = Matching(spec.name)
        lookup = ClassLookup(class_names(spec) if classes is None else classes)
        files = scan(
            roots.folder,
            matching,
            follow_symlinks=options.follow_symlinks,
            is_named=is_named,
            names_class=names_class or (lambda name: lookup.find(name) is not None),
            inside=roots.inside,
        )
        return cls(
            spec=spec,
            roots=roots,
            options=options,
            files=files,
            annotations=annotation_files(files, roots.annotations, roots.inside),
            lookup=lookup,
            matching=matching,
            rows=Rows(spec.name, matching),
        )

    def text(self, file: AnnotationFile) -> str:
        """See `read_annotation`."""
        return read_annotation(file, self.hashes, self.matching)

    def near(self, path: str) -> str:
        """For a message that a video is missing: the file of that stem that is there but cannot be it, if any."""
        if self._rest is None:
            self._rest = {stem_of(rest): rest for rest in reversed(self.files.rest)}
        rest = self._rest.get(stem_of(path))
        return f"; {display_path(rest)} is there" if rest is not None else ""

    def count_unclaimed(self, claimed: Callable[[int], object]) -> None:
        """Count the videos (by their position) that no annotation took."""
        for i, path in enumerate(self.files.videos):
            if not claimed(i):
                self.matching.count(UNANNOTATED, display_path(path))

    def refusal(
        self,
        message: str,
        *,
        hint: str,
        file: Path | None = None,
        row: int | None = None,
        understood: Iterable[str] = (),
    ) -> AnnotationError:
        """The error that nothing tells what is planned. It names the annotation files that were not understood.

        Args:
            file: the one that it is about, by default the folder.
            understood: annotation files that cannot help here, by their shown names.
        """
        others = [one for one in self.annotations if one.path != file]
        if names := unread(others, [*self.hashes, *understood]):
            message += f"; {not_understood([one.shown for one in names])}"
        return AnnotationError(message, file=file or self.roots.folder, row=row, hint=hint)

    def end(
        self,
        *,
        classes: tuple[str, ...] | None = None,
        only: Iterable[str] | None = None,
        part: float | None = None,
        version: str | None = None,
        understood: Iterable[str] = (),
    ) -> SourceResult:
        """The result: planned rows (see `finish`), and a note of annotation files that told nothing.

        Args:
            classes: of the source, by default all of the class list.
            understood: annotation files that were left out knowingly, by their shown names.
        """
        self.rows.place(self.files.packed)
        name_unread(self.annotations, [*self.hashes, *understood], self.files.root, self.matching)
        return SourceResult(
            table=finish(self.rows, self.spec, self.options, only=only, part=part),
            matching=self.matching,
            classes=self.lookup.names if classes is None else classes,
            root=self.files.root,
            annotations=self.hashes,
            version=self.spec.version if version is None else version,
        )

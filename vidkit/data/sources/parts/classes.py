"""Class names as annotations and folders spell them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from vidkit.data.manifests import source_classes
from vidkit.errors import AnnotationError
from vidkit.settings.encode import SourceSpec

#: Unicode's kinds of characters that spellings differ in: blanks, underscores, punctuation, controls, accents
#: that stand alone. Letters, digits, combining marks and, where a guess would be dear, symbols (`+`) do not.
_LOOSE = frozenset({"Zs", "Zl", "Zp", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cc", "Cf", "Cs", "Sk"})
_SYMBOLS = frozenset({"Sm", "Sc", "So"})


def class_key(name: str, *, symbols: bool = True) -> str:
    """What the spellings of one class have in common: no case, blanks, punctuation or normal form.

    Between two digits something stays: "1.5" is not "15". A name of nothing but punctuation is its own key.

    Args:
        symbols: whether symbols tell classes apart ("c++" and "c").

    >>> class_key("Push_up") == class_key("push up"), class_key("take 1_1") == class_key("take 11")
    (True, False)
    """
    text = unicodedata.normalize("NFKC", name).casefold()
    loose = _LOOSE if symbols else _LOOSE | _SYMBOLS
    kept = "".join("\0" if unicodedata.category(char) in loose else char for char in text)
    kept = re.sub(r"(?<=\d)\0+(?=\d)", "_", kept).replace("\0", "")
    return unicodedata.normalize("NFKC", kept) or text


class ClassLookup:
    """Class names as annotations and folders spell them: exact, else the one class of nearly that name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: name for name in names}
        self._loose: dict[str, str | None] = {}
        for name in names:
            key = class_key(name, symbols=False)
            self._loose[key] = name if key not in self._loose else None  # None: two classes, so no guess
        self._cache: dict[str, str | None] = {}

    def find(self, name: str) -> str | None:
        """The class that `name` means, or None."""
        if name not in self._cache:
            self._cache[name] = self._exact.get(name) or self._loose.get(class_key(name, symbols=False))
        return self._cache[name]


def class_names(spec: SourceSpec) -> tuple[str, ...]:
    """The class list of a source that cannot do without.

    Raises:
        AnnotationError: the spec names none.
    """
    classes = source_classes(spec)
    if classes is None:
        raise AnnotationError(
            f"source {spec.name!r} of kind {spec.kind!r} needs a class list", hint="set classes in the spec"
        )
    return classes.names


def merge_spellings(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """(spelling -> class, in words which spellings were taken for one) of folder names, one for each clip.

    The most frequent spelling is the class's name; of equally frequent ones the composed form, then the first.
    """
    spellings: dict[str, Counter[str]] = {}
    for name, count in Counter(names).items():
        spellings.setdefault(class_key(name), Counter())[name] = count
    class_of, merged = {}, []
    for found in spellings.values():
        ranked = sorted(found, key=lambda name: (-found[name], not unicodedata.is_normalized("NFC", name), name))
        class_of.update(dict.fromkeys(ranked, ranked[0]))
        if len(ranked) > 1:
            shown = ", ".join(f"{_told_apart(name, ranked)} ({found[name]:,})" for name in ranked[:5])
            more = f" and {len(ranked) - 5} more" if len(ranked) > 5 else ""
            merged.append(f"{shown}{more} are one class, {ranked[0]!r}")
    return class_of, sorted(merged)


def _told_apart(name: str, names: list[str]) -> str:
    """A name as it is read; of two that look the same, the one in another normal form says so."""
    composed = unicodedata.normalize("NFC", name)
    twins = sum(unicodedata.normalize("NFC", other) == composed for other in names)
    return f"{name!r}" if twins < 2 or name == composed else f"{name!r} with accents apart"

"""Lines of list files: a path, then numbers that are labels, or frames before labels, or frames alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from vidkit.data.sources.parts.endings import VIDEO_ENDINGS

# the path may hold spaces: it ends at the last video ending that only whole numbers follow
_ENDINGS = "|".join(
    sorted((re.escape(ending[1:]) for ending in VIDEO_ENDINGS), key=lambda text: (-len(text), text))
)
_NUMBERS = r"((?:[ \t,;]+-?[0-9]{1,9})*)[ \t]*"
_LINE = re.compile(rf"(.*\.(?:{_ENDINGS})){_NUMBERS}", re.IGNORECASE)
_VIDEO = re.compile(rf"\.(?:{_ENDINGS})(?![^\s,;])", re.IGNORECASE)
# read backwards, as a path without an ending has no other mark: searching from the front takes quadratic time
_NUMBERS_BACK = re.compile(r"[ \t]*((?:[0-9]{1,9}-?[ \t,;]+)*)")
EXPECTED = "is no video path with whole numbers after it"


class ListLine(NamedTuple):
    """A line of a list file, taken apart."""

    row: int
    path: str | None
    """None: the line is no path with labels."""
    ids: list[int]
    text: str


def parse_lines(
    text: str,
    is_file: Callable[[str], bool] = lambda path: False,
    on_comment: Callable[[ListLine], None] = lambda line: None,
) -> Iterator[ListLine]:
    """Lines of a list file; empty lines and `#` comments are skipped.

    Args:
        is_file: whether a file of that name is there. Then `#shorts.mp4 3` is no comment, and a name without an
            ending is a path.
        on_comment: told of each comment that reads as a path with numbers.
    """
    for row, line in enumerate(text.split("\n"), start=1):
        line = line.strip("\r\n")
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        path, numbers = match.groups() if match is not None else _without_numbers(line, is_file)
        known = match is not None or is_file(path)
        if line.startswith("#") and not is_file(path):
            if known:
                on_comment(ListLine(row, path, [], line))
        elif not known:
            yield ListLine(row, None, [], line)
        else:
            ids = [int(number) for number in re.split(r"[ \t,;]+", numbers) if number]
            yield ListLine(row, path, ids, line)


def _without_numbers(line: str, is_file: Callable[[str], bool]) -> tuple[str, str]:
    """(path, numbers after it), where the path has no ending; its name may end in numbers itself."""
    match = _NUMBERS_BACK.match(line[::-1])
    assert match is not None  # all of it is optional
    start = len(line) - match.end()
    ends = [start, *(start + number.end() for number in islice(re.finditer(r"[0-9]+", line[start:]), 8))]
    end = next((end for end in ends if is_file(line[:end])), start)
    return line[:end], line[end:]


def names_video(text: str) -> bool:
    """Whether a line holds something that ends as a video does."""
    return _VIDEO.search(text) is not None


Form = Literal["labels", "start length", "length label", "start length label"]


def form_of(rows: Sequence[Sequence[int]], ids: range, *, multi_label: bool) -> Form:
    """What the numbers of a list mean, for the list as a whole.

    VideoMAE's lists give a number of frames before the label (`path 250 3`), VideoMAEv2's a first frame and a
    number of frames, -1 for all, before a label or instead of one (`path 0 -1`). Any other list gives labels. A
    number that is no label tells; so does a second number where clips have one label each. A few lines that lack
    numbers, or have others, do not change how the list is read.

    Args:
        rows: the numbers of each line.
        ids: what a label may be.
    """
    lengths = Counter(len(numbers) for numbers in rows if numbers)
    usual, lines = lengths.most_common(1)[0] if lengths else (0, 0)
    if len(lengths) > 1 and (multi_label or 2 * lines <= len(rows)):
        return "labels"
    columns = list(zip(*(numbers for numbers in rows if len(numbers) == usual), strict=True))
    if usual in (2, 3):
        starts, counts = columns[0], columns[1]
        frames = all(n >= 0 for n in starts) and all(n == -1 or n > 0 for n in counts)
        told = -1 in counts or (not any(starts) and any(n not in ids for n in counts))
        if usual == 2 and frames and told:
            return "start length"
        labelled = 2 * sum(n in ids for n in columns[-1]) > lines
        if usual == 3 and frames and labelled and (told or not multi_label):
            return "start length label"
        some = all(n > 0 for n in columns[0])
        if usual == 2 and some and labelled and (not multi_label or any(n not in ids for n in columns[0])):
            return "length label"
    return "labels"


def split_numbers(numbers: Sequence[int], form: Form) -> tuple[list[int], int] | None:
    """(labels, first frame) of a line's numbers; None where they do not have that form."""
    if form == "labels":
        return list(numbers), 0
    if not numbers:
        return [], 0
    if len(numbers) != len(form.split()):
        return None
    if form == "length label":
        return list(numbers[1:]), 0
    return list(numbers[2:]), numbers[0]

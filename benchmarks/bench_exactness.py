"""Which frames come back: every frame of odd files, asked for one at a time as a loader does.

The frames show their own number, so a wrong one is told without another decoder. "wrong" frames came
back in silence; "refused" ones raised an error. Each reader runs in a process of its own on each file.

    python -m benchmarks.bench_exactness
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import common
from benchmarks.parts import readers

#: Case in tests/badmedia.py -> what it is.
FILES: dict[str, str] = {
    "with-audio": "ordinary MP4",
    "variable-rate": "variable frame rate",
    "open-gop": "open GOP",
    "rotated-90": "rotation flag, 90 degrees",
    "edit-list": "edit list that hides the first frames",
    "late-start": "first frame at 4 s",
    "size-change": "picture size changes (MPEG-TS)",
    "avi-mpeg4": "AVI, MPEG-4",
    "mpeg-ts": "MPEG-TS",
    "mkv": "Matroska",
    "vp9": "WebM, VP9",
    "ten-bit-hevc": "HEVC, 10 bits",
    "av1": "AV1",
}
TIME_LIMIT_S = 60


def ask(path: Path, reader: str, frames: int, first: int) -> dict[str, Any]:
    """Read each frame of a file with a new reader; runs in a process of its own."""
    from tests.indexclips import read_index

    data = path.read_bytes()
    wrong: list[int] = []
    refused: list[int] = []
    words = ""
    for i in range(frames):
        try:
            frame = readers.available()[reader](data, [i])[0]
        except Exception as error:  # whatever a library raises is a refusal, and is reported as one
            refused.append(i)
            words = words or f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            continue
        try:
            right = read_index(frame) == first + i
        except ValueError:  # turned, or too damaged to be read
            right = False
        if not right:
            wrong.append(i)
    return {"frames": frames, "wrong": wrong, "refused": refused, "words": words}


def ask_apart(path: Path, reader: str, frames: int, first: int) -> dict[str, Any]:
    """`ask` in a child process: a reader may hang or crash."""
    words = [sys.executable, "-m", "benchmarks.bench_exactness", "--file", os.fspath(path), "--reader", reader]
    try:
        done = subprocess.run(
            [*words, "--frames", str(frames), "--first", str(first)],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"frames": frames, "wrong": [], "refused": list(range(frames)), "words": "hangs"}
    if done.returncode:
        return {"frames": frames, "wrong": [], "refused": list(range(frames)), "words": f"exit {done.returncode}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    answer["words"] = answer["words"].replace(os.fspath(path), path.name)
    return answer


def in_words(answer: dict[str, Any]) -> str:
    parts = [f"{len(answer[kind])} {kind}" for kind in ("wrong", "refused") if answer[kind]]
    return f"{', '.join(parts)} of {answer['frames']}" if parts else f"all {answer['frames']} right"


def main(
    quick: Annotated[bool, typer.Option(help="Two files only.")] = False,
    results: Annotated[Path, typer.Option(help="Where the result file goes.")] = common.RESULTS,
    file: Annotated[Path | None, typer.Option(hidden=True)] = None,
    reader: Annotated[str, typer.Option(hidden=True)] = "vidkit",
    frames: Annotated[int, typer.Option(hidden=True)] = 0,
    first: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    if file is not None:
        print(json.dumps(ask(file, reader, frames, first)))
        return
    from tests.badmedia import CASES

    chosen = [name for name in FILES if name in CASES]
    names = list(readers.available())
    answers: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen[:2] if quick else chosen:
            case = CASES[name]
            path = Path(folder) / f"{name}{case.suffix}"
            case.write(path)
            assert case.frames is not None
            answers[name] = {n: ask_apart(path, n, case.frames, case.first) for n in names}
            print(f"  {FILES[name]}: { {n: in_words(a) for n, a in answers[name].items()} }", file=sys.stderr)
    rows = [(FILES[name], *(in_words(found[n]) for n in names)) for name, found in answers.items()]
    print(common.table(("file", *names), rows))
    common.write_result("exactness", {"readers": readers.versions(), "files": answers}, results)


if __name__ == "__main__":
    typer.run(main)

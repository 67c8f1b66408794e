"""What every benchmark shares: machine facts, measured commands, interleaving, statistics, result files.

Times vary from minute to minute on a shared machine, so contenders take turns (A B C A B C ...) and
are compared turn by turn: a ratio is the median of the turns' ratios, not a ratio of medians.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a command took, its children included."""

    seconds: float
    cpu_s: float
    """User and system time."""
    peak_mb: float | None
    """Peak resident memory of all its processes together (sampled; shared pages count for each). Linux only."""
    largest_mb: float | None
    """Peak resident memory of its largest process; None where that is below our own (a forked child begins
    with its parent's)."""
    output: str
    """Standard output and standard error."""

    def row(self) -> dict[str, Any]:
        """As it stands in a result file."""
        numbers = {
            "seconds": self.seconds,
            "cpu_s": self.cpu_s,
            "peak_mb": self.peak_mb,
            "largest_mb": self.largest_mb,
        }
        return {name: None if value is None else round(value, 4) for name, value in numbers.items()}


def measure(command: Sequence[str | os.PathLike[str]], *, stdin: bytes = b"", cwd: Path | None = None) -> Usage:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; its last words are shown.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd
    ) as process:
        started = time.perf_counter()
        sampler = _TreeMemory(process.pid)
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.read() if process.stdout else b""))
        reader.start()
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        # wait4, not wait: it tells what this process and all that it waited for took
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        peak_mb = sampler.stop()
    largest, unit = used.ru_maxrss, (1 if sys.platform == "darwin" else 1024) / 1e6
    output = b"".join(said).decode("utf-8", "replace")
    if process.returncode:
        raise SystemExit(f"{os.fspath(command[0])} ended with {process.returncode}:\n{output[-3000:]}")
    return Usage(
        seconds=seconds,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_mb=peak_mb,
        largest_mb=largest * unit if largest > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else None,
        output=output,
    )


class _TreeMemory:
    """Samples the resident memory of a process and its descendants; rarely, so that it costs nothing."""

    EVERY_S = 0.25

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self._done = pid, 0, threading.Event()
        self.available = Path(f"/proc/self/task/{os.getpid()}/children").exists()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self.available and not self._done.wait(self.EVERY_S):
            self.peak = max(self.peak, _resident(self.pid))

    def stop(self) -> float | None:
        self._done.set()
        self._thread.join()
        return self.peak * os.sysconf("SC_PAGE_SIZE") / 1e6 if self.peak else None


def _resident(pid: int) -> int:
    """Pages of a process and its descendants; those that end meanwhile count as nothing."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0
    return pages + sum(map(_resident, children))


def take_turns(
    contenders: Mapping[str, Callable[[int], dict[str, Any]]], rounds: int, *, said: str = ""
) -> dict[str, list[dict[str, Any]]]:
    """Raw runs of each contender: A B C, B C A, ... (each begins in turn, so that none always comes after
    the same one). A contender is called with the number of the round.
    """
    names = list(contenders)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            runs[name].append(contenders[name](turn))
            if said:
                print(f"  {said}, round {turn + 1} of {rounds}: {name} {runs[name][-1]}", file=sys.stderr)
    return runs


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """ours / theirs, turn by turn."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": round(median(each), 4), "runs": [round(value, 4) for value in each]}


# --- machine facts and result files -----------------------------------------------------------


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers; nothing that names the machine or its folders."""
    import av

    from vidkit.bench.measure import facts
    from vidkit.data.media.transcode import encoder_fingerprint

    found = facts.machine()
    load = found.pop("load_average")  # last, as it says how it was just now
    return {**found, "pyav": av.__version__, "encoder": encoder_fingerprint(), "load_average": load}


def ffmpeg_facts(binary: str) -> dict[str, str]:
    """Version of an ffmpeg program and of the x264 in it."""
    version = subprocess.run([binary, "-version"], capture_output=True, text=True, check=True).stdout
    picture = [
        "-f",
        "lavfi",
        "-i",
        "color=size=64x64:rate=1",
        "-frames:v",
        "1",
        "-c:v",
        "libx264",
        "-f",
        "h264",
        "-",
    ]
    stream = subprocess.run([binary, "-v", "error", *picture], capture_output=True, check=True).stdout
    x264 = re.search(rb"x264 - core ([^-]+) -", stream)
    return {
        "version": version.split("Copyright")[0].replace("ffmpeg version", "").strip(),
        "x264": x264.group(1).decode().strip() if x264 else "unknown",
    }


def write_result(theme: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write THEME-HARDWARE-DATE.json, machine facts first."""
    facts = machine()
    words = re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|processor|cpu|@.*", " ", facts["cpu"].lower()))
    name = "-".join([theme, *words, f"{facts['cores']}-cores", time.strftime("%Y-%m-%d")])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    value = {"theme": theme, "date": time.strftime("%Y-%m-%d"), "machine": facts, **result}
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path.name}", file=sys.stderr)
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; numbers to three figures."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header)]]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def checkout(commit: str, folder: Path) -> Path:
    """The package as it was at a commit of this repository, in a new folder.

    Raises:
        SystemExit: there is no such commit.
    """
    words = ["git", "archive", commit, "vidkit", "manifests"]
    archive = subprocess.run(words, cwd=RESULTS.parents[1], stdout=subprocess.PIPE, check=False)
    if archive.returncode:
        raise SystemExit(f"--before: no commit {commit!r} in this repository")
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", os.fspath(folder)], input=archive.stdout, check=True)
    return folder


class Rows:
    """A file with a line for each run that has ended, so that a benchmark goes on where it was stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.found: dict[str, dict[str, Any]] = {row["run"]: row for row in map(json.loads, lines)}

    def of(self, name: str) -> dict[str, Any] | None:
        return self.found.get(name)

    def add(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        whole = {"run": name, **row}
        with self.path.open("a") as file:
            file.write(json.dumps(whole) + "\n")
        self.found[name] = whole
        print(f"  {whole}", file=sys.stderr, flush=True)
        return whole


def program(name: str) -> list[str]:
    """The command line of an installed console script, or the same without one."""
    script = Path(sys.executable).with_name(name)
    return (
        [os.fspath(script)] if script.exists() else [sys.executable, "-c", f"from {name}.cli import main; main()"]
    )


def warm(folder: Path) -> int:
    """Read every file below, so that no contender waits for the disk; returns bytes."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            total += len(path.read_bytes())
    return total

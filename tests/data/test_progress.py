"""What a user sees of long work: counts by outcome, speed without what was there already, plain lines in a log."""

from __future__ import annotations

import io
import threading

import pytest

from vidkit.data import progress as module
from vidkit.data.progress import Progress


class Clock:
    """Stands in for `time`, so that speeds are exact."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_speed_and_time_left_count_only_this_run(clock: Clock) -> None:
    progress = Progress("building", 1000, quiet=True)
    progress.already("ok", 500)
    assert (progress.rate(), progress.worked, progress.done) == (0, 0, 500)
    assert progress.line() == "building: 500/1,000 clips  0.0 clips/s"
    clock.now += 10
    progress.advance("ok", 98)
    progress.advance("failed", 2)
    progress.already("missing")
    assert (progress.rate(), progress.worked) == (10.0, 100)
    assert progress.line() == "building: 601/1,000 clips  10.0 clips/s  ETA 0:40  failed 2  missing 1"


@pytest.mark.parametrize(
    ("left", "said"), [(59, "0:59"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (360_000, "100:00:00")]
)
def test_time_left_is_a_clock(left: int, said: str, clock: Clock) -> None:
    progress = Progress("verifying", left + 1, unit="shards", quiet=True)
    clock.now += 1
    progress.advance()
    assert f"ETA {said}" in progress.line()
    assert "shards/s" in progress.line()


def test_nothing_is_left_at_the_end(clock: Clock) -> None:
    progress = Progress("building", 1, quiet=True)
    clock.now += 1
    progress.advance()
    assert "ETA" not in progress.line()


def test_lines_come_now_and_then_and_once_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("building", 30, stream=stream) as progress:
        for _ in range(30):
            clock.now += 1
            progress.advance()
    lines = stream.getvalue().splitlines()
    assert [line.split("/")[0] for line in lines] == [
        "building: 10",
        "building: 20",
        "building: 30",
        "building: 30",
    ]
    assert "\x1b" not in stream.getvalue(), "no terminal, no control characters"


def test_no_last_line_after_an_error(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(RuntimeError), Progress("building", 30, stream=stream):
        raise RuntimeError
    assert stream.getvalue() == ""


def test_quiet_says_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress("building", 2, stream=stream, quiet=True) as progress:
        clock.now += 1000
        progress.advance()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress("building", 3, stream=stream) as progress:
        progress.advance("failed")
        progress.advance()
    said = stream.getvalue()
    assert "2/3 clips" in said
    assert "failed 1" in said
    with Progress("drawing clips", 0, stream=Terminal()) as progress:  # a total that is not known yet
        progress.total = 5
        progress.advance()


def test_threads_lose_no_count() -> None:
    progress = Progress("building", 8000, quiet=True)

    def work() -> None:
        for _ in range(1000):
            progress.advance()
            progress.already("failed")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.counts == {"ok": 8000, "failed": 8000}
    assert progress.worked == 8000

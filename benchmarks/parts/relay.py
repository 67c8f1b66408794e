"""Something between a client and a server on this machine: it counts bytes, and makes the way longer."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Relay:
    """`port` is its own; `bytes` went from the server to clients, in `requests` pieces of the other direction."""

    port: int
    _bytes: Any
    _requests: Any

    def take(self) -> dict[str, int]:
        """What was counted since the last time."""
        found = {"bytes": int(self._bytes.value), "requests": int(self._requests.value)}
        self._bytes.value = self._requests.value = 0
        return found


@contextmanager
def relay(to: int, delay_s: float = 0.0) -> Iterator[Relay]:
    """A relay to a port of this machine, in a process of its own; each request arrives `delay_s` later."""
    context = multiprocessing.get_context("spawn")
    counted, requests = context.Value("Q", 0), context.Value("Q", 0)
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(to, delay_s, counted, requests, theirs), daemon=True)
    process.start()
    try:
        yield Relay(ours.recv(), counted, requests)
    finally:
        process.terminate()
        process.join()


def _main(to: int, delay_s: float, counted: Any, requests: Any, told: Any) -> None:
    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, out: bool) -> None:
        try:
            while data := await source.read(1 << 18):
                if out:
                    counted.value += len(data)
                else:
                    requests.value += 1
                    await asyncio.sleep(delay_s)
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def client(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pipe(source, to_server, out=False), pipe(from_server, sink, out=True))

    async def serve() -> None:
        server = await asyncio.start_server(client, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())

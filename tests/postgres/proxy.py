"""A wire between a client and PostgreSQL that can be cut around a COMMIT."""

import asyncio
from contextlib import suppress
from typing import Self

COMMIT = b"COMMIT\0"


class Proxy:
    """Forwards, until a COMMIT comes by while `cuts` has a word left; the first of them says what becomes of it.

    before: it is not passed on. after: it is passed on and answered, and the answer is lost. late: the client is cut
    off first, and the COMMIT arrives a second later. frozen: it is not passed on, and the server keeps waiting.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.cuts: list[str] = []
        self.done: list[str] = []
        self.down = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if self.down:
            writer.transport.abort()
            return
        with suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
            self._writers += [writer, back]
            answers = asyncio.create_task(self._answers(there, writer))
            try:
                await self._requests(reader, back, writer, answers)
            finally:
                answers.cancel()
                back.close()
                writer.close()

    async def _requests(self, reader, back, writer, answers) -> None:
        while data := await reader.read(65536):
            if COMMIT in data and self.cuts:
                cut = self.cuts.pop(0)
                self.done.append(cut)
                if cut == "before":
                    back.transport.abort()
                    writer.transport.abort()
                    return
                if cut == "frozen":
                    writer.transport.abort()
                    await asyncio.sleep(3600)
                answers.cancel()
                if cut == "late":
                    writer.transport.abort()
                    await asyncio.sleep(1)
                back.write(data)
                await back.drain()
                await asyncio.sleep(0.3)  # its answer is there, and nobody hears it
                writer.transport.abort()
                return
            back.write(data)
            await back.drain()

    async def _answers(self, there, writer) -> None:
        with suppress(OSError):
            while data := await there.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

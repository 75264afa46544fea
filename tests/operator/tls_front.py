"""A TLS front before the simulator whose certificate can be exchanged under a running agent."""

import asyncio
import contextlib
import hashlib
import ssl
import threading
from pathlib import Path
from urllib.parse import urlsplit

import trustme


class TlsFront:
    """Listens on loopback, and passes everything on; `exchange` makes a new authority and certificate."""

    def __init__(self, url: str, ca_file: str, folder: Path) -> None:
        parts = urlsplit(url)
        self._behind = (parts.hostname or "", parts.port or 0)
        self._trusted = ssl.create_default_context(cafile=ca_file)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._open: set[asyncio.StreamWriter] = set()
        self.ca_file = folder / "front-ca.pem"
        self.authority = b""
        self.fingerprint = ""
        self._make()
        self.ca_file.write_bytes(self.authority)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._call(self._listen())}"

    def exchange(self) -> None:
        """A new certificate; whoever is connected is cut off. The new authority is not put into `ca_file`."""
        self._make()
        self._call(self._cut_off())

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _make(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.configure_cert(self._context)  # for the connections that come from now on
        self.authority = authority.cert_pem.bytes()
        shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())).hexdigest().upper()
        self.fingerprint = ":".join(shown[at : at + 2] for at in range(0, len(shown), 2))

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        """In the loop's own thread: a server that is closed from another one may be closed twice."""
        self._server.close()
        await self._cut_off()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.1)  # what was aborted is closed in the loop's next turns

    async def _cut_off(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()
        for _ in range(100):
            if not self._open:
                return
            await asyncio.sleep(0.05)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            there_reader, there = await asyncio.open_connection(*self._behind, ssl=self._trusted)
            ways = [asyncio.ensure_future(_copy(reader, there)), asyncio.ensure_future(_copy(there_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(ways, timeout=1)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            if there is not None:
                there.transport.abort()
            writer.transport.abort()
            self._open.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

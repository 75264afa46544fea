"""The agent's own unix socket: commands that write hand over to whoever holds the journal.

Rule kept here: nobody but the agent's own user (and root) gets in, by the file's mode and by the kernel's word about
the other side; a message is one line of JSON of bounded size, and each side waits a bounded time for the other. The one
who listens holds the journal's lock, so a socket file that is there already is a dead one's.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from trueup.model import limits
from trueup.model.errors import BadInput, JournalBusy, TrueupError

Argument = str | bool | tuple[str, ...]
Answer = Mapping[str, msgspec.Raw]

_CREDENTIALS: Final = struct.Struct("3i")
_ROOT: Final = 0
_RETRY_S: Final = 0.1


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a command asks for. `by` is the person's name on this machine, for the record.

    `content` is base64 of a signed statement, `via` how it came, and `op_id` also names a request.
    """

    command: str
    by: str = ""
    guests: tuple[str, ...] = ()
    op_id: str = ""
    take_over: bool = False
    content: str = ""
    via: str = ""


class _Reply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """First `taken`, as soon as the message was read; then the result, or the three parts of an error."""

    taken: bool = False
    result: msgspec.Raw = msgspec.Raw()
    what: str = ""
    where: str = ""
    remedy: str = ""


Handler = Callable[[Message], Awaitable[msgspec.Raw]]
"""Does what a message asks for and returns the result as JSON; may raise TrueupError, which the command then tells."""


def socket_path(journal: Path) -> Path:
    """The socket that belongs to a journal."""
    path = journal.absolute().resolve()
    return path.with_name(path.name + ".socket")


# --- The agent's side -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(journal: Path, handler: Handler) -> AsyncGenerator[None]:
    """Take messages while this is open. Whoever calls holds the journal's lock.

    Raises:
        BadInput: the socket cannot be made.
    """
    path = socket_path(journal)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await _serve(reader, writer, handler)

    try:
        server = await asyncio.start_unix_server(serve, sock=_bound(path), limit=limits.SOCKET_MESSAGE_MAX_BYTES)
    except OSError as error:
        remedy = "remove what stands there, or point [store] url elsewhere"
        raise BadInput(what=f"cannot listen: {error.strerror}", where=str(path), remedy=remedy) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()
        for task in [*tasks]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _bound(path: Path) -> socket.socket:
    """A socket at `path`, for us alone from its first moment on."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with _short(path) as address:
            made.bind(address)
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """One connection, one message."""
    try:
        if _peer(writer) not in {os.getuid(), _ROOT}:
            return
        message = await _read_message(reader)
        if isinstance(message, _Reply):
            await _send(writer, message)
            return
        await _send(writer, _Reply(taken=True))
        await _send(writer, await _handled(handler, message))
    except OSError:
        pass  # whoever asked has gone; what was asked for is done all the same
    finally:
        writer.close()


async def _read_message(reader: asyncio.StreamReader) -> Message | _Reply:
    try:
        async with asyncio.timeout(limits.SOCKET_TIMEOUT_S):
            line = await reader.readline()
    except (TimeoutError, ValueError):
        most = limits.SOCKET_MESSAGE_MAX_BYTES
        return _Reply(what=f"a message must be one line of at most {most} bytes, and come within a few seconds")
    try:
        return msgspec.json.decode(line, type=Message)
    except msgspec.MsgspecError as error:
        return _Reply(what=f"the message is not understood: {error}", remedy="use the same version as the agent")


async def _handled(handler: Handler, message: Message) -> _Reply:
    try:
        return _Reply(result=await handler(message))
    except TrueupError as error:
        return _Reply(what=error.what, where=error.where, remedy=error.remedy)


async def _send(writer: asyncio.StreamWriter, reply: _Reply) -> None:
    writer.write(msgspec.json.encode(reply) + b"\n")
    await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> int:
    """The user on the other side, as the kernel knows it."""
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


# --- The command's side -----------------------------------------------------------------------------------------------


async def ask(journal: Path, message: Message) -> msgspec.Raw:
    """Hand a message to the holder of the journal, and wait for as long as it works on it.

    Raises:
        JournalBusy: whoever holds the journal does not listen, or hangs.
        BadInput: it refused, with its own words.
    """
    path = socket_path(journal)
    async with _connection() as connected:
        reply = await _talk(path, message, connected)
    if reply is None:
        raise JournalBusy(
            what="the agent ended before it answered; whether it did what was asked for is not known",
            where=str(path),
            remedy="look with `trueup status`, then ask again",
        )
    if not bytes(reply.result):
        raise BadInput(what=reply.what, where=reply.where, remedy=reply.remedy)
    return reply.result


_Connect = Callable[[Path], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def _talk(path: Path, message: Message, connect: _Connect) -> _Reply | None:
    data = msgspec.json.encode(message) + b"\n"
    if len(data) > limits.SOCKET_MESSAGE_MAX_BYTES:
        raise BadInput(what="the message is too large", where=str(path), remedy="name fewer guests at once")
    try:
        async with asyncio.timeout(limits.SOCKET_TIMEOUT_S):
            reader, writer = await connect(path)
            writer.write(data)
            await writer.drain()
            first = await _read_reply(reader)
    except TimeoutError as error:
        raise _hangs(path) from error
    return await _read_reply(reader) if first is not None and first.taken else first


@asynccontextmanager
async def _connection() -> AsyncGenerator[_Connect]:
    """A way to connect; what it connected is closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await _connect(path)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, once the holder of the journal listens: it has the lock a moment before."""
    while True:
        try:
            with _short(path) as address:
                return await asyncio.open_unix_connection(address, limit=limits.SOCKET_MESSAGE_MAX_BYTES)
        except PermissionError as error:
            remedy = "run it as the user that runs the agent"
            raise BadInput(what="the agent belongs to another user", where=str(path), remedy=remedy) from error
        except OSError:
            await asyncio.sleep(_RETRY_S)


async def _read_reply(reader: asyncio.StreamReader) -> _Reply | None:
    try:
        line = await reader.readline()
    except (OSError, ValueError):
        return None
    try:
        return msgspec.json.decode(line, type=_Reply) if line else None
    except msgspec.MsgspecError:
        return _Reply(what="the agent's answer is not understood", remedy="use the same version as the agent")


def _hangs(path: Path) -> JournalBusy:
    return JournalBusy(
        what=f"whoever holds the journal did not answer within {limits.SOCKET_TIMEOUT_S:.0f} s",
        where=str(path),
        remedy="it hangs, asks a person, or is just ending: `trueup status` names it; end it, then try again",
    )


@contextmanager
def _short(path: Path) -> Generator[str]:
    """The path by its folder's descriptor: a socket's own address holds 107 bytes at most."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

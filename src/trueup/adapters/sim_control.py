"""The simulator's own side doors: what its world looks like, what it was asked to change, and accidents on order.

Rule kept here: only the demo comes in this way. The agent knows nothing of it and speaks to the simulator as to PVE.
"""

import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from trueup.adapters.http_client import aiohttp
from trueup.model.errors import ReadFailed

_TIMEOUT_S: Final = 20.0
_T = TypeVar("_T")


class SimGuest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest as it is."""

    type: str
    vmid: int
    node: str
    name: str = ""
    template: bool = False
    status: str
    lock: str | None = None


class SimTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task; `status` is `running` until it has ended."""

    upid: str
    status: str


class SimFault(msgspec.Struct, frozen=True, kw_only=True):
    """An accident on order: how often it is to happen, and how often it has."""

    fault: str
    times: int
    done: int


class SimState(msgspec.Struct, frozen=True, kw_only=True):
    """The world, as far as the demo shows it."""

    guests: tuple[SimGuest, ...]
    tasks: tuple[SimTask, ...]
    faults: tuple[SimFault, ...]


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed authentication and schema; `effect` is true once the world changed by it."""

    seq: int
    method: str
    path: str
    params: Mapping[str, str | int | float | bool | None] = {}
    upid: str | None = None
    effect: bool | None = None


class _Mutations(msgspec.Struct, frozen=True, kw_only=True):
    mutations: tuple[Mutation, ...]


class SimControl:
    """The side doors of one simulator."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """Use `connect`."""
        self._session = session
        self._url = url

    async def state(self) -> SimState:
        """The world. Raises ReadFailed."""
        return _decoded(await self._ask("GET", "/_sim/state"), SimState)

    async def mutations(self) -> tuple[Mutation, ...]:
        """Every accepted request, in order. Raises ReadFailed."""
        return _decoded(await self._ask("GET", "/_sim/mutations"), _Mutations).mutations

    async def arrange(self, **fault: str | float) -> None:
        """Order an accident. Raises ReadFailed."""
        await self._ask("POST", "/_sim/faults", msgspec.json.encode(fault))

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else None
        try:
            async with self._session.request(method, self._url + path, data=body, headers=headers) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ReadFailed(what=f"the simulator does not answer: {error or type(error).__name__}") from error
        if not answer.ok:
            raise ReadFailed(what=f"the simulator refused {path}: {content[:500].decode(errors='replace')}")
        return content


@asynccontextmanager
async def connect(url: str, ca_file: Path) -> AsyncGenerator[SimControl]:
    """Open the side doors; only the certificate that the simulator made for this run is trusted."""
    context = ssl.create_default_context(cafile=str(ca_file))
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session:
        yield SimControl(session, url)


def _decoded(content: bytes, form: type[_T]) -> _T:
    try:
        return msgspec.json.decode(content, type=form)
    except msgspec.MsgspecError as error:
        raise ReadFailed(what=f"the simulator's answer is not understood: {error}") from error

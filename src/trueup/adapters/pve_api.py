"""Requests to a cluster with several endpoints and many nodes: whom to ask, how many at once, what a failure means.

Rule kept here: a read may go to one endpoint after the other, since it changes nothing. A mutation goes to the next
endpoint only while it is certain that not one byte of it has left; from then on there is no second try, here or below.
What is asked of one node is bounded, so that a node that hangs keeps only its own share waiting.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from trueup.adapters import pve_decode
from trueup.adapters.pve_endpoints import Endpoints
from trueup.adapters.pve_wire import API, HERE, Break, Broken, HttpAnswer, HttpRequest, Transport
from trueup.core import answers
from trueup.core.answers import Answer
from trueup.model.errors import Absent, NotSent, ReadFailed, Refused, Unknown
from trueup.model.ids import NodeName
from trueup.model.limits import ANSWER_MAX_BYTES, READ_TRIES, READS_AT_ONCE, READS_PER_NODE, SLOTS_PER_NODE
from trueup.model.pve import Call
from trueup.ports import Clock

DAEMON_READS_PER_NODE: Final = 3
"""GETs at once that pvedaemon serves on one node. It has three workers, and a mutation needs one of them."""

MUTATION_ANSWER_MAX_BYTES: Final = 1024 * 1024
"""Largest answer to a mutation: a UPID or an error text, of which PVE's longest have some kilobytes."""

OK: Final = 200

_REMEDIES: Final[Mapping[int, str]] = {
    401: "check the API token and its secret; it may have expired or been deleted",
    403: "give the API token's user the privilege that PVE names",
    501: "this PVE does not have the call, or there is no PVE behind the address",
    595: "is the node up, and pvedaemon on it?",
    596: "the node does not answer in time",
    599: "the node does not answer",
}
_NOT_PVE: Final = "is this the address of a PVE API (https, port 8006)?"

T = TypeVar("T")


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """One GET. `daemon`: pvedaemon serves it, not pveproxy. `endpoint`: ask this one and no other ('' = any).

    `base` stands before the path; it is the API's but for files that pveproxy serves beside it.
    """

    path: str
    base: str = API
    params: Mapping[str, str] = {}
    node: NodeName = HERE
    daemon: bool = False
    endpoint: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"GET {self.path}"


class PveApi:
    """Reads and mutations over the endpoints of one cluster, with what PVE says sorted into our errors."""

    def __init__(
        self, *, transport: Transport, clock: Clock, endpoints: Sequence[str], slots_per_node: int = SLOTS_PER_NODE
    ) -> None:
        """Take the way there and the clock; nothing is sent yet. Raises BadInput without endpoints."""
        self._transport = transport
        self._clock = clock
        self._endpoints = Endpoints(endpoints)
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._reads_of = _slots(READS_PER_NODE)
        self._daemon_reads_of = _slots(DAEMON_READS_PER_NODE)
        self._mutations_of = _slots(slots_per_node)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, in the order given."""
        return self._endpoints.all

    # --- reads

    async def read(self, read: Read, understand: Callable[[bytes], T]) -> T:
        """Send a GET and understand its body. Raises Absent or ReadFailed."""
        answer = await self.get(read)
        return understood(read, answer, understand)

    async def get(self, read: Read) -> HttpAnswer:
        """Send a GET; the answer is a 200. Raises Absent or ReadFailed."""
        answer = await self.ask(read)
        if answer.status != OK:
            raise read_failed(read, answer)
        return answer

    async def ask(self, read: Read) -> HttpAnswer:
        """Send a GET; the answer has any status. Raises ReadFailed."""
        async with self._turn(read):
            return await self._ask(read)

    @asynccontextmanager
    async def _turn(self, read: Read) -> AsyncGenerator[None, None]:
        """Wait for a place: first for the scarcest, so that whoever waits for it holds no other."""
        if read.daemon:
            async with self._daemon_reads_of[read.node], self._reads_of[read.node], self._reads:
                yield
        else:
            async with self._reads_of[read.node], self._reads:
                yield

    async def _ask(self, read: Read) -> HttpAnswer:
        """Try the endpoints in turn. One that was tried comes again only if it was there and its connection broke."""
        given_up: set[str] = set()
        last: HttpAnswer | ReadFailed = ReadFailed(what="no endpoint was asked", where=read.where)
        for _ in range(READ_TRIES):
            order = (read.endpoint,) if read.endpoint else self._endpoints.order(self._clock.monotonic())
            endpoint = next((url for url in order if url not in given_up), None)
            if endpoint is None:
                break
            try:
                answer = await self._transport.exchange(_get(read, endpoint))
            except Broken as broken:
                last = ReadFailed(what=broken.what, where=f"{endpoint} {read.where}", remedy=broken.remedy)
                if broken.kind is not Break.LOST:
                    given_up.add(endpoint)
            else:
                answer = msgspec.structs.replace(answer, endpoint=endpoint)
                if not answers.blames_entry(answer.status, _text(answer)):
                    if not read.endpoint:
                        self._endpoints.worked(endpoint)
                    return answer
                last = answer
                given_up.add(endpoint)
            self._endpoints.failed(endpoint, self._clock.monotonic())
        if isinstance(last, HttpAnswer):
            return last
        raise last

    # --- mutations

    async def mutate(self, call: Call, understand: Callable[[bytes], T]) -> T:
        """Send one mutation, once, and understand the body of its 200.

        Raises:
            NotSent: PVE cannot have acted.
            Refused: PVE refused before it changed anything.
            Unknown: anything else.
        """
        async with self._mutations_of[node_of(call.path)]:
            answer = await self._send(call)
        if answer.status != OK:
            raise _mutation_failed(call, answer)
        try:
            return understand(answer.body)
        except pve_decode.NOT_UNDERSTOOD as error:
            lost = f"PVE answered 200, but not with what was expected: {answers.one_line(str(error))}"
            raise answers.error(_lost(call, sent=True, lost=lost, status=answer.status), remedy=_NOT_PVE) from None

    async def _send(self, call: Call) -> HttpAnswer:
        """Try the endpoints in turn as long as nothing was sent; never again after that."""
        last: NotSent | Refused | Unknown = NotSent(what="no endpoint was asked")
        for endpoint in self._endpoints.order(self._clock.monotonic()):
            try:
                answer = await self._transport.exchange(_mutation(call, endpoint))
            except Broken as broken:
                last = answers.error(_lost(call, sent=broken.sent, lost=broken.what), remedy=broken.remedy)
                ours = broken.kind in (Break.EXPIRED, Break.UNUSABLE)  # no endpoint's fault
                if not ours:
                    self._endpoints.failed(endpoint, self._clock.monotonic())
                if ours or broken.sent:
                    raise last from None
                continue
            if answers.blames_entry(answer.status, _text(answer)):
                self._endpoints.failed(endpoint, self._clock.monotonic())
            else:
                self._endpoints.worked(endpoint)
            return answer
        raise last


def understood(read: Read, answer: HttpAnswer, understand: Callable[[bytes], T]) -> T:
    """Read a body, or say that it cannot be read. Raises ReadFailed."""
    try:
        return understand(answer.body)
    except pve_decode.NOT_UNDERSTOOD as error:
        raise ReadFailed(
            what=f"the answer is not what PVE sends: {answers.one_line(str(error))}",
            where=_where(read, answer),
            remedy=_NOT_PVE,
            status=answer.status,
        ) from None


def _where(read: Read, answer: HttpAnswer) -> str:
    """Who was asked what: with several endpoints it matters which of them is no PVE."""
    return f"{answer.endpoint} {read.where}".strip()


def node_of(path: str) -> NodeName:
    """The node that does the work of a call; '' for the one that is asked."""
    found = re.match(r"/nodes/([^/]+)", path)
    return NodeName(found[1]) if found else HERE


def quoted(part: str) -> str:
    """One segment of a path."""
    return quote(part, safe="")


def _slots(count: int) -> defaultdict[NodeName, asyncio.Semaphore]:
    return defaultdict(lambda: asyncio.Semaphore(count))


def _get(read: Read, endpoint: str) -> HttpRequest:
    return HttpRequest(
        endpoint=endpoint,
        node=read.node,
        method="GET",
        path=read.path,
        base=read.base,
        params=read.params,
        max_bytes=ANSWER_MAX_BYTES,
    )


def _mutation(call: Call, endpoint: str) -> HttpRequest:
    return HttpRequest(
        endpoint=endpoint,
        node=node_of(call.path),
        method=call.method,
        path=quote(call.path, safe="/:@!$&'()*+,;=~%"),
        params=call.params,
        mutation=True,
        send_by=call.send_by,
        max_bytes=MUTATION_ANSWER_MAX_BYTES,
    )


def _text(answer: HttpAnswer) -> str:
    message, _ = pve_decode.failure(answer.body)
    return message.strip() or answer.reason.strip()


def read_failed(read: Read, answer: HttpAnswer) -> ReadFailed:
    """Make the error for a read that was not answered with 200."""
    message, errors = pve_decode.failure(answer.body)
    text = message.strip() or answer.reason.strip()
    kind = Absent if answers.says_absent(answer.status, text) else ReadFailed
    from_pve = bool(message) or not answer.body
    return kind(
        what=answers.describe(answer.status, text, errors),
        where=_where(read, answer),
        remedy=_REMEDIES.get(answer.status, "") if from_pve else _NOT_PVE,
        status=answer.status,
        text=answers.one_line(text),
    )


def _mutation_failed(call: Call, answer: HttpAnswer) -> NotSent | Refused | Unknown:
    message, errors = pve_decode.failure(answer.body)
    return answers.error(
        Answer(
            method=call.method,
            path=call.path,
            status=answer.status,
            reason=answer.reason,
            message=message,
            errors=errors,
        )
    )


def _lost(call: Call, *, sent: bool, lost: str, status: int = 0) -> Answer:
    return Answer(method=call.method, path=call.path, sent=sent, lost=lost, status=status)

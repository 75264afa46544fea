"""A transport that answers from a script, and the client over it."""

from collections.abc import Awaitable, Callable, Sequence

from tests.pve.servers import SteppedClock
from trueup.adapters.pve import PveClient
from trueup.adapters.pve_api import PveApi
from trueup.adapters.pve_keeper import PveKeeper
from trueup.adapters.pve_wire import Break, Broken, HttpAnswer, HttpRequest
from trueup.model.ids import TokenId

TOKEN = TokenId("agent@pve!epoch1")
ONE = ("https://pve1:8006",)

Answering = Callable[[HttpRequest], Awaitable[HttpAnswer]]


class FakeTransport:
    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self.requests: list[HttpRequest] = []

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        self.requests.append(request)
        return await self._answer(request)


def script(*steps: HttpAnswer | Broken) -> FakeTransport:
    """Answer with these, in this order."""
    left = list(steps)

    async def answer(_request: HttpRequest) -> HttpAnswer:
        step = left.pop(0)
        if isinstance(step, Broken):
            raise step
        return step

    return FakeTransport(answer)


def failing(step: HttpAnswer | Broken) -> FakeTransport:
    """Answer with this, always."""

    async def answer(_request: HttpRequest) -> HttpAnswer:
        if isinstance(step, Broken):
            raise step
        return step

    return FakeTransport(answer)


def ok(data: str) -> HttpAnswer:
    return HttpAnswer(status=200, reason="OK", body=f'{{"data":{data}}}'.encode())


def died(text: str, status: int = 500) -> HttpAnswer:
    return HttpAnswer(status=status, reason=text, body=f'{{"data":null,"message":"{text}\\n"}}'.encode())


def unreachable() -> Broken:
    return Broken(kind=Break.UNREACHABLE, sent=False, what="cannot connect: Connection refused", remedy="up?")


def lost(*, sent: bool = True) -> Broken:
    return Broken(kind=Break.LOST, sent=sent, what="the connection broke")


def late() -> Broken:
    return Broken(kind=Break.EXPIRED, sent=False, what="expired")


def api(
    transport: FakeTransport, endpoints: Sequence[str] = ONE, clock: SteppedClock | None = None, slots: int = 3
) -> PveApi:
    return PveApi(transport=transport, clock=clock or SteppedClock(), endpoints=endpoints, slots_per_node=slots)


def client(transport: FakeTransport, endpoints: Sequence[str] = ONE, clock: SteppedClock | None = None) -> PveClient:
    return PveClient(api=api(transport, endpoints, clock), token=TOKEN)


def keeper(transport: FakeTransport, endpoints: Sequence[str] = ONE) -> PveKeeper:
    return PveKeeper(api=api(transport, endpoints), user="agent@pve")

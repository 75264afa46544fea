"""A simulated cluster on the virtual clock, and the agent's way to it: a `Transport` that needs no socket."""

import asyncio
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import unquote

from pvesim.world import Hangup, Request, World
from tests.simulation.deaths import Mortality
from tests.simulation.virtual_time import VirtualTimeLoop
from trueup.adapters.pve_wire import Break, Broken, HttpAnswer, HttpRequest

START_S = 1_800_000_000.0
A_HAIR_S = 1e-6
"""So much later than due the world is moved: floats that stand for the same instant must not be asked for ever."""


@lru_cache(maxsize=64)
def _seconds(date: str) -> int:
    """A `Date` header as an instant; many answers have the same."""
    return int(parsedate_to_datetime(date).timestamp())


class SimCluster:
    """The world, moved along by the loop's clock."""

    def __init__(self, spec: Mapping[str, object], *, seed: int) -> None:
        self.world = World.build(spec, seed=seed, now=START_S)
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[HttpAnswer]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        return START_S + self._loop.time()

    def submit(self, request: Request) -> int:
        ticket = self.world.submit(self.now, request)
        self._answers[ticket] = self._loop.create_future()
        self._arm()
        return ticket

    async def answer(self, ticket: int, within_s: float | None = None) -> HttpAnswer:
        """What is answered; raises TimeoutError when nothing is in this time."""
        answer = self._answers[ticket]
        if within_s is None:
            return await answer
        # Not `asyncio.wait_for`, which would make a task for every request.
        timer = self._loop.call_later(within_s, _late, answer)
        try:
            return await answer
        finally:
            timer.cancel()

    def gone(self, ticket: int) -> None:
        self.world.client_gone(ticket)
        answer = self._answers.pop(ticket, None)
        if answer is not None and answer.done() and not answer.cancelled():
            answer.exception()  # whoever waited for it was cancelled in the same moment: nobody else reads it

    def act(self, action: Mapping[str, object]) -> None:
        """An administrator or an accident does something now."""
        self._deliver()
        self.world.control(action)
        self._arm()

    def put(self, guest: Mapping[str, object]) -> None:
        """Somebody changes a guest by hand now."""
        self._deliver()
        self.world.put_guests(guest)
        self._arm()

    def kind(self, vmid: int) -> str | None:
        """The type of a guest, None if there is none with this vmid."""
        for guest in self.world.state()["guests"]:  # type: ignore[union-attr]
            if guest["vmid"] == vmid:  # type: ignore[index, call-overload]
                return str(guest["type"])  # type: ignore[index, call-overload]
        return None

    def has_local_disk(self, vmid: int) -> bool:
        """Whether any of its values names a volume on a storage of one node."""
        guests = self.world.state()["guests"]
        config = next(guest["config"] for guest in guests if guest["vmid"] == vmid)  # type: ignore[union-attr, index, call-overload]
        return any("local-lvm:" in str(value) for value in config.values())  # type: ignore[union-attr]

    def snapshots(self, vmid: int) -> list[str]:
        """The names of a guest's snapshots, oldest first."""
        guests = self.world.state()["guests"]
        return next(guest["snapshots"] for guest in guests if guest["vmid"] == vmid)  # type: ignore[union-attr, index, call-overload, return-value]

    def archives(self, vmid: int) -> list[str]:
        """The backups of a guest."""
        volumes = [str(volume["volid"]) for volume in self.world.state()["volumes"]]  # type: ignore[union-attr, index, call-overload]
        return sorted(volid for volid in volumes if ":backup/vzdump-" in volid and f"-{vmid}-" in volid)

    def has(self, vmid: int) -> bool:
        guests = self.world.state()["guests"]
        return any(guest["vmid"] == vmid for guest in guests)  # type: ignore[union-attr, index, call-overload]

    def poke(self) -> None:
        """Something was changed from outside: look at the world's timers again."""
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._next_move()
        self._timer = None if when is None else self._loop.call_at(when, self._move)

    def _next_move(self) -> float | None:
        due = self.world.next_due()
        if due is None:
            return None
        now = self._loop.time()
        return now + max(0.0, due - (START_S + now)) + A_HAIR_S

    def _move(self) -> None:
        """Called by the loop alone: it may set the clock forward, where that is a virtual one."""
        self._deliver()
        loop = self._loop
        # While only the world has something to do, it goes on at once: most of what it does nobody sees.
        while (when := self._next_move()) is not None and isinstance(loop, VirtualTimeLoop) and loop.skip_to(when):
            self._deliver()
        self._timer = None if when is None else self._loop.call_at(when, self._move)

    def _deliver(self) -> None:
        """Let the world come to this instant, and no further."""
        for delivery in self.world.advance(self.now):
            future = self._answers.get(delivery.ticket)
            if future is None or future.done():
                continue
            if isinstance(delivery.answer, Hangup):
                future.set_exception(Broken(kind=Break.LOST, sent=True, what="the connection was closed"))
                continue
            answer = delivery.answer
            date = answer.headers.get("Date")
            future.set_result(
                HttpAnswer(
                    status=answer.status,
                    reason=answer.reason,
                    date_s=_seconds(date) if date else 0,
                    body=answer.body,
                )
            )


def _late(answer: "asyncio.Future[HttpAnswer]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class SimTransport:
    """One incarnation's connections to the cluster; they die with it, what was sent does not."""

    def __init__(
        self,
        cluster: SimCluster,
        *,
        node: str,
        authorization: str,
        mortality: Mortality,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """`monotonic` is the agent's clock; without it, that of the simulation."""
        self._monotonic = monotonic or (lambda: asyncio.get_running_loop().time())
        self._cluster = cluster
        self._node = node
        self._authorization = authorization
        self._mortality = mortality

    async def exchange(self, request: HttpRequest) -> HttpAnswer:
        call = f"{request.method} {request.path}"
        self._mortality.point(f"{call} before")
        await self._mortality.stand_still()
        if request.mutation and request.send_by and self._monotonic() > request.send_by:
            raise Broken(kind=Break.EXPIRED, sent=False, what="expired before the first byte")
        ticket = self._cluster.submit(
            Request(
                node=self._node,
                method=request.method,
                path=unquote(request.path),
                params=dict(request.params),
                authorization=self._authorization,
            )
        )
        try:
            if request.mutation:
                self._mortality.sent.append((asyncio.get_running_loop().time(), call))
                self._mortality.point(f"{call} sent")
            limit = 75.0 if request.mutation else 35.0
            answer = await self._cluster.answer(ticket, limit)
        except TimeoutError as error:
            raise Broken(kind=Break.TIMEOUT, sent=True, what="no answer in time") from error
        finally:
            self._cluster.gone(ticket)
        if request.mutation:
            self._mortality.point(f"{call} reply")
        await self._mortality.stand_still()
        return answer

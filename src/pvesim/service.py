"""The way of a request through pveproxy and pvedaemon, and of its answer back.

Rule kept here: what the client sees and what happens are two things. A forwarded request goes on whatever becomes
of the connection, of the 30 s the proxy waits, or of the client.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field, replace

from pvesim.api import METHODS, Result, Route, find_route
from pvesim.faults import Fault
from pvesim.guests import Mutation
from pvesim.kernel import Acquire, Proc, Sleep, Steps, join, sleep
from pvesim.machine import Call, Machine
from pvesim.tokens import identify
from pvesim.wire import (
    Answer,
    ApiError,
    Delivery,
    Hangup,
    Request,
    Response,
    died,
    failure,
    http_date,
    not_implemented,
    response,
    success,
)

UNAUTHORIZED, UNAUTHORIZED_S = 401, 3.0
PROXY_TIMEOUT_S = 30.0
SHORTEST_TIMEOUT_S = 5.0  # latencies are not scaled, so neither is all of the patience with them
UNREACHABLE_S = 3.0
SECRETS = frozenset({"password", "cipassword", "ssh-public-keys"})
FIRST_LISTED_S, LAST_LISTED_S = 0.055, 0.180


@dataclass(slots=True)
class Service:
    """Takes requests in and gives answers out."""

    m: Machine
    outbox: list[Delivery] = field(default_factory=list[Delivery])
    open: dict[int, str] = field(default_factory=dict[int, str])
    tickets: int = 0

    def take(self, request: Request) -> int:
        """Start a request; its ticket names it in the delivery."""
        self.tickets += 1
        ticket = self.tickets
        self.open[ticket] = request.node
        node = self.m.cluster.nodes.get(request.node)
        if node is None:
            raise ValueError(f"unknown entry node {request.node!r}")
        if not node.online:
            self.deliver(ticket, Hangup())
            return ticket
        path = re.sub(r"/{2,}", "/", request.path).rstrip("/") or "/"
        clean = replace(request, path=path)
        self.m.kernel.spawn(self._proxy(ticket, clean), ("pveproxy", request.node))
        return ticket

    def gone(self, ticket: int) -> None:
        """The client has closed its connection: nothing is cancelled."""
        self.open.pop(ticket, None)

    def deliver(self, ticket: int, answer: Answer) -> None:
        """The first answer counts; later ones have nobody to go to."""
        if self.open.pop(ticket, None) is not None:
            self.outbox.append(Delivery(ticket=ticket, answer=answer))

    def hang_up_all(self, node: str) -> None:
        """The entry node has died."""
        for ticket in [t for t, entry in self.open.items() if entry == node]:
            self.deliver(ticket, Hangup())

    def _proxy(self, ticket: int, request: Request) -> Steps[None]:
        m, entry = self.m, request.node
        yield Sleep(m.rng.uniform(0.001, 0.004))
        try:
            call, route = self._admit(ticket, request)
            answer = yield from self._pass_on(call, route)
        except ApiError as error:
            if error.status == UNAUTHORIZED:
                yield from sleep(UNAUTHORIZED_S)
            answer = failure(m.clock(entry), error)
        if isinstance(answer, Response):
            answer = replace(answer, headers={**answer.headers, "Date": http_date(int(m.clock(entry)))})
        self.deliver(ticket, answer)

    def _admit(self, ticket: int, request: Request) -> tuple[Call, Route]:
        """What the entry node decides by itself."""
        m, entry = self.m, request.node
        if request.method not in METHODS:
            raise ApiError(501, f"method '{request.method}' not available", body=False)
        node = m.cluster.nodes[entry]
        who = identify(m.tokens.access, m.tokens_of(node), request.authorization, node.clock(m.now))
        found = find_route(request.method, request.path)
        fault = m.faults.meet(request.method, request.path)
        if found is None:
            raise not_implemented(request.method, request.path)
        route, names = found
        target = names.get("node", entry)
        if target == "localhost":
            target = entry
            names["node"] = entry
        call = Call(
            ticket=ticket, method=request.method, path=request.path, entry=entry, node=target, who=who,
            arrived=m.now, authorization=request.authorization, fault=fault, raw=request.params, names=names,
        )  # fmt: skip
        route.allow(call)
        return call, route

    def _pass_on(self, call: Call, route: Route) -> Steps[Answer]:
        """Faults on the way, then the node that serves the call."""
        m, kind = self.m, call.fault.kind if call.fault is not None else None
        if kind == "request_lost":
            return Hangup()
        if kind == "error_595":
            return response(m.clock(call.entry), 595, "Connection refused")
        if kind == "unauthorized":
            raise ApiError(401, "Authentication failed!", body=False)
        if kind == "late" and call.fault is not None:
            self.deliver(call.ticket, Hangup())
            yield from sleep(call.fault.delay_s if call.fault.delay_s is not None else m.scaled(PROXY_TIMEOUT_S))
        target = m.cluster.nodes.get(call.node)
        if target is None:
            why = f"failed to get address info for: {call.node}: Temporary failure in name resolution"
            raise died(f"hostname lookup '{call.node}' failed - {why}")
        if not target.online:
            yield from sleep(m.scaled(UNREACHABLE_S))
            return response(m.clock(call.entry), 595, "No route to host")
        answer = yield from self._ask(call, route)
        if kind == "reply_lost":
            return Hangup()
        if kind == "error_596_work_continues":
            waited = m.now - call.arrived
            yield from sleep(max(0.0, self._timeout(call.fault) - waited))
            return response(m.clock(call.entry), 596, "Connection timed out")
        return answer

    def _timeout(self, fault: Fault | None) -> float:
        if fault is not None and fault.delay_s is not None:
            return fault.delay_s
        return self.m.scaled(PROXY_TIMEOUT_S)

    def _ask(self, call: Call, route: Route) -> Steps[Answer]:
        """Run the call here, or let the node's proxy or the daemon run it and wait for a while."""
        if call.node != call.entry:
            hop = self.m.kernel.spawn(self._hop(call, route), ("pveproxy", call.node))
            answer = yield from self._await(call, hop)
        else:
            answer = yield from self._local(call, route)
        return answer

    def _hop(self, call: Call, route: Route) -> Steps[Answer]:
        """The proxy of the node that serves the call checks the token for itself."""
        m = self.m
        yield Sleep(m.rng.uniform(0.001, 0.003))
        try:
            node = m.cluster.nodes[call.node]
            identify(m.tokens.access, m.tokens_of(node), call.authorization, node.clock(m.now))
        except ApiError as error:
            yield from sleep(UNAUTHORIZED_S)
            return failure(m.clock(call.node), error)
        answer = yield from self._local(call, route)
        return answer

    def _local(self, call: Call, route: Route) -> Steps[Answer]:
        if not route.protected:
            answer = yield from self._execute(call, route)
            return answer
        daemon = self.m.kernel.spawn(self._daemon(call, route), ("pvedaemon", call.node))
        call.proc = daemon
        answer = yield from self._await(call, daemon)
        return answer

    def _await(self, call: Call, proc: Proc) -> Steps[Answer]:
        """The proxy's wait for an answer; what it waits for is not told when it gives up."""
        ended = yield from join(proc, max(self.m.scaled(PROXY_TIMEOUT_S), SHORTEST_TIMEOUT_S))
        if not ended:
            return response(self.m.clock(call.entry), 596, "Connection timed out")
        if isinstance(proc.value, Response | Hangup):
            return proc.value
        if proc.error is not None:
            raise proc.error
        return response(self.m.clock(call.entry), 596, "Connection reset by peer")

    def _daemon(self, call: Call, route: Route) -> Steps[Answer]:
        """One of the few workers of pvedaemon takes the request up, and checks the token again."""
        m = self.m
        slot = f"pvedaemon:{call.node}"
        yield Acquire(slot, None, capacity=m.daemon_workers)
        call.list_at = m.now + m.rng.triangular(FIRST_LISTED_S, LAST_LISTED_S, FIRST_LISTED_S + 0.01)
        call.pid = m.cluster.nodes[call.node].next_pid
        yield Sleep(m.rng.uniform(0.002, 0.006))
        try:
            node = m.cluster.nodes[call.node]
            identify(m.tokens.access, m.tokens_of(node), call.authorization, node.clock(m.now))
        except ApiError as error:
            if call.proc is not None:
                m.kernel.release(call.proc, slot)
            yield from sleep(UNAUTHORIZED_S)
            return failure(m.clock(call.node), error)
        if call.fault is not None and call.fault.kind == "stalled":
            # The token was good when it was looked at; what happens to it from now on is not seen any more.
            yield from sleep(call.fault.delay_s if call.fault.delay_s is not None else m.scaled(2 * PROXY_TIMEOUT_S))
        answer = yield from self._execute(call, route)
        return answer

    def _execute(self, call: Call, route: Route) -> Steps[Answer]:
        m = self.m
        try:
            route.allow(call)
            call.params = route.checked(call)
            if call.method != "GET":
                self._accept(call)
            outcome: Result | Generator[object, object, Result] = route.handler(m, call)
            result: Result
            if isinstance(outcome, Generator):
                result = yield from outcome
            else:
                yield Sleep(m.rng.uniform(0.001, 0.004))
                result = outcome
        except ApiError as error:
            return failure(m.clock(call.node), error)
        return success(m.clock(call.node), result)

    def _accept(self, call: Call) -> None:
        """Note a request that passed authentication and schema."""
        shown = {key: "hidden" if key in SECRETS else value for key, value in call.params.items()}
        call.row = Mutation(
            seq=len(self.m.mutations) + 1, time=self.m.now, method=call.method, path=call.path, params=shown,
            user=call.who.full_id,
        )  # fmt: skip
        self.m.mutations.append(call.row)

"""Whether the agent lives, and whether it works: `/healthz` and `/readyz`, open to everybody who reaches the address.

They tell nothing that is worth protecting: no names, no numbers of guests.
"""

from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Phase(StrEnum):
    """How far the agent has come."""

    STARTING = "starting"
    STANDBY = "standby"
    RECOVERING = "recovering"
    LEADING = "leading"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Health:
    """What the agent says of itself; the agent writes it, HTTP reads it. `epoch` is 0 before it has one."""

    phase: Phase = Phase.STARTING
    epoch: int = 0

    @property
    def leads(self) -> bool:
        """Whether recovery is over and the loop runs."""
        return self.phase is Phase.LEADING


def routes(health: Health) -> list[Route]:
    """Both routes."""

    async def healthz(_request: Request) -> JSONResponse:
        return JSONResponse({"alive": True, "phase": health.phase.value})

    async def readyz(_request: Request) -> JSONResponse:
        ready = health.leads or health.phase is Phase.STANDBY
        body = {"ready": ready, "phase": health.phase.value, "epoch": health.epoch or None}
        return JSONResponse(body, status_code=200 if ready else 503)

    return [Route("/healthz", healthz), Route("/readyz", readyz)]

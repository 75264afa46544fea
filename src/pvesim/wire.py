"""What goes in and out of the world: requests, answers, and the errors that become answers.

Rule kept here: an answer is either bytes PVE would send or a closed connection, never anything in between,
and every text a client can see is built in this module from the words of the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from typing import TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

PLAIN = 500
EMPTY: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One API request as the entry node receives it; `path` is without `/api2/json`."""

    node: str
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    authorization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete HTTP answer; `headers` holds Date and, when there is a body, its type."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Hangup:
    """The connection is closed and nothing was answered."""


Answer: TypeAlias = Response | Hangup


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An answer that has reached the client of `ticket`."""

    ticket: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Listing:
    """A list answer that carries the count of all matching rows beside its data."""

    data: Json
    total: int | None


class Failure(Exception):
    """The ways in which a simulated process may end with an error; anything else is a defect of the simulator."""

    def __init__(self, text: str) -> None:
        """Keep the whole text."""
        super().__init__(text)
        self.text = text

    @property
    def in_task(self) -> str:
        """Its text where a task ends with it."""
        return self.text


class ApiError(Failure):
    """A request that PVE refuses; `body` False means that the answer has an empty body."""

    @property
    def in_task(self) -> str:
        """Its text where a task ends with it: PVE's exceptions carry their number, a plain `die` does not."""
        text = self.text.rstrip("\n")
        if self.errors is not None:
            text += "".join(f" {name}: {why.rstrip()}" for name, why in self.errors.items())
        return text if self.status == PLAIN else f"{self.status} {text}"

    def __init__(self, status: int, text: str, *, errors: Mapping[str, str] | None = None, body: bool = True) -> None:
        """Keep the status and the whole text; its first line becomes the reason phrase."""
        super().__init__(text)
        self.status = status
        self.errors = errors
        self.body = body


def died(text: str) -> ApiError:
    """A plain `die` in PVE's code: status 500 with the text."""
    return ApiError(500, text + "\n")


def bad_parameters(errors: Mapping[str, str]) -> ApiError:
    """A refused parameter check."""
    return ApiError(400, "Parameter verification failed.\n", errors=errors)


def forbidden(text: str) -> ApiError:
    """A failed permission check."""
    return ApiError(403, f"Permission check failed{text}\n")


def not_implemented(method: str, path: str) -> ApiError:
    """A path or method that PVE does not have, or that is not simulated."""
    return ApiError(501, f"Method '{method} {path}' not implemented")


_encoder = msgspec.json.Encoder()


def encode(value: Json) -> bytes:
    """JSON as PVE sends it: compact, text not escaped."""
    return _encoder.encode(value)


@lru_cache(maxsize=64)
def http_date(second: int) -> str:
    """An instant as the `Date` header has it; many answers have the same."""
    return formatdate(second, usegmt=True)


def response(clock: float, status: int, reason: str, body: bytes = b"") -> Response:
    """An answer dated by the clock of the node that sends it."""
    headers = {"Date": http_date(int(clock))}
    if body:
        headers["Content-Type"] = "application/json;charset=UTF-8"
    return Response(status=status, reason=reason, headers=headers, body=body)


def success(clock: float, result: Json | Listing) -> Response:
    """The answer of a call that returned."""
    if isinstance(result, Listing):
        attributes: dict[str, Json] = {"data": result.data}
        if result.total is not None:
            attributes["total"] = result.total
        return response(clock, 200, "OK", encode(attributes))
    return response(clock, 200, "OK", encode({"data": result}))


def failure(clock: float, error: ApiError) -> Response:
    """The answer of a call that was refused."""
    lines = error.text.splitlines()
    reason = lines[0] if lines else ""
    if not error.body:
        return response(clock, error.status, reason)
    body: dict[str, Json] = {"data": None, "message": error.text}
    if error.errors is not None:
        body["errors"] = dict(error.errors)
    return response(clock, error.status, reason, encode(body))

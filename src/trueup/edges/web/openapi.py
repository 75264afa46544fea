"""The description of the API, complete: every path, every answer, every error; `/openapi.json` serves it.

It is written as data beside the code; tests compare it with the routes, with real answers, and hold it to the standard.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

import trueup
from trueup.edges import standing
from trueup.edges.cli.output import KIND_OF, Json
from trueup.edges.web.health import Phase
from trueup.model import limits
from trueup.model.gate import Form, Refusal, RequestState
from trueup.model.gate_answers import PAYLOAD_TYPES
from trueup.model.ids import VMID_MAX, VMID_MIN, GuestType
from trueup.model.notes import What
from trueup.model.ops import Kind, OpState, Reason, Row
from trueup.model.plan import Bucket
from trueup.model.settings import Mode

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"

_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer"}
_FLAG: Final[Json] = {"type": "boolean"}
_MAYBE_TEXT: Final[Json] = {"type": ["string", "null"]}
_MAYBE_WHOLE: Final[Json] = {"type": ["integer", "null"]}
_INSTANT: Final[Json] = {"type": "string", "format": "date-time"}
_MAYBE_INSTANT: Final[Json] = {"type": ["string", "null"], "format": "date-time"}
_TEXTS: Final[Json] = {"type": "array", "items": {"type": "string"}}
_VMID: Final[Json] = {"type": "integer", "minimum": VMID_MIN, "maximum": VMID_MAX}
_AS_OF: Final[Json] = {
    **_MAYBE_INSTANT,
    "description": "When the last pass ended: what is said of the cluster was seen then. Null before the first one.",
}
_GUEST_KIND: Final[Json] = {"type": "string", "enum": [KIND_OF[one] for one in GuestType]}


def _one_of(values: Sequence[str], *, none: bool = False) -> Json:
    listed: list[Json] = [*values, None] if none else list(values)
    return {"type": ["string", "null"] if none else "string", "enum": listed}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> Json:
    return {"type": "array", "items": _ref(name)}


def _maybe(name: str) -> Json:
    return {"anyOf": [_ref(name), {"type": "null"}]}


def _object(properties: Mapping[str, Json], description: str = "") -> Json:
    """All of these keys are always there; more may come with a later version."""
    head: dict[str, Json] = {"description": description} if description else {}
    return {**head, "type": "object", "required": list(properties), "properties": dict(properties)}


_OP: Final[Mapping[str, Json]] = {
    "op_id": _TEXT,
    "kind": _one_of(list(Kind)),
    "vmid": _VMID,
    "node": _TEXT,
    "state": _one_of(list(OpState)),
    "reason": _one_of(list(Reason), none=True),
    "row": _one_of(list(Row), none=True),
    "upid": _MAYBE_TEXT,
    "started_at": _MAYBE_INSTANT,
    "ended_at": _MAYBE_INSTANT,
}

_GUEST: Final[Mapping[str, Json]] = {
    "vmid": _VMID,
    "name": _TEXT,
    "sync": _one_of(standing.SYNCS),
    "health": _one_of(standing.HEALTHS),
    "blocked_by": _MAYBE_TEXT,
}


def _schemas() -> dict[str, Json]:
    return {
        "Problem": _problem(),
        "Op": _object(_OP, "One mutation of one guest."),
        "OpStory": _op_story(),
        "Guest": _object(_GUEST, "How a guest stands to its manifest, and how it does."),
        "GuestDetails": _object(
            {
                **_GUEST,
                "kind": {"anyOf": [_GUEST_KIND, {"type": "null"}]},
                "node": _MAYBE_TEXT,
                "plan": _maybe("Change"),
                "ops": _list("Op"),
                "as_of": _AS_OF,
            }
        ),
        "Guests": _object({"guests": _list("Guest"), "as_of": _AS_OF}),
        "Ops": _object({"ops": _list("Op")}),
        "Status": _object(
            {
                "guests": _list("Guest"),
                "in_flight": _list("Op"),
                "unresolved": _list("Op"),
                "pending": {
                    "type": "array",
                    "items": _object(
                        {
                            "request_id": _TEXT,
                            "kind": _TEXT,
                            "vmid": _VMID,
                            "requested_by": _TEXT,
                            "missing": _MAYBE_TEXT,
                            "approve_by": _MAYBE_INSTANT,
                        },
                        "A request that waits for signatures.",
                    ),
                },
                "leader": {
                    "anyOf": [_object({"epoch": _WHOLE, "holder": _TEXT, "alive": _FLAG}), {"type": "null"}],
                },
                "paused": _TEXTS,
                "mode": _one_of(list(Mode)),
                "problems": _TEXTS,
                "doubts": _TEXTS,
                "head": {
                    "anyOf": [
                        _object({"seq": _WHOLE, "hash": _TEXT, "epoch": _WHOLE, "at": _MAYBE_INSTANT}),
                        {"type": "null"},
                    ]
                },
                "as_of": _AS_OF,
            }
        ),
        "Change": _change(),
        "Plan": _object(
            {
                "summary": _object({bucket.value: {"type": "integer", "minimum": 0} for bucket in Bucket}),
                "changes": _list("Change"),
                "as_of": _AS_OF,
            }
        ),
        "Request": _request(),
        "Requests": _object({"requests": _list("Request")}),
        "Envelope": _envelope(),
        "Delivery": _object(_DELIVERY, "What the gate says to a delivery; `trueup submit --json` prints the same."),
        "Alive": _object({"alive": _FLAG, "phase": _one_of(list(Phase))}),
        "Ready": _object({"ready": _FLAG, "phase": _one_of(list(Phase)), "epoch": _MAYBE_WHOLE}),
    }


_DELIVERY: Final[Mapping[str, Json]] = {
    "request": _MAYBE_TEXT,
    "op": _MAYBE_TEXT,
    "state": _one_of(
        ["accepted", "pending", "started", "task_running", "succeeded", "failed", "refused", "vetoed", "expired"]
    ),
    "missing": _MAYBE_TEXT,
    "reason": _MAYBE_TEXT,
}


def _envelope() -> Json:
    """An envelope takes no other key: nothing in it is left unread."""
    base64: dict[str, Json] = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})+$", "maxLength": 4096}
    text: Json = {"type": "string", "pattern": "^[0-9a-f]{0,64}$"}
    signature = {
        "type": "object",
        "required": ["keyid", "sig"],
        "additionalProperties": False,
        "properties": {"keyid": text, "sig": base64, "form": _one_of(list(Form))},
    }
    return {
        "type": "object",
        "required": ["payloadType", "payload", "signatures"],
        "additionalProperties": False,
        "properties": {
            "payloadType": _one_of(PAYLOAD_TYPES),
            "payload": {**base64, "maxLength": limits.REQUEST_MAX_BYTES // 2},
            "signatures": {"type": "array", "items": signature, "maxItems": limits.SIGNATURES_MAX},
        },
    }


def _problem() -> Json:
    return {
        "description": "What went wrong, and what to do (RFC 9457). A refused delivery has the gate's answer too.",
        "type": "object",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": _TEXT,
            "remedy": _TEXT,
            "refusal": _one_of(list(Refusal), none=True),
            **_DELIVERY,
        },
    }


def _op_story() -> Json:
    moment = _object({"at": _MAYBE_INSTANT, "seq": _WHOLE, "event": _TEXT, "text": _TEXT})
    texts: Json = {"type": "object", "additionalProperties": {"type": "string"}}
    return _object(
        {
            **_OP,
            "type": _one_of(list(GuestType)),
            "name": _MAYBE_TEXT,
            "epoch": _WHOLE,
            "token": _TEXT,
            "request": _object({"method": _TEXT, "path": _TEXT, "params": texts}),
            "goal": texts,
            "exit_status": _MAYBE_TEXT,
            "adopted": _FLAG,
            "contradicted": _FLAG,
            "leftovers": _TEXTS,
            "title": _TEXT,
            "timeline": {"type": "array", "items": moment},
            "known": _TEXTS,
            "row_why": _MAYBE_TEXT,
            "unknown": _TEXTS,
            "settles_by": _MAYBE_TEXT,
            "to_do": _TEXTS,
        },
        "One operation with all that is known of it, and what is not.",
    )


def _change() -> Json:
    params: Json = {"type": "object", "additionalProperties": {"type": "string"}}
    op = _object({"kind": _one_of(list(Kind)), "params": params})
    diff = _object({"key": _TEXT, "from": _TEXT, "to": _TEXT, "why": _TEXT})
    approval = _object({"kind": _one_of(list(Kind)), "why": _TEXT, "command": _TEXT})
    return _object(
        {
            "vmid": _VMID,
            "name": _TEXT,
            "kind": _GUEST_KIND,
            "node": _TEXT,
            "bucket": _one_of(list(Bucket)),
            "ops": {"type": "array", "items": op},
            "diff": {"type": "array", "items": diff},
            "needs_approval": {"type": "array", "items": approval},
            "blocked_by": _MAYBE_TEXT,
            "waits_for": _TEXTS,
            "notes": _TEXTS,
        },
        "One guest's part of a plan.",
    )


def _request() -> Json:
    identity = _object(
        {
            "marker": _MAYBE_TEXT,
            "smbios1_uuid": _MAYBE_TEXT,
            "ctime": _MAYBE_TEXT,
            "vmgenid": _MAYBE_TEXT,
            "rootfs": _MAYBE_TEXT,
            "macs": _TEXTS,
        }
    )
    approval = _object({"person": _TEXT, "key_id": _TEXT, "form": _one_of(list(Form)), "at": _MAYBE_INSTANT})
    return _object(
        {
            "request_id": _TEXT,
            "state": _one_of(list(RequestState)),
            "kind": _TEXT,
            "vmid": _VMID,
            "guest_kind": _GUEST_KIND,
            "identity": identity,
            "digest": _MAYBE_TEXT,
            "params": {"type": "object", "additionalProperties": {"type": "string"}},
            "reason": _TEXT,
            "requested_by": _TEXT,
            "requested_at": _MAYBE_INSTANT,
            "not_before": _MAYBE_INSTANT,
            "approve_by": _MAYBE_INSTANT,
            "execute_by": _MAYBE_INSTANT,
            "ended_at": _MAYBE_INSTANT,
            "idempotency_key": _TEXT,
            "payload_sha256": _TEXT,
            "via": _MAYBE_TEXT,
            "people": _WHOLE,
            "rule": _MAYBE_WHOLE,
            "missing": _MAYBE_TEXT,
            "approvals": {"type": "array", "items": approval},
            "vetoed_by": _MAYBE_TEXT,
            "ended_because": _MAYBE_TEXT,
        },
        "A signed request for a one-shot operation, and who agreed to it.",
    )


# -- paths -------------------------------------------------------------------------------------------------------------

_WHY: Final[Mapping[str, str]] = {
    "400": "Something in the request is wrong.",
    "401": "A token is needed.",
    "403": "Not allowed: by policy, by a signature, or since a browser left out its page's token.",
    "404": "There is no such thing.",
    "405": "Not with this method.",
    "408": "The body did not come in time.",
    "409": "It conflicts with what is known or what is there.",
    "413": "The body is too large.",
    "429": "The policy's budget is used up.",
    "503": "The agent cannot answer now, or the gate is closed.",
}

_GUARDED: Final = ("401", "405", "413", "503")
_DELIVERED: Final = ("400", "401", "403", "404", "405", "408", "409", "413", "429", "503")


def _answers(good: Mapping[str, Json], errors: Sequence[str]) -> dict[str, Json]:
    problem: Json = {_PROBLEM: {"schema": _ref("Problem")}}
    bad: dict[str, Json] = {}
    for code in errors:
        if code not in good:
            bad[code] = {"description": _WHY[code], "content": problem}
    return {**good, **bad}


def _json_answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {_JSON: {"schema": _ref(schema)}}}


def _read(summary: str, schema: str, *, errors: Sequence[str] = (), parameters: Sequence[Json] = ()) -> Json:
    found = {"200": _json_answer(summary, schema)}
    return {
        "get": {
            "summary": summary,
            "responses": _answers(found, (*_GUARDED, *errors)),
            **({"parameters": list(parameters)} if parameters else {}),
        }
    }


def _open(summary: str, answers: Mapping[str, Json]) -> Json:
    return {"get": {"summary": summary, "security": [], "responses": _answers(answers, ("405", "413"))}}


def _deliver(summary: str, parameters: Sequence[Json] = ()) -> dict[str, Json]:
    envelope: Json = {
        "description": f"A DSSE envelope; its payload type is one of {', '.join(PAYLOAD_TYPES)}. At most "
        f"{limits.REQUEST_MAX_BYTES} bytes.",
        "required": True,
        "content": {_JSON: {"schema": _ref("Envelope")}},
    }
    good = {
        "200": _json_answer("The same was delivered before; nothing was done again.", "Delivery"),
        "202": _json_answer("It was taken: accepted, or waiting for more signatures.", "Delivery"),
    }
    return {
        "summary": summary,
        "requestBody": envelope,
        "responses": _answers(good, _DELIVERED),
        **({"parameters": list(parameters)} if parameters else {}),
    }


def _in_path(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _in_query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _id(name: str) -> Json:
    return _in_path(name, {"type": "string", "minLength": 1, "maxLength": 64}, "Its whole id.")


def _paths() -> dict[str, Json]:
    requests: dict[str, Json] = {
        "get": {
            "summary": "Signed requests, the newest first.",
            "parameters": [_in_query("state", _one_of(list(RequestState)), "Only those in this state.")],
            "responses": _answers(
                {"200": _json_answer("Signed requests, the newest first.", "Requests")}, (*_GUARDED, "400")
            ),
        },
        "post": _deliver("Hand in a signed statement: a request, more signatures over one, a veto or a resolution."),
    }
    return {
        "/v1/status": _read("How everything stands; the same as `trueup status --json`.", "Status"),
        "/v1/guests": _read("All guests.", "Guests"),
        "/v1/guests/{vmid}": _read(
            "One guest, its part of the last plan, and its newest operations.",
            "GuestDetails",
            errors=["404"],
            parameters=[_in_path("vmid", _VMID, "PVE's number of the guest.")],
        ),
        "/v1/plan": _read("The last pass's plan; the same as `trueup plan --json`.", "Plan"),
        "/v1/ops": _read("Operations, the newest first.", "Ops", errors=["400"], parameters=_OPS_QUERY),
        "/v1/ops/{op_id}": _read(
            "The whole story of one operation.", "OpStory", errors=["404"], parameters=[_id("op_id")]
        ),
        "/v1/requests": requests,
        "/v1/requests/{request_id}": _read(
            "One signed request.", "Request", errors=["404"], parameters=[_id("request_id")]
        ),
        "/v1/requests/{request_id}/approvals": {
            "post": _deliver("Hand in signatures over a request that waits for them.", [_id("request_id")])
        },
        "/v1/requests/{request_id}/veto": {
            "post": _deliver("Hand in a signed veto of a request that was not carried out yet.", [_id("request_id")])
        },
        "/v1/events": _events(),
        "/healthz": _open("Whether the agent lives.", {"200": _json_answer("It does.", "Alive")}),
        "/readyz": _open(
            "Whether it has recovered and leads.",
            {"200": _json_answer("It does.", "Ready"), "503": _json_answer("Not yet, or not any more.", "Ready")},
        ),
        "/metrics": _plain("Metrics for Prometheus.", "text/plain"),
        "/openapi.json": _plain("This document.", _JSON, {"type": "object"}),
    }


_OPS_QUERY: Final[Sequence[Json]] = (
    _in_query("state", _one_of([*OpState, "unresolved"]), "Only those in this state."),
    _in_query("vmid", _VMID, "Only those of this guest."),
    _in_query(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": limits.OPS_PAGE_MAX, "default": limits.OPS_PAGE},
        "How many at the most.",
    ),
)


def _plain(summary: str, media_type: str, schema: Json = _TEXT) -> Json:
    answer: Json = {"description": summary, "content": {media_type: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": _answers({"200": answer}, _GUARDED)}}


def _events() -> Json:
    description = (
        "Server-sent events. `hello` comes first (phase, epoch, head); `head` (seq, hash, epoch, at) tells that the "
        f"journal grew; `note` (what: {', '.join(What)}; text; op) is what the engine tells; `lost` (events) says that "
        "this reader was too slow and how many events it missed. Nothing is kept for a reader that is not there: read "
        f"the state anew after `hello` and `lost`. A comment comes every {limits.HEARTBEAT_S:.0f} s of silence."
    )
    answer: Json = {"description": "The stream.", "content": {"text/event-stream": {"schema": _TEXT}}}
    return {
        "get": {
            "summary": "News as it happens.",
            "description": description,
            "responses": _answers({"200": answer}, _GUARDED),
        }
    }


@cache
def document() -> dict[str, Json]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trueup",
            "version": trueup.__version__,
            "description": "What a trueup agent knows, and where signed requests are handed in. Keys are only ever "
            "added. Instants are ISO 8601 in UTC; what is not known is null.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"session": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The token of [http] token_file."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "trueup",
                    "description": "A login on the page. Over TLS the cookie is called __Host-trueup. Everything but "
                    "reads then needs the page's token in X-CSRF-Token.",
                },
            },
        },
    }

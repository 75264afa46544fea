"""The description of what an agent with several clusters serves before them; each cluster's own is below its prefix."""

from trueup.edges import standing
from trueup.edges.cli.output import Json
from trueup.edges.web import openapi
from trueup.edges.web.health import Phase

_COUNTS: Json = {"type": "object", "additionalProperties": {"type": "integer"}}
_MAYBE_WHOLE: Json = {"type": ["integer", "null"]}


def document() -> dict[str, Json]:
    """The whole document."""
    whole = openapi.document()
    return {
        **whole,
        "paths": {
            "/v1/clusters": {
                "get": {
                    "summary": "All clusters, and how each is doing; those that need a person first.",
                    "description": "`path` is where the page and the API of one are: `{path}v1/status`, "
                    "`{path}openapi.json`.",
                    "responses": {
                        "200": _answer("The clusters.", _clusters()),
                        "401": {"$ref": "#/components/responses/401"},
                    },
                }
            },
            "/healthz": _open("Whether the agent lives, and how many clusters are how far.", "alive"),
            "/readyz": _open("Whether all clusters are ready: 200, else 503.", "ready", "503"),
        },
        "components": {
            "securitySchemes": _of(whole, "components", "securitySchemes"),
            "responses": {"401": {"description": "A token is needed."}},
        },
    }


def _of(document: dict[str, Json], *keys: str) -> Json:
    found: Json = document
    for key in keys:
        found = found[key] if isinstance(found, dict) else None
    return found


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _open(summary: str, flag: str, *more: str) -> Json:
    properties: Json = {flag: {"type": "boolean"}, "clusters": _COUNTS}
    schema: Json = {"type": "object", "required": [flag, "clusters"], "properties": properties}
    answers: dict[str, Json] = {code: _answer(summary, schema) for code in ("200", *more)}
    return {"get": {"summary": summary, "security": [], "responses": answers}}


def _clusters() -> Json:
    properties: dict[str, Json] = {
        "name": {"type": "string"},
        "path": {"type": "string"},
        "phase": {"type": "string", "enum": [*(phase.value for phase in Phase), "down"]},
        "ready": {"type": "boolean"},
        "epoch": _MAYBE_WHOLE,
        "guests": {
            "type": ["object", "null"],
            "properties": {sync: {"type": "integer"} for sync in standing.SYNCS},
            "description": "How many are how; null before the first pass.",
        },
        "in_flight": _MAYBE_WHOLE,
        "unresolved": _MAYBE_WHOLE,
        "as_of": {"type": ["string", "null"], "format": "date-time"},
        "problem": {"type": ["string", "null"]},
    }
    row: Json = {"type": "object", "required": [*properties], "properties": properties}
    rows: Json = {"type": "array", "items": row}
    return {"type": "object", "required": ["clusters"], "properties": {"clusters": rows}}

"""Files that the page needs: style, icon, and htmx with its extension for server-sent events. All are shipped.

Rule kept here: only files that were there at the start are served, from memory; a path of a request never reaches the
file system. Their addresses carry a part of their hash, so that browsers may keep them for ever.
"""

import hashlib
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from trueup.edges.web.problems import Problem

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_KEEP: Final = "public, max-age=31536000, immutable"


class _Asset(msgspec.Struct, frozen=True, kw_only=True):
    body: bytes
    media_type: str
    tag: str


@cache
def _all() -> dict[str, _Asset]:
    found: dict[str, _Asset] = {}
    for file in (files("trueup.edges.web") / "static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            found[file.name] = _Asset(body=body, media_type=media_type, tag=hashlib.sha256(body).hexdigest()[:16])
    return found


def url(name: str) -> str:
    """The address of one of them. Raises KeyError if there is none."""
    return f"/static/{name}?v={_all()[name].tag}"


async def answer(request: Request) -> Response:
    """One of them."""
    asset = _all().get(request.path_params["name"])
    if asset is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no such file")
    current = request.query_params.get("v") == asset.tag
    headers = {"cache-control": _KEEP if current else "no-cache", "etag": f'"{asset.tag}"'}
    return Response(asset.body, headers=headers, media_type=asset.media_type)

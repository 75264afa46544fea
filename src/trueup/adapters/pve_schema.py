"""The option schema that a cluster serves: the data of its API viewer, read once for each version and kept in a file.

`/pve-docs/api-viewer/apidoc.js` is a script that begins with one constant, the tree of PVE's API as JSON. Only what the
create calls of guests take is kept of it. The check is a help for people who write manifests: where the data cannot be
had or understood, it is left out with a note, and nothing depends on it.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec

from trueup.adapters.manifests import Manifests
from trueup.core.option_schema import Option, OptionSchema, fault_of
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.ids import GuestType

_CONSTANT: Final = re.compile(r"(?:const|let|var)\s+\w+\s*=\s*(?=\[)")
_CREATE: Final = {GuestType.QEMU: "/nodes/{node}/qemu", GuestType.LXC: "/nodes/{node}/lxc"}
_DEPTH_MAX: Final = 64
_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_UNKNOWN_TYPE: Final = "any"


class Viewer(Protocol):
    """What is asked of the cluster."""

    async def version(self) -> str:
        """PVE's version. Raises ReadFailed."""
        ...

    async def api_viewer(self) -> bytes:
        """The script with the data of the API viewer. Raises ReadFailed."""
        ...


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """The schema, or a note why there is none."""

    schema: OptionSchema | None = None
    note: str = ""


async def look_up(viewer: Viewer, folder: Path | None) -> Looked:
    """The schema of this cluster's version: from the folder (None = none is kept), else from the cluster. Never raises.

    A schema that was read is put into the folder, where it stays until it is deleted.
    """
    try:
        version = await viewer.version()
        kept = _kept(folder, version)
        if kept is not None:
            return Looked(schema=kept)
        schema = decode(await viewer.api_viewer(), version)
    except ReadFailed as error:
        return Looked(note=f"options are not checked against PVE's schema: {error.what}")
    except ValueError as error:
        return Looked(note=f"options are not checked against PVE's schema: it is not understood ({error})")
    _keep(folder, schema)
    return Looked(schema=schema)


def check_against(schema: OptionSchema, manifests: Manifests) -> list[BadInput]:
    """Everything in the manifests' configs that the schema speaks against, at its place; each place is told once."""
    found: dict[str, BadInput] = {}
    for guest in manifests.guests:
        for key, value in guest.config.items():
            fault = fault_of(schema, guest.type, key, value)
            if fault is not None:
                where = manifests.where(guest.vmid, f"config.{key}")
                problem = BadInput(what=fault.what, where=where, remedy=fault.remedy)
                found.setdefault(str(problem), problem)
    return list(found.values())


def decode(script: bytes, version: str) -> OptionSchema:
    """Read the script.

    Raises:
        ValueError: it is not what PVE serves.
    """
    text = script.decode(errors="replace")
    start = _CONSTANT.search(text)
    if start is None:
        raise ValueError("no constant with the API in it")
    try:
        tree, _ = json.JSONDecoder().raw_decode(text, start.end())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    calls = dict(_creates(tree))
    options = {guest: _options(calls.get(path)) for guest, path in _CREATE.items()}
    if not all(options.values()):
        raise ValueError("no options of guests in it")
    return OptionSchema(version=version, options=options)


def _creates(tree: Any) -> Iterator[tuple[str, Any]]:
    """The create calls of guests in the tree."""
    wanted = set(_CREATE.values())
    todo: list[tuple[Any, int]] = [(tree, 0)]
    while todo:
        nodes, depth = todo.pop()
        if not isinstance(nodes, list) or depth > _DEPTH_MAX:
            continue
        for node in cast("list[Any]", nodes):
            if not isinstance(node, dict):
                continue
            fields = cast("dict[str, Any]", node)
            if fields.get("path") in wanted:
                yield cast("str", fields["path"]), _at(fields, "info", "POST")
            todo.append((fields.get("children"), depth + 1))


def _options(call: Any) -> dict[str, Option]:
    properties = _at(call, "parameters", "properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _option(value) for name, value in cast("dict[str, Any]", properties).items()}


def _option(value: Any, depth: int = 0) -> Option:
    """One option. What is not of the form that is expected says nothing, instead of something wrong."""
    if not isinstance(value, dict) or depth > 1:
        return Option(type=_UNKNOWN_TYPE)
    fields = cast("dict[str, Any]", value)
    inner = fields.get("format")
    enum = fields.get("enum")
    return Option(
        type=_text(fields, "type") or "string",
        description=_text(fields, "description"),
        enum=tuple(str(word) for word in cast("list[object]", enum)) if isinstance(enum, list) else (),
        pattern=_text(fields, "pattern"),
        minimum=_number(fields, "minimum"),
        maximum=_number(fields, "maximum"),
        min_length=_whole(fields, "minLength"),
        max_length=_whole(fields, "maxLength"),
        parts={name: _option(part, depth + 1) for name, part in cast("dict[str, Any]", inner).items()}
        if isinstance(inner, dict) and inner
        else None,
        default_key=str(fields.get("default_key")) in {"1", "True"},
        alias=_text(fields, "alias"),
        key_alias=_text(fields, "keyAlias"),
    )


def _at(value: Any, *steps: str) -> Any:
    for step in steps:
        value = cast("dict[str, Any]", value).get(step) if isinstance(value, dict) else None
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    """PVE writes some of its numbers as texts, and a few as powers of two."""
    try:
        return float(fields[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    number = _number(fields, name)
    return None if number is None or not number.is_integer() else int(number)


# -- the file that keeps it --------------------------------------------------------------------------------------------


def _kept(folder: Path | None, version: str) -> OptionSchema | None:
    if folder is None:
        return None
    try:
        return msgspec.json.decode(_file(folder, version).read_bytes(), type=OptionSchema)
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError):
        return None  # it is read anew


def _keep(folder: Path | None, schema: OptionSchema) -> None:
    """Put it there in one piece; not being able to costs time at the next start, and nothing else."""
    if folder is None:
        return
    path = _file(folder, schema.version)
    unfinished = path.with_suffix(f".{os.getpid()}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(msgspec.json.encode(schema))
        unfinished.replace(path)
    except OSError:
        return


def _file(folder: Path, version: str) -> Path:
    return folder / f"pve-options-{_SAFE.sub('_', version)[:64]}.json"

"""The check of a request's parameters.

Rule kept here: a parameter that PVE's schema does not know, or a value it would refuse, ends in 400 before anything
else is looked at; the error map has PVE's words for every wrong parameter, not only for the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pvesim.wire import bad_parameters

UNKNOWN = "property is not defined in schema and the schema does not allow additional properties"
DOUBLED = "duplicate parameter (already defined in URI) with conflicting values!"
MISSING = "property is missing and it is not optional"
Type: TypeAlias = Literal["string", "integer", "number", "boolean"]
LOWEST_VMID, HIGHEST_VMID = 100, 999_999_999
INTEGER = re.compile(r"^[+-]?\d+$")
NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?$")
NODE_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
DNS_NAME = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """What one parameter may be; `check` returns the complaint about a value."""

    type: Type = "string"
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    enum: tuple[str, ...] | None = None
    check: Callable[[str], str | None] | None = None
    needs: str | None = None


Params: TypeAlias = Mapping[str, Param]
Finder: TypeAlias = Callable[[str], Param | None]


def _vmid(raw: str) -> str | None:
    if LOWEST_VMID <= int(raw) <= HIGHEST_VMID:
        return None
    return "invalid format - value does not look like a valid VM ID\n"


def _dns(raw: str) -> str | None:
    return None if DNS_NAME.match(raw) else "invalid format - value does not look like a valid DNS name\n"


def _config_id(raw: str) -> str | None:
    good = re.match(r"^[A-Za-z][A-Za-z0-9_-]+$", raw)
    return None if good else f"invalid format - invalid configuration ID '{raw}'\n"


def _node(raw: str) -> str | None:
    return None if NODE_NAME.match(raw) else "invalid format - value does not look like a valid node name\n"


def _tags(raw: str) -> str | None:
    for tag in re.split(r"[;, ]+", raw):
        if tag and not re.match(r"^[A-Za-z0-9_][A-Za-z0-9_\-+.]*$", tag):
            return "invalid format - invalid characters in tag\n"
    return None


def _size(raw: str) -> str | None:
    return None if re.match(r"^\+?\d+(\.\d+)?[KMGT]?$", raw) else "value does not match the regex pattern"


def _root_only(_: str) -> str | None:
    return "Only root may use this option."


VMID = Param(type="integer", required=True, check=_vmid)
OPTIONAL_VMID = Param(type="integer", check=_vmid)
BOOLEAN = Param(type="boolean")
TEXT = Param()
COUNT = Param(type="integer", minimum=0)
POSITIVE = Param(type="integer", minimum=1)
NAME = Param(check=_dns)
TAGS = Param(check=_tags)
NODE = Param(check=_node)
DESCRIPTION = Param(max_length=8192)
DIGEST = Param(max_length=40)
SNAPNAME = Param(max_length=40, check=_config_id)
DISK_SIZE = Param(required=True, check=_size)
ROOT_ONLY = Param(type="boolean", check=_root_only)

_IN_PATH: dict[str, Param] = {"vmid": VMID, "snapname": SNAPNAME}


def fault_of(param: Param, raw: str) -> str | None:
    """The complaint about a value, None if it is fine."""
    number = {"integer": INTEGER, "number": NUMBER}.get(param.type)
    if number is not None and not number.match(raw):
        return f"type check ('{param.type}') failed - got '{raw}'"
    if param.type == "boolean" and raw not in {"0", "1"}:
        return f"type check ('boolean') failed - got '{raw}'"
    if param.minimum is not None and float(raw) < param.minimum:
        return f"value must have a minimum value of {param.minimum}"
    if param.maximum is not None and float(raw) > param.maximum:
        return f"value must have a maximum value of {param.maximum}"
    if param.max_length is not None and len(raw) > param.max_length:
        return f"value may only be {param.max_length} characters long"
    if param.enum is not None and raw not in param.enum:
        return f"value '{raw}' does not have a value in the enumeration '{', '.join(param.enum)}'"
    return param.check(raw) if param.check is not None else None


def check(
    raw: Mapping[str, str], names: Mapping[str, str], declared: Params, more: Finder | None = None
) -> dict[str, str]:
    """The parameters of a call, or PVE's 400; `names` are those in the path, `more` finds whole families."""
    doubled = [name for name, value in raw.items() if name in names and value != names[name]]
    if doubled:
        raise bad_parameters(dict.fromkeys(doubled, DOUBLED))
    given = {name: value for name, value in raw.items() if name not in names}
    errors = _faults(given, declared, more)
    for name, param in _IN_PATH.items():
        if name in names and (fault := fault_of(param, names[name])) is not None:
            errors[name] = fault
    for name, param in declared.items():
        if param.required and name not in given:
            errors[name] = MISSING
    if errors:
        raise bad_parameters(errors)
    return given


def _faults(given: Mapping[str, str], declared: Params, more: Finder | None) -> dict[str, str]:
    errors: dict[str, str] = {}
    for name, value in given.items():
        param = declared.get(name) or (more(name) if more is not None else None)
        if param is None:
            errors[name] = UNKNOWN
        elif (fault := fault_of(param, value)) is not None:
            errors[name] = fault
        elif param.needs is not None and param.needs not in given:
            errors[param.needs] = f"missing property required by '{name}'"
    return errors

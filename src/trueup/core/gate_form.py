"""The three statements that people sign, from their exact bytes and back.

Parsing is strict: a field too many, a field of another type or a text with control characters is refused. What
prepares a request (`render`) writes nothing that the parser would not take.
"""

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from trueup.core.gate_json import Fields, read_object
from trueup.model import limits
from trueup.model.gate import Refusal, Request, Target
from trueup.model.gate_answers import GateRefused, Resolution, ResolvedAs, Veto
from trueup.model.guests import Identity
from trueup.model.ids import VMID_MAX, VMID_MIN, Digest, GuestType, Vmid

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*", re.ASCII)
"""People and roles."""

_KEY: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_CLUSTER: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_KIND: Final = re.compile(r"[a-z][a-z-]*", re.ASCII)
_PARAM: Final = re.compile(r"[a-z][a-z0-9_-]*", re.ASCII)
_PARAM_VALUE: Final = re.compile(r"[\x20-\x7e]*", re.ASCII)
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{40,64}", re.ASCII)
_VOLUME: Final = re.compile(r"[\x21-\x7e]+", re.ASCII)
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_INSTANT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_NONCE: Final = re.compile(r"[A-Za-z2-7]{26}(?:=*)", re.ASCII)
_NONCE_ENDS: Final = frozenset("AEIMQUY4")
"""The last digit of a nonce: its 26 digits carry 130 bits, and the two that are left over are zero."""

_NONCE_BYTES: Final = limits.NONCE_BITS // 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_GUEST_TYPE: Final = re.compile("qemu|lxc")
_RESOLVED_AS: Final = re.compile("succeeded|failed")
_CTIME_DIGITS: Final = 12
_TEXT: Final = 253


def parse_request(payload: bytes) -> Request:
    """Read a request for an operation.

    Raises:
        GateRefused: TOO_LARGE or MALFORMED.
    """
    fields = Fields(read_object(payload, "the request"), "the request")
    request = Request(
        cluster=fields.text("cluster", _CLUSTER, longest=limits.REQUEST_NAME_MAX),
        kind=fields.text("kind", _KIND, longest=limits.REQUEST_NAME_MAX),
        target=_target(cast("Mapping[str, object]", fields.take("target", dict))),
        params=_params(fields, cast("Mapping[str, object]", fields.take("params", dict, default={}))),
        reason=_reason(fields),
        requested_by=fields.text("requested_by", NAME, longest=limits.REQUEST_NAME_MAX),
        nonce=_nonce(fields),
        idempotency_key=fields.text("idempotency_key", _KEY, longest=limits.REQUEST_NAME_MAX),
        not_before_ms=_instant(fields, "not_before"),
        approve_by_ms=_instant(fields, "approve_by"),
        execute_by_ms=_instant(fields, "execute_by"),
    )
    fields.done()
    if not request.not_before_ms < request.approve_by_ms <= request.execute_by_ms:
        raise fields.wrong("not_before, approve_by and execute_by are not in this order")
    return request


def parse_veto(payload: bytes) -> Veto:
    """Read a veto. Raises GateRefused like `parse_request`."""
    fields = Fields(read_object(payload, "the veto"), "the veto")
    veto = Veto(
        cluster=fields.text("cluster", _CLUSTER, longest=limits.REQUEST_NAME_MAX),
        request_id=fields.text("request_id", _ID, longest=limits.REQUEST_NAME_MAX),
        reason=_reason(fields),
        requested_by=fields.text("requested_by", NAME, longest=limits.REQUEST_NAME_MAX),
        nonce=_nonce(fields),
        not_before_ms=_instant(fields, "not_before"),
        execute_by_ms=_instant(fields, "execute_by"),
    )
    fields.done()
    return veto


def parse_resolution(payload: bytes) -> Resolution:
    """Read a resolution. Raises GateRefused like `parse_request`."""
    fields = Fields(read_object(payload, "the resolution"), "the resolution")
    resolution = Resolution(
        cluster=fields.text("cluster", _CLUSTER, longest=limits.REQUEST_NAME_MAX),
        op_id=fields.text("op_id", _ID, longest=limits.REQUEST_NAME_MAX),
        resolved_as=ResolvedAs(
            fields.text("as", _RESOLVED_AS, longest=limits.REQUEST_NAME_MAX, hint="succeeded, failed")
        ),
        reason=_reason(fields),
        requested_by=fields.text("requested_by", NAME, longest=limits.REQUEST_NAME_MAX),
        nonce=_nonce(fields),
        not_before_ms=_instant(fields, "not_before"),
        execute_by_ms=_instant(fields, "execute_by"),
    )
    fields.done()
    if not resolution.reason.strip():
        raise fields.wrong("reason is empty")
    return resolution


def render_request(request: Request) -> bytes:
    """The bytes to be signed, in a form that people can read."""
    target = request.target
    return _json(
        {
            "cluster": request.cluster,
            "kind": request.kind,
            "target": {
                "type": target.type.value,
                "vmid": target.vmid,
                "identity": _identity_fields(target.identity),
                "digest": target.digest,
            },
            "params": dict(request.params),
            "reason": request.reason,
            "requested_by": request.requested_by,
            "nonce": request.nonce,
            "idempotency_key": request.idempotency_key,
            "not_before": render_instant(request.not_before_ms),
            "approve_by": render_instant(request.approve_by_ms),
            "execute_by": render_instant(request.execute_by_ms),
        }
    )


def render_veto(veto: Veto) -> bytes:
    """The bytes of a veto, to be signed."""
    return _json(
        {
            "cluster": veto.cluster,
            "request_id": veto.request_id,
            "reason": veto.reason,
            "requested_by": veto.requested_by,
            "nonce": veto.nonce,
            "not_before": render_instant(veto.not_before_ms),
            "execute_by": render_instant(veto.execute_by_ms),
        }
    )


def render_resolution(resolution: Resolution) -> bytes:
    """The bytes of a resolution, to be signed."""
    return _json(
        {
            "cluster": resolution.cluster,
            "op_id": resolution.op_id,
            "as": resolution.resolved_as.value,
            "reason": resolution.reason,
            "requested_by": resolution.requested_by,
            "nonce": resolution.nonce,
            "not_before": render_instant(resolution.not_before_ms),
            "execute_by": render_instant(resolution.execute_by_ms),
        }
    )


def render_nonce(chance: bytes) -> str:
    """A nonce of 128 bits as it is written: base32 without padding. Raises ValueError for another length."""
    if len(chance) != _NONCE_BYTES:
        raise ValueError(f"a nonce has {_NONCE_BYTES} bytes")
    return base64.b32encode(chance).decode().rstrip("=")


def parse_instant(text: str) -> int:
    """An instant of RFC 3339 in epoch milliseconds; the offset is part of it.

    Raises:
        ValueError: it is none.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError("no instant of RFC 3339")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, sign, off_hours, off_minutes = found.groups()[6:]
    whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    if sign is not None:
        offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
        whole = whole - offset if sign == "+" else whole + offset
    millis = (whole - _EPOCH) // _MILLISECOND + int((fraction or "0").ljust(3, "0")[:3])
    if millis < 0:
        raise ValueError("before 1970")
    return millis


def render_instant(at_ms: int) -> str:
    """RFC 3339 in UTC; milliseconds only where there are any."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def _target(found: Mapping[str, object]) -> Target:
    fields = Fields(found, "the request's target")
    kind = GuestType(fields.text("type", _GUEST_TYPE, longest=8, hint="qemu, lxc"))
    vmid = cast("int", fields.take("vmid", int))
    if not VMID_MIN <= vmid <= VMID_MAX:
        raise fields.wrong("vmid is none")
    identity = _identity(cast("Mapping[str, object]", fields.take("identity", dict)))
    digest = fields.text("digest", _DIGEST, longest=64, hint="the config's digest as PVE shows it")
    fields.done()
    enough = (
        identity.smbios1_uuid or identity.marker_uid
        if kind is GuestType.QEMU
        else identity.marker_uid or (identity.rootfs and identity.macs)
    )
    if not enough:
        raise fields.wrong("identity does not tell this guest from the next one with its vmid")
    return Target(type=kind, vmid=Vmid(vmid), identity=identity, digest=Digest(digest))


def _identity(found: Mapping[str, object]) -> Identity:
    fields = Fields(found, "the target's identity")
    ctime = fields.any_of("ctime")
    if isinstance(ctime, bool) or not isinstance(ctime, int | str | None):
        raise fields.wrong("ctime must be a whole number")
    if isinstance(ctime, str) and ctime and not (ctime.isascii() and ctime.isdigit() and len(ctime) <= _CTIME_DIGITS):
        raise fields.wrong("ctime must be a whole number")
    macs = cast("list[object]", fields.any_of("macs") or [])
    if not isinstance(cast("object", macs), list) or not all(isinstance(m, str) and _MAC.fullmatch(m) for m in macs):
        raise fields.wrong("macs must be a list of MAC addresses")
    identity = Identity(
        smbios1_uuid=fields.text("smbios1_uuid", _UUID, longest=36, default=""),
        ctime="" if ctime is None else str(ctime),
        vmgenid=fields.text("vmgenid", _UUID, longest=36, default=""),
        marker_uid=fields.text("marker", _ID, longest=limits.REQUEST_NAME_MAX, default=""),
        rootfs=fields.text("rootfs", _VOLUME, longest=_TEXT, default=""),
        macs=cast("tuple[str, ...]", tuple(macs)),
    )
    fields.done()
    return identity


def _identity_fields(identity: Identity) -> dict[str, object]:
    fields: dict[str, object] = {
        "smbios1_uuid": identity.smbios1_uuid,
        "ctime": int(identity.ctime) if identity.ctime.isdigit() else "",
        "vmgenid": identity.vmgenid,
        "marker": identity.marker_uid,
        "rootfs": identity.rootfs,
        "macs": list(identity.macs),
    }
    return {name: value for name, value in fields.items() if value not in ("", [])}


def _params(fields: Fields, found: Mapping[str, object]) -> dict[str, str]:
    """Values as PVE writes them; whether the kind knows them is asked later (`core.gate_params`)."""
    if len(found) > limits.REQUEST_PARAMS_MAX:
        raise fields.wrong(f"more than {limits.REQUEST_PARAMS_MAX} params")
    params: dict[str, str] = {}
    for name, value in found.items():
        if len(name) > limits.REQUEST_NAME_MAX or _PARAM.fullmatch(name) is None:
            raise fields.wrong("params has a name that is none")
        if isinstance(value, bool):
            params[name] = "1" if value else "0"
        elif isinstance(value, int):
            params[name] = str(value)
        elif isinstance(value, str) and len(value) <= limits.REQUEST_TEXT_MAX and _PARAM_VALUE.fullmatch(value):
            params[name] = value
        else:
            raise fields.wrong("a param must be a short printable text, a whole number, or true or false")
    return params


def _reason(fields: Fields) -> str:
    text = cast("str", fields.take("reason", str))
    if len(text) > limits.REQUEST_TEXT_MAX:
        raise fields.wrong(f"reason is longer than {limits.REQUEST_TEXT_MAX} characters")
    if not text.isprintable():
        raise fields.wrong("reason has characters that cannot be printed")
    return text


def _nonce(fields: Fields) -> str:
    """In one spelling: the padding and the case of base32 carry nothing."""
    text = fields.text("nonce", _NONCE, longest=32, hint="128 bits in base32")
    bare = text.rstrip("=").upper()
    if bare[-1] not in _NONCE_ENDS:
        raise fields.wrong("nonce must be 128 bits in base32")
    return bare


def _instant(fields: Fields, name: str) -> int:
    try:
        return parse_instant(cast("str", fields.take(name, str)))
    except (ValueError, OverflowError):
        raise fields.wrong(f'{name} must be an instant like "2026-12-01T08:00:00Z"') from None


def _json(value: Mapping[str, object]) -> bytes:
    content = json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    if len(content) > limits.REQUEST_MAX_BYTES:
        raise GateRefused(Refusal.TOO_LARGE, "the request is too large")
    return content

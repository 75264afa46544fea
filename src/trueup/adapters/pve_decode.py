"""What PVE's answers look like, as they were recorded from 8.4 and 9; anything else is not understood, not guessed.

Rule kept here: a row that cannot be read makes the whole answer unreadable. A list with a row left out would say that
a guest is not there. The one exception are rows of a task list with no UPID in them, which name no task.
"""

from collections.abc import Iterable, Mapping
from sys import intern
from typing import Annotated, Any, TypeVar

import msgspec

from trueup.model.errors import BadInput
from trueup.model.guests import Backup, Power, ResourceRow, Snapshot
from trueup.model.ids import GuestType, NodeName, TokenId, Upid, Vmid
from trueup.model.pve import ClusterState, ConfigRead, NodeState, TaskRow, TaskState

INDEX_LINE_EXTRA = 12
"""Bytes of a line of PVE's task index besides UPID and status: blank, end time in hex, blank, newline, and one more."""

T = TypeVar("T")

NOT_UNDERSTOOD = (ValueError, RecursionError, OverflowError, msgspec.MsgspecError)
"""All that reading a foreign body can raise: nonsense, JSON as deep as a well, numbers without end."""

_COMMON_CHARS = 24
"""Values up to this length are mostly numbers and words that guests share."""

_Name = str | int | float
"""Perl prints a name that looks like a number as one."""


class Unreadable(ValueError):
    """The answer is not what PVE sends."""


class _Failure(msgspec.Struct):
    message: str = ""
    errors: dict[str, Any] = {}


class _Envelope(msgspec.Struct):
    data: msgspec.Raw


class _Permissions(msgspec.Struct):
    data: dict[str, dict[str, int | str | bool | None]]


class _ClusterRow(msgspec.Struct):
    type: str
    name: _Name = ""
    quorate: int = 0
    online: int = 0
    local: int = 0


class _NodeRow(msgspec.Struct):
    node: _Name
    uptime: float | None = 0


class _GuestRow(msgspec.Struct, gc=False):
    vmid: int
    type: str = ""
    node: _Name = ""
    name: _Name | None = ""
    status: str | None = ""
    template: int | str | bool | None = 0
    lock: str | None = ""
    hastate: str | None = ""
    pool: str | None = ""
    tags: str | None = ""
    maxmem: float | None = 0
    maxdisk: float | None = 0
    maxcpu: float | None = 0
    uptime: float | None = 0


class _ListedRow(ResourceRow, frozen=True, kw_only=True, gc=False):
    """A row as PVE sends nearly all of them: it becomes a value as it is read, and all that nobody uses is passed over.

    Of the thousands of bytes of a row, most are counters that change all the time and that nobody here uses.
    """

    type: GuestType
    vmid: Vmid
    node: Annotated[NodeName, msgspec.Meta(min_length=1)]
    name: str = ""
    status: Power = Power.UNKNOWN
    template: bool = False
    lock: str = ""
    ha: str = msgspec.field(name="hastate", default="")
    pool: str = ""
    tags: str = ""
    max_memory: int = msgspec.field(name="maxmem", default=0)
    max_disk: int = msgspec.field(name="maxdisk", default=0)
    max_cpu: float = msgspec.field(name="maxcpu", default=0.0)
    uptime_s: int = msgspec.field(name="uptime", default=0)


class _Listed(msgspec.Struct):
    data: tuple[_ListedRow, ...]


class _StatusRow(msgspec.Struct, gc=False):
    vmid: int
    status: str | None = ""


class _Statuses(msgspec.Struct):
    data: list[_StatusRow]


class _PendingRow(msgspec.Struct, gc=False):
    key: _Name
    value: Any = msgspec.UNSET
    pending: Any = msgspec.UNSET
    delete: int = 0


class _StorageRow(msgspec.Struct):
    storage: str = ""
    shared: int | str | bool | None = 0


class _SnapshotRow(msgspec.Struct):
    name: _Name
    description: _Name | None = ""
    snaptime: int | None = 0


class _BackupRow(msgspec.Struct):
    volid: str
    vmid: int = 0
    ctime: int | None = 0
    notes: _Name | None = ""
    protected: int | str | bool | None = 0


class _TaskListRow(msgspec.Struct, gc=False):
    upid: str = ""
    status: str = ""
    endtime: int = 0


class _TaskStatus(msgspec.Struct):
    status: str
    exitstatus: str = ""


class _Token(msgspec.Struct):
    tokenid: str


class _NewToken(msgspec.Struct):
    value: str


def _data(body: bytes, kind: type[T]) -> T:
    """Read `data` of an answer; numbers may come as text and booleans as 0 or 1, as Perl pleases."""
    envelope = msgspec.json.decode(body, type=_Envelope)
    return msgspec.json.decode(envelope.data, type=kind, strict=False)


def failure(body: bytes) -> tuple[str, Mapping[str, str]]:
    """Message and bad parameters of an error's body; empty where there is none to be read."""
    try:
        read = msgspec.json.decode(body, type=_Failure, strict=False)
    except NOT_UNDERSTOOD:
        return "", {}
    return read.message, {key: _text(value) for key, value in read.errors.items()}


def reply(body: bytes) -> Upid | str:
    """The answer to a mutation: a UPID, or whatever else as text ('' for null)."""
    data = _data(body, object)
    if isinstance(data, str) and data.startswith("UPID:"):
        try:
            return Upid.parse(data.strip())
        except BadInput as error:
            raise Unreadable(error.what) from None
    return _text(data)


def cluster(body: bytes, nodes_body: bytes | None, date_s: int) -> ClusterState:
    """/cluster/status, and /nodes for the uptimes. A node that stands alone has no cluster row, and has its quorum."""
    rows = _data(body, list[_ClusterRow])
    listed = _data(nodes_body, list[_NodeRow]) if nodes_body is not None else []
    uptimes = {_text(row.node): int(row.uptime or 0) for row in listed}
    clusters = [row for row in rows if row.type == "cluster"]
    nodes = tuple(
        NodeState(name=NodeName(_text(row.name)), online=bool(row.online), uptime_s=uptimes.get(_text(row.name), 0))
        for row in rows
        if row.type == "node"
    )
    if not nodes:
        raise Unreadable("no node in /cluster/status")
    return ClusterState(quorate=all(row.quorate for row in clusters), nodes=nodes, date_s=date_s)


def local_node(body: bytes) -> NodeName | None:
    """Which node answered /cluster/status."""
    local = [_text(row.name) for row in _data(body, list[_ClusterRow]) if row.type == "node" and row.local]
    return NodeName(local[0]) if len(local) == 1 else None


def resources(body: bytes) -> tuple[ResourceRow, ...]:
    """/cluster/resources?type=vm."""
    if _NEVER_SEEN not in body:
        try:
            return _listed.decode(body).data
        except msgspec.ValidationError:
            pass  # a row in it is spelled in another of Perl's ways, or is not understood: the long way tells
    return tuple(_guest(row, row.type, _text(row.node)) for row in _data(body, list[_GuestRow]))


_listed = msgspec.json.Decoder(_Listed, strict=False)
_statuses = msgspec.json.Decoder(_Statuses, strict=False)
_NEVER_SEEN = f'"{Power.IGNORE.value}"'.encode()
"""A state that is only wanted. No row that has it may be read as if PVE had said so."""


def statuses(body: bytes) -> dict[Vmid, Power]:
    """/nodes/N/qemu or /nodes/N/lxc: the live state by guest."""
    return {Vmid(row.vmid): _power(row.status) for row in _statuses.decode(body).data}


def _guest(row: _GuestRow, guest: str, node: str) -> ResourceRow:
    kind = _GUEST_TYPES.get(guest)
    if not node or kind is None:
        raise Unreadable(f"guest {row.vmid} {f'of unknown type {guest!r}' if node else 'without a node'}")
    return _ListedRow(  # the same type as above: rows of two passes are compared
        type=kind,
        vmid=Vmid(row.vmid),
        node=NodeName(node),
        name=row.name if isinstance(row.name, str) else _text(row.name),
        status=_power(row.status),
        template=row.template in _TRUE,
        lock=row.lock or "",
        ha=row.hastate or "",
        pool=row.pool or "",
        tags=row.tags or "",
        max_memory=int(row.maxmem or 0),
        max_disk=int(row.maxdisk or 0),
        max_cpu=row.maxcpu or 0.0,
        uptime_s=int(row.uptime or 0),
    )


_TRUE = (1, "1", True)
_GUEST_TYPES = {guest.value: guest for guest in GuestType}
_POWERS = {"running": Power.RUNNING, "stopped": Power.STOPPED}


def _power(status: str | None) -> Power:
    return _POWERS.get(status or "", Power.UNKNOWN)


def config(body: bytes) -> ConfigRead:
    """GET pending, which has all of the config: values as they will be after a restart, and which keys wait for one."""
    values: dict[str, str] = {}
    waiting: list[str] = []
    for row in _data(body, list[_PendingRow]):
        key = intern(_text(row.key))
        if row.pending is not msgspec.UNSET or row.delete:
            waiting.append(key)
        value = row.value if row.pending is msgspec.UNSET else row.pending
        if value is not msgspec.UNSET and not (row.delete and row.pending is msgspec.UNSET):
            values[key] = _shared(_text(value))
    return ConfigRead(config=values, digest=values.pop("digest", ""), pending=tuple(sorted(waiting)))


def _shared(value: str) -> str:
    """One copy of what thousands of guests have in common."""
    return intern(value) if len(value) <= _COMMON_CHARS else value


def plain_config(body: bytes) -> ConfigRead:
    """GET config: the values as they will be after a restart. Without a digest no write could be guarded."""
    values = {key: _text(value) for key, value in _data(body, dict[str, Any]).items()}
    digest = values.pop("digest", "")
    if not digest:
        raise Unreadable("a config without digest")
    return ConfigRead(config=values, digest=digest)


def shared_storages(body: bytes) -> frozenset[str]:
    """/cluster/resources?type=storage: one row for each storage on each node."""
    return frozenset(row.storage for row in _data(body, list[_StorageRow]) if row.shared in (1, "1", True))


def snapshots(body: bytes) -> tuple[Snapshot, ...]:
    """GET snapshot: PVE's own `current` is the present state, no snapshot."""
    return tuple(
        Snapshot(name=_text(row.name), description=_text(row.description).strip(), taken_s=row.snaptime or 0)
        for row in _data(body, list[_SnapshotRow])
        if row.name != "current"
    )


def backups(body: bytes) -> tuple[Backup, ...]:
    """GET storage content=backup: rows without a vmid are of no guest."""
    return tuple(
        Backup(
            volume=row.volid,
            vmid=Vmid(row.vmid),
            made_s=row.ctime or 0,
            notes=_text(row.notes),
            protected=row.protected in (1, "1", True),
        )
        for row in _data(body, list[_BackupRow])
        if row.vmid
    )


def running(body: bytes) -> bool:
    """GET status/current. Anything but these two states is not understood."""
    status = _data(body, _GuestRow).status
    if _power(status) is Power.UNKNOWN:
        raise Unreadable(f"guest status {status!r}")
    return _power(status) is Power.RUNNING


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page: the rows with a UPID, how many rows there were, and bytes in PVE's index of those without one."""

    rows: tuple[TaskRow, ...]
    count: int
    unread_bytes: int = 0


def task_page(body: bytes) -> TaskPage:
    """GET tasks. `user` is not read: it is spelled in two ways; the UPID has the one that holds."""
    rows: list[TaskRow] = []
    unread_bytes = 0
    found = _data(body, list[_TaskListRow])
    for row in found:
        try:
            upid = Upid.parse(row.upid)
        except BadInput:
            unread_bytes += _line_bytes(row.upid, row.status)
            continue
        status = row.status or ("" if row.endtime else "RUNNING")
        rows.append(TaskRow(upid=upid, status=status, endtime=row.endtime))
    return TaskPage(rows=tuple(rows), count=len(found), unread_bytes=unread_bytes)


def index_bytes(rows: Iterable[TaskRow]) -> int:
    """At least what the finished rows take in PVE's index."""
    return sum(_line_bytes(row.upid.text, row.status) for row in rows if row.status != "RUNNING")


def _line_bytes(upid: str, status: str) -> int:
    return len(upid.encode()) + len(status.encode()) + INDEX_LINE_EXTRA


def task(body: bytes) -> TaskState:
    """GET tasks/UPID/status; `exitstatus` is always there once it has stopped."""
    read = _data(body, _TaskStatus)
    if read.status == "running":
        return TaskState(running=True)
    if read.status != "stopped" or not read.exitstatus:
        raise Unreadable(f"task status {read.status!r} without an exit status")
    return TaskState(running=False, exit_status=read.exitstatus)


def permits(body: bytes, path: str, privilege: str, *, below: bool) -> bool:
    """GET /access/permissions?path=: whether we hold the privilege there, and, if asked, on everything below.

    The number beside a privilege is whether it is handed down.
    """
    held = msgspec.json.decode(body, type=_Permissions, strict=False).data.get(path, {})
    return privilege in held and (not below or held[privilege] in (1, "1", True))


def tokens(body: bytes, user: str) -> tuple[TokenId, ...]:
    """GET /access/users/U/token."""
    return tuple(TokenId(f"{user}!{row.tokenid}") for row in _data(body, list[_Token]))


def new_token(body: bytes) -> str:
    """The secret of a token just made; PVE shows it this once."""
    return _data(body, _NewToken).value


def version(body: bytes) -> str:
    """GET /version."""
    return _text(_data(body, dict[str, Any]).get("version", ""))


def _text(value: object) -> str:
    """A value as PVE's config file would have it: booleans as 1 and 0, whole numbers without a point."""
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case float() if value.is_integer():
            return str(int(value))
        case str() | int() | float():
            return str(value)
        case _:
            return msgspec.json.encode(value).decode()

"""What is said to PVE and what PVE says, as values. Decoding is the adapter's work, judging is `core`'s."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.ids import NodeName, TokenId, Upid


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One mutation of PVE's API.

    `path` starts behind /api2/json; `params` are sent as a form (POST, PUT) or as the query (DELETE: PVE answers a
    body there with 501). `send_by` is on the agent's monotonic clock, in seconds: it is checked right before the first
    byte (0 = no bound).
    """

    method: str
    path: str
    params: Mapping[str, str] = {}
    send_by: float = 0.0


class TaskStarted(msgspec.Struct, frozen=True, kw_only=True):
    """PVE answered with a UPID."""

    upid: Upid


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """PVE answered 200 without a UPID; what that means is told by the probe. `data` is its answer as text."""

    data: str = ""


Reply = TaskStarted | Done


class TaskRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of a node's task list. `status` is 'RUNNING' or the exit status; RUNNING may be up to ~12 s stale."""

    upid: Upid
    status: str
    endtime: int = 0


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one node, all sources.

    `sees_all`: the token has Sys.Audit there, so other tokens' tasks show too; `index_bytes` is at least the size of
    the rows in PVE's index: below 50,000 nothing was ever rotated away, if all is seen (pve-common,
    PVE::RESTEnvironment).
    """

    node: NodeName
    rows: tuple[TaskRow, ...]
    sees_all: bool
    index_bytes: int


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """/status of one task: `exit_status` is '' while it runs and PVE's text, verbatim, afterwards."""

    running: bool
    exit_status: str = ""


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """A node as /cluster/status shows it; `uptime_s` from /nodes (0 = not known)."""

    name: NodeName
    online: bool
    uptime_s: int = 0


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """Quorum and nodes. `date_s` is the entry node's clock (HTTP Date), epoch seconds."""

    quorate: bool
    nodes: tuple[NodeState, ...]
    date_s: int = 0


class ConfigRead(msgspec.Struct, frozen=True, kw_only=True):
    """A guest's config with pending changes applied, as text by key, and its digest; `pending` = keys that wait."""

    config: Mapping[str, str]
    digest: str
    pending: tuple[str, ...] = ()


class TokenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An API token as PVE lists it."""

    token: TokenId


class Purpose(StrEnum):
    """Why a write is sent; a fake or a log can tell a fence from an operation."""

    OPERATION = "operation"
    FENCE = "fence"
    FLOCK_PROBE = "flock-probe"

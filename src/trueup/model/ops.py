"""Operations: their kinds, states and reasons, the intent that is journaled before a request leaves, and the events.

Every value here is written into the journal, so a field is only ever added with a default, never renamed or reused.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.gate import Denied, GateEvent
from trueup.model.guests import Identity, Marker
from trueup.model.ids import Digest, Epoch, GuestType, NodeName, OpId, TokenId, Vmid


class Kind(StrEnum):
    """What an operation does. `core.kinds` holds all that is known of each."""

    CREATE = "create"
    CLONE = "clone"
    CONFIGURE = "configure"
    GROW = "grow"
    START = "start"
    SNAPSHOT = "snapshot"
    BACKUP = "backup"
    TAG = "tag"
    RESTORE_NEW = "restore-new"
    POOL = "pool"
    DETACH = "detach"
    SHUTDOWN = "shutdown"
    STOP = "stop"
    REBOOT = "reboot"
    MIGRATE = "migrate"
    TEMPLATE = "template"
    DESTROY = "destroy"
    ROLLBACK = "rollback"
    SNAPSHOT_DELETE = "snapshot-delete"
    RESTORE = "restore"
    DISK_REMOVE = "disk-remove"
    BACKUP_DELETE = "backup-delete"
    UNLOCK = "unlock"


class OpState(StrEnum):
    """Where an operation stands; the legal moves are the table in `core.lifecycle`."""

    ACCEPTED = "accepted"
    STARTED = "started"
    TASK_RUNNING = "task_running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an operation ended, or why it stays open. A closed list: scripts may match on it."""

    TASK_OK = "task_ok"
    TASK_WARNINGS = "task_warnings"
    OBSERVED = "observed"
    REFUSED = "refused"
    TASK_ERROR = "task_error"
    NOT_STARTED = "not_started"
    PRESUMED_NOT_STARTED = "presumed_not_started"
    KILLED = "killed"
    EXPIRED = "expired"
    VETOED = "vetoed"
    NOT_AS_SIGNED = "not_as_signed"
    SUPERSEDED = "superseded"
    RESOLVED_BY_OPERATOR = "resolved_by_operator"
    # Reasons of operations that stay open.
    TASK_UNKNOWN = "task_unknown"
    GOAL_NOT_REACHED = "goal_not_reached"
    CHILDREN_MAY_LIVE = "children_may_live"
    LATE_REQUEST_POSSIBLE = "late_request_possible"
    UNREADABLE = "unreadable"
    PARTIAL = "partial"
    UNKNOWABLE = "unknowable"
    NOT_ATTRIBUTABLE = "not_attributable"
    FENCE_IMPOSSIBLE = "fence_impossible"
    LOCK_HELD = "lock_held"


class Row(StrEnum):
    """The rows of the recovery table, in its order; `core.recovery` explains each."""

    R1 = "R1"
    R2 = "R2"
    R3 = "R3"
    R4 = "R4"
    R5 = "R5"
    R6 = "R6"
    R7 = "R7"
    R8 = "R8"
    R9 = "R9"
    R10 = "R10"
    R11 = "R11"
    R12 = "R12"
    R13 = "R13"


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All that is needed to find an operation's effect again; durable before its request leaves.

    `params` are the exact parameters sent, secrets replaced (`core.intents.redact`). `goal` is what the probe compares
    with the world, in the kind's own keys. `source` is a clone's source vmid; `labels` are the manifest's. `not_mine`
    are tasks like its own that were there before it was sent. `task_type` and `task_id` are what PVE will write into
    the UPID ('' = the call makes no task). `sent_not_before_s` is our clock in epoch seconds; nodes' clocks may differ
    from it. `send_by_ms` is wall clock, for people; the sender checks the same bound on its monotonic clock.
    `one_shot` operations were signed by people, the others come out of comparing manifests with the world and may be
    planned again.
    """

    kind: Kind
    type: GuestType
    vmid: Vmid
    node: NodeName
    name: str = ""
    one_shot: bool = False
    method: str
    path: str
    params: Mapping[str, str] = {}
    goal: Mapping[str, str] = {}
    source: Vmid | None = None
    task_type: str = ""
    task_id: str = ""
    token: TokenId
    identity: Identity | None = None
    digest: Digest = Digest("")
    marker: Marker | None = None
    labels: Mapping[str, str] = {}
    not_mine: tuple[str, ...] = ()
    sent_not_before_s: int = 0
    send_by_ms: int = 0


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """A one-shot passed the gate. It has not been sent.

    It is not sent before `not_before_ms`, a grace in which people may still veto. `payload` is the SHA-256 of the
    signed bytes, in hex; the request's own records hold the bytes.
    """

    intent: Intent
    execute_by_ms: int
    nonce: str
    idempotency_key: str
    payload: str
    not_before_ms: int = 0


class Started(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="started"):
    """The intent, durable; from here on PVE may have received the request."""

    intent: Intent


class TaskRunning(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="task_running"):
    """PVE's task is known. `adopted`: recovery found it, the reply never reached us."""

    upid: str
    adopted: bool = False


class Succeeded(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="succeeded"):
    """The effect is there, on evidence. `row` is set where recovery decided."""

    reason: Reason
    row: Row | None = None
    exit_status: str = ""
    evidence: Mapping[str, str] = {}


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """It did not take effect, or not as a whole (`leftovers` says what remains)."""

    reason: Reason
    row: Row | None = None
    exit_status: str = ""
    leftovers: tuple[str, ...] = ()
    evidence: Mapping[str, str] = {}


class Unresolved(msgspec.Struct, frozen=True, kw_only=True, tag="unresolved"):
    """Recovery cannot tell yet; the operation stays in flight and its guest is left alone."""

    reason: Reason
    row: Row
    settles_by: str
    evidence: Mapping[str, str] = {}


class Fencing(msgspec.Struct, frozen=True, kw_only=True, tag="fencing"):
    """A fence is about to be written into the guest."""

    counter: int
    digest: Digest


class Fenced(msgspec.Struct, frozen=True, kw_only=True, tag="fenced"):
    """PVE now refuses the dead request. `digest` is the new one ('' = the guest is gone)."""

    digest: Digest


class Guarding(msgspec.Struct, frozen=True, kw_only=True, tag="guarding"):
    """A destroy is about to write its mark and lift protection."""

    digest: Digest


class Guarded(msgspec.Struct, frozen=True, kw_only=True, tag="guarded"):
    """The mark of a destroy stands and protection is lifted; `digest` is the new one."""

    digest: Digest


class Contradicted(msgspec.Struct, frozen=True, kw_only=True, tag="contradicted"):
    """An operation presumed never to have started has shown up: it is in flight again."""

    what: str
    upid: str = ""


OpEvent = (
    Accepted
    | Started
    | TaskRunning
    | Succeeded
    | Failed
    | Unresolved
    | Fencing
    | Fenced
    | Guarding
    | Guarded
    | Contradicted
)


class EpochTaken(msgspec.Struct, frozen=True, kw_only=True, tag="epoch_taken"):
    """An agent took over. `token` is the API token that it works with."""

    epoch: Epoch
    holder: str
    token: TokenId


class TokenPlanned(msgspec.Struct, frozen=True, kw_only=True, tag="token_planned"):
    """An incarnation token of this name is about to be made (its secret is never written anywhere)."""

    token: TokenId


class TokenRetired(msgspec.Struct, frozen=True, kw_only=True, tag="token_retired"):
    """PVE no longer knows this token, read back on `nodes`: requests stuck before its check get 401 there."""

    token: TokenId
    nodes: tuple[NodeName, ...]


class Adopted(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="adopted"):
    """We know this guest as ours: the uid of its marker, and the labels last applied."""

    vmid: Vmid
    uid: str
    labels: Mapping[str, str] = {}


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """The guest with this marker uid is no longer there, or no longer ours."""

    vmid: Vmid
    uid: str


class Paused(msgspec.Struct, frozen=True, kw_only=True, tag="paused", omit_defaults=True):
    """People told the loop to leave these guests alone (empty = all of them). `by` is who said so."""

    guests: tuple[str, ...] = ()
    by: str = ""


class Resumed(msgspec.Struct, frozen=True, kw_only=True, tag="resumed", omit_defaults=True):
    """The opposite of `Paused`."""

    guests: tuple[str, ...] = ()
    by: str = ""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of records that is gone, both ends included.

    `prev_hash` is what its first record named as the hash before it; `hash` and `epoch` are those of its last one, so
    that the chain goes over it.
    """

    first_seq: int
    last_seq: int
    epoch: Epoch
    prev_hash: str
    hash: str


class Pruned(msgspec.Struct, frozen=True, kw_only=True, tag="pruned"):
    """Records of operations that had ended before this instant were removed, `gaps` are where they stood."""

    before_ms: int
    ops: int
    records: int
    gaps: tuple[Gap, ...]


class Doubted(msgspec.Struct, frozen=True, kw_only=True, tag="doubted"):
    """The journal may not know all that was done: nothing is changed until somebody has looked."""

    what: str


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, tag="acknowledged"):
    """Somebody has looked at every doubt so far, and says that the journal may be relied on again."""

    by: str = ""


SystemEvent = (
    EpochTaken
    | TokenPlanned
    | TokenRetired
    | Adopted
    | Released
    | Paused
    | Resumed
    | Pruned
    | Doubted
    | Acknowledged
    | Denied
)
Event = OpEvent | GateEvent | SystemEvent


class Draft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record before it is in the journal.

    `record_id` (UUIDv7) is chosen before the append, so that an append whose answer was lost can be looked up instead
    of repeated. `op_id` is '' for system events.
    """

    record_id: str
    at_ms: int
    op_id: OpId
    event: Event


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record in the journal: `seq` counts from 1 without gaps, `hash` covers everything before it."""

    seq: int
    epoch: Epoch
    record_id: str
    at_ms: int
    op_id: OpId
    event: Event
    prev_hash: str
    hash: str


class OpView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An operation as its records add up (`core.lifecycle.fold`).

    `fenced` is the last `Fenced` written after the last `Fencing`; `adopted` tells that recovery found the task;
    `contradicted` that a presumption about it was wrong once. `exit_status` is PVE's text, verbatim.
    """

    op_id: OpId
    state: OpState
    intent: Intent
    started_at_ms: int
    epoch: Epoch
    ended_at_ms: int = 0
    upid: str = ""
    adopted: bool = False
    reason: Reason | None = None
    row: Row | None = None
    exit_status: str = ""
    leftovers: tuple[str, ...] = ()
    unresolved: Unresolved | None = None
    fencing: Fencing | None = None
    fenced: Fenced | None = None
    guarded: Guarded | None = None
    contradicted: bool = False
    execute_by_ms: int = 0
    not_before_ms: int = 0

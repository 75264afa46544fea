"""What the engine needs from the world, as small Protocols. Each states what an implementation owes its caller.

Every call here is a point at which the agent may die; the simulation kills it at each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from trueup.model.gate import RequestState, RequestView
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.guests import Backup, Power, ResourceRow, Snapshot
from trueup.model.ids import Epoch, GuestType, NodeName, OpId, TokenId, Upid, Vmid
from trueup.model.notes import Note
from trueup.model.ops import Draft, EpochTaken, OpState, OpView, Record
from trueup.model.pve import Call, ClusterState, ConfigRead, Reply, TaskList, TaskRow, TaskState


class Clock(Protocol):
    """Time. Only this port knows it."""

    def now_ms(self) -> int:
        """Wall clock in epoch milliseconds; may step."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never steps; comparable within this process only."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        ...


class Entropy(Protocol):
    """Chance. Only this port has it."""

    def uuid7(self, at_ms: int) -> str:
        """Return a UUIDv7 for this instant, as text; never the same twice."""
        ...

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Pve(Protocol):
    """One PVE cluster, spoken to with one API token.

    Concurrency: any number of calls at once; the implementation bounds what reaches a node. Reads may be repeated and
    sent to any endpoint. `send` sends at most once, on a fresh connection, and never repeats by itself.
    """

    @property
    def token(self) -> TokenId:
        """The token in use; PVE writes it into the UPIDs of our tasks."""
        ...

    async def send(self, call: Call) -> Reply:
        """Send one mutation, once.

        Raises:
            NotSent: PVE cannot have acted.
            Refused: PVE refused before it changed anything.
            Unknown: anything else; PVE may have acted or may still act.
        """
        ...

    async def cluster(self, *, uptimes: bool = True) -> ClusterState:
        """Quorum and nodes; without `uptimes`, which cost a call of their own, they are 0. Raises ReadFailed."""
        ...

    async def resources(self) -> tuple[ResourceRow, ...]:
        """All guests that the token may see (VM.Audit). Raises ReadFailed."""
        ...

    async def sees_all_guests(self) -> bool:
        """Whether the token has VM.Audit on /vms, so that absence from `resources` means absence. Raises ReadFailed."""
        ...

    async def statuses(self, node: NodeName) -> Mapping[Vmid, Power]:
        """The live state of each guest of one node (/nodes/N/qemu and lxc). Raises ReadFailed."""
        ...

    async def config(self, node: NodeName, guest: GuestType, vmid: Vmid) -> ConfigRead:
        """One guest's config with digest and the keys that wait for a restart, in one call.

        Raises:
            Absent: PVE says that the guest is not on this node.
            ReadFailed: not known.
        """
        ...

    async def snapshots(self, node: NodeName, guest: GuestType, vmid: Vmid) -> tuple[Snapshot, ...]:
        """The guest's snapshots, without PVE's own `current`. Raises Absent or ReadFailed."""
        ...

    async def backups(self, node: NodeName, storage: str) -> tuple[Backup, ...]:
        """The backups on one storage as this node sees it, of all guests that the token may see. Raises ReadFailed."""
        ...

    async def shared_storages(self) -> frozenset[str]:
        """The storages whose volumes all nodes see. Raises ReadFailed."""
        ...

    async def running(self, node: NodeName, guest: GuestType, vmid: Vmid) -> bool:
        """Whether the guest runs now (status/current). Raises Absent or ReadFailed."""
        ...

    async def tasks(self, node: NodeName, *, proven: bool = True) -> TaskList:
        """The whole task list of one node, all sources. Raises ReadFailed.

        Whether it shows all tasks costs calls of its own; with `proven=False` they are saved, and `sees_all` is false.
        """
        ...

    async def active_tasks(self, node: NodeName) -> tuple[TaskRow, ...]:
        """The node's tasks that are not archived yet: all that run, and those that ended just now. Raises ReadFailed.

        One cheap call for all running tasks of a node, served without pvedaemon.
        """
        ...

    async def task(self, upid: Upid) -> TaskState | None:
        """The state of one task on the node of its UPID; None = "no such task". Raises ReadFailed."""
        ...


class Keeper(Protocol):
    """The second credential: it makes and deletes the agent user's incarnation tokens.

    With `send_by` a request leaves before that instant of the monotonic clock, or never (NotSent); 0 = any time.
    """

    async def create(self, token: TokenId, *, send_by: float = 0.0) -> str:
        """Make the token and return its secret (kept in memory only). Raises NotSent, Refused or Unknown."""
        ...

    async def delete(self, token: TokenId, *, send_by: float = 0.0) -> None:
        """Delete it; "no such token" is success. Raises NotSent, Refused or Unknown."""
        ...

    async def listed(self, node: NodeName) -> tuple[TokenId, ...]:
        """The user's tokens as *this* node sees them, asked directly. Raises ReadFailed."""
        ...


class JournalReader(Protocol):
    """What is in the journal. Open for reading by any number of processes, beside its writer."""

    async def in_flight(self) -> tuple[OpView, ...]:
        """Operations that PVE may have received and that have no terminal record, oldest first."""
        ...

    async def accepted(self) -> tuple[OpView, ...]:
        """One-shots that passed the gate and were not sent, oldest first."""
        ...

    async def presumed_since(self, since_ms: int) -> tuple[OpView, ...]:
        """Operations that ended `presumed_not_started` at or after this instant: they are being watched."""
        ...

    async def unaccounted_since(self, since_ms: int) -> tuple[OpView, ...]:
        """Operations that ended at or after this instant and whose task, if there was one, was never known.

        A task that nobody claims may be one of theirs.
        """
        ...

    async def ops(
        self, *, state: OpState | None = None, vmid: Vmid | None = None, limit: int = 0
    ) -> tuple[OpView, ...]:
        """Operations, newest first; limit 0 = all."""
        ...

    async def op(self, op_id: OpId) -> OpView | None:
        """One operation as its records add up."""
        ...

    async def records(self, *, op_id: OpId | None = None, after_seq: int = 0, limit: int = 0) -> tuple[Record, ...]:
        """Records, oldest first; limit 0 = all."""
        ...

    async def request(self, request_id: OpId) -> RequestView | None:
        """One request as its records add up; its operation, once accepted, has the same id."""
        ...

    async def requests(self, *, state: RequestState | None = None, limit: int = 0) -> tuple[RequestView, ...]:
        """Requests, newest first; limit 0 = all."""
        ...

    async def request_of_nonce(self, nonce: str) -> RequestView | None:
        """The request that used this nonce; a nonce is used once, for as long as its request can be delivered."""
        ...

    async def requests_of_key(self, idempotency_key: str) -> tuple[RequestView, ...]:
        """Requests with this idempotency key, newest first; at most one of them holds it."""
        ...

    async def moment(self, lookup: Lookup) -> Moment:
        """All that statements which are judged together need to know, as of one moment and in one read."""
        ...

    async def one_shots_since(self, since_ms: int) -> tuple[OpView, ...]:
        """One-shots that were started at or after this instant, for budgets."""
        ...

    async def standing_fences(self) -> tuple[OpView, ...]:
        """Destroys that ended as never having arrived, whose `protection` must stand until their token is retired."""
        ...

    async def labels(self) -> dict[Vmid, Mapping[str, str]]:
        """The labels last applied to each guest known as ours; they count when its manifest is gone."""
        ...

    async def newest_ms(self) -> int:
        """The newest instant in the journal, 0 if it is empty: a clock that stepped back does not reopen a window."""
        ...

    async def claimed_upids(self, candidates: frozenset[str]) -> frozenset[str]:
        """Which of these UPIDs an operation has recorded; a task belongs to one operation only."""
        ...

    async def adopted(self) -> dict[Vmid, str]:
        """The guests known as ours: vmid to marker uid."""
        ...

    async def paused(self) -> frozenset[str]:
        """Names of paused guests; '*' = all."""
        ...

    async def doubts(self) -> tuple[str, ...]:
        """Why this journal may not know all that was done; while there is a doubt, nothing is changed."""
        ...

    async def epochs(self) -> tuple[EpochTaken, ...]:
        """Every epoch that was taken, oldest first."""
        ...

    async def tokens(self) -> tuple[frozenset[TokenId], frozenset[TokenId]]:
        """Incarnation tokens: those ever planned, and those of them that are retired."""
        ...


class Journal(JournalReader, Protocol):
    """The append-only record of everything, for its one writer.

    Durability: when `append` returns, its records survive a power loss. Concurrency: any number of appends at once
    (they are committed in groups), in the order in which they were called. Every append is conditional on the epoch
    and on the hash of the record before it, in the same transaction.
    """

    async def take_epoch(self, *, holder: str, token: TokenId, record_id: str, at_ms: int) -> Epoch:
        """Raise the epoch by one, record who holds it, and return it. Raises JournalFailed or Corrupt."""
        ...

    async def append(self, epoch: Epoch, drafts: Sequence[Draft]) -> tuple[Record, ...]:
        """Append all drafts or none.

        Raises:
            Stale: the epoch is over.
            IllegalTransition: the lifecycle forbids one of them; none was written.
            JournalFailed: not durable (disk full, I/O error); none counts as written, mutations must stop.
        """
        ...

    async def enter(self) -> None:
        """Take the lock or the lease, before anything else is called; `close` gives it back.

        Raises:
            JournalBusy: another process holds it; the message names it.
            BadInput, Corrupt, JournalFailed: it cannot be written.
        """
        ...

    def lead_until(self) -> float:
        """Until when nobody else may write this journal, on the monotonic clock (`Clock.monotonic`); never awaits.

        No request leaves after it. Infinite where a lock is held for life; in the past once a lease was lost.
        """
        ...

    async def led(self) -> None:
        """Wait for as long as this writer may write; it never returns.

        Raises:
            Stale: another agent leads.
            JournalFailed: the lease ran out, or the journal can no longer be written.
        """
        ...

    async def close(self) -> None:
        """Write what is queued and let go of the lock."""
        ...


class Reporter(Protocol):
    """Who listens to the engine: a terminal, a log, a test. It never blocks and never fails."""

    def note(self, note: Note) -> None:
        """Take one piece of news."""
        ...

"""PVE, as the engine sees it: the `Pve` port over a `Transport`, so that real TLS and virtual time share this code.

Rule kept here: what PVE says is passed on, and what it does not say is not known. Nothing is kept between calls but
the choice of the endpoint and what the token was last seen to be allowed. Time is the port's; chance is not needed.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from trueup.adapters import pve_decode
from trueup.adapters.pve_api import OK, PveApi, Read, quoted, read_failed, understood
from trueup.core import answers
from trueup.model.errors import ReadFailed
from trueup.model.guests import Backup, Power, ResourceRow, Snapshot
from trueup.model.ids import GuestType, NodeName, TokenId, Upid, Vmid
from trueup.model.limits import TASK_PAGE, TASK_PAGES_MAX
from trueup.model.pve import Call, ClusterState, ConfigRead, Done, Reply, TaskList, TaskRow, TaskStarted, TaskState

_NOT_KNOWN: Final = frozenset({403, 501})
"""An answer to /access/permissions that tells nothing about them."""


class PveClient:
    """One PVE cluster, spoken to with one API token. See `trueup.ports.Pve`."""

    def __init__(self, *, api: PveApi, token: TokenId) -> None:
        """Take the requests and the name of the token that they carry; nothing is sent yet."""
        self._api = api
        self._token = token
        self._saw_all_tasks: dict[NodeName, bool] = {}

    @property
    def token(self) -> TokenId:
        """The token in use; PVE writes it into the UPIDs of our tasks."""
        return self._token

    async def send(self, call: Call) -> Reply:
        """Send one mutation, once. Raises NotSent, Refused or Unknown; see `trueup.core.answers`."""
        reply = await self._api.mutate(call, pve_decode.reply)
        return Done(data=reply) if isinstance(reply, str) else TaskStarted(upid=reply)

    async def version(self) -> str:
        """PVE's version; the cheapest way to find out whether address, certificate and token are right.

        Raises:
            ReadFailed: says what is wrong and what to do.
        """
        return await self._api.read(Read(path="/version"), pve_decode.version)

    async def api_viewer(self) -> bytes:
        """The script with the data of PVE's API viewer, a file beside the API. Raises ReadFailed."""
        return (await self._api.get(Read(path="/pve-docs/api-viewer/apidoc.js", base=""))).body

    async def cluster(self, *, uptimes: bool = True) -> ClusterState:
        """Quorum and nodes; how long these are up is a second call. Raises ReadFailed."""
        status = Read(path="/cluster/status")
        answer = await self._api.get(status)
        nodes = (await self._api.get(Read(path="/nodes"))).body if uptimes else None
        return understood(status, answer, lambda body: pve_decode.cluster(body, nodes, answer.date_s))

    async def resources(self) -> tuple[ResourceRow, ...]:
        """All guests that the token may see (VM.Audit). Raises ReadFailed."""
        return await self._api.read(Read(path="/cluster/resources", params={"type": "vm"}), pve_decode.resources)

    async def sees_all_guests(self) -> bool:
        """Whether the token has VM.Audit on /vms and below, so that a guest not in `resources` is not there.

        An entry in PVE's access list for one guest may still hide that one. Raises ReadFailed.
        """
        return await self._permits("/vms", "VM.Audit", below=True)

    async def statuses(self, node: NodeName) -> Mapping[Vmid, Power]:
        """The live state of each guest of one node. Raises ReadFailed."""
        found: dict[Vmid, Power] = {}
        for guest in GuestType:
            read = Read(path=f"/nodes/{quoted(node)}/{guest.value}", node=node, daemon=True)
            found |= await self._api.read(read, pve_decode.statuses)
        return found

    async def config(self, node: NodeName, guest: GuestType, vmid: Vmid) -> ConfigRead:
        """One guest's config, with what waits for a restart, in one call. Raises Absent or ReadFailed.

        A server that leaves the digest out of its pending values is asked for the plain config too.
        """
        read = await self._api.read(_of_guest(node, guest, vmid, "pending"), pve_decode.config)
        if read.digest:
            return read
        plain = await self._api.read(_of_guest(node, guest, vmid, "config"), pve_decode.plain_config)
        return msgspec.structs.replace(plain, pending=read.pending)

    async def snapshots(self, node: NodeName, guest: GuestType, vmid: Vmid) -> tuple[Snapshot, ...]:
        """The guest's snapshots. Raises Absent or ReadFailed."""
        return await self._api.read(_of_guest(node, guest, vmid, "snapshot"), pve_decode.snapshots)

    async def backups(self, node: NodeName, storage: str) -> tuple[Backup, ...]:
        """The backups on one storage, as this node sees it. Raises ReadFailed."""
        path = f"/nodes/{quoted(node)}/storage/{quoted(storage)}/content"
        read = Read(path=path, params={"content": "backup"}, node=node, daemon=True)
        return await self._api.read(read, pve_decode.backups)

    async def shared_storages(self) -> frozenset[str]:
        """The storages whose volumes all nodes see. Raises ReadFailed."""
        read = Read(path="/cluster/resources", params={"type": "storage"})
        return await self._api.read(read, pve_decode.shared_storages)

    async def running(self, node: NodeName, guest: GuestType, vmid: Vmid) -> bool:
        """Whether the guest runs now. Raises Absent or ReadFailed."""
        return await self._api.read(_of_guest(node, guest, vmid, "status/current", daemon=True), pve_decode.running)

    async def tasks(self, node: NodeName, *, proven: bool = True) -> TaskList:
        """The whole task list of one node, all sources. Raises ReadFailed.

        `sees_all` holds only if the token had Sys.Audit both before and after the list was read. Where that need not
        be `proven`, it is not asked, and `sees_all` is false.
        """
        saw_all = self._saw_all_tasks.get(node) if proven else False
        if saw_all is None:
            saw_all = await self._sees_all_tasks(node)
        rows: dict[str, TaskRow] = {}
        unread_bytes = 0
        for number in range(TASK_PAGES_MAX):
            page = await self._api.read(_page(node, number), pve_decode.task_page)
            for row in page.rows:
                # A task may end between two pages and come again as a finished one.
                if row.upid.text not in rows or rows[row.upid.text].status == "RUNNING":
                    rows[row.upid.text] = row
            unread_bytes += page.unread_bytes
            if page.count < TASK_PAGE:
                break
        else:
            raise ReadFailed(what=f"the task list does not end after {TASK_PAGES_MAX} pages", where=f"node {node}")
        if proven:
            self._saw_all_tasks[node] = await self._sees_all_tasks(node)
        return TaskList(
            node=node,
            rows=tuple(rows.values()),
            sees_all=saw_all and self._saw_all_tasks[node],
            index_bytes=pve_decode.index_bytes(rows.values()) + unread_bytes,
        )

    async def active_tasks(self, node: NodeName) -> tuple[TaskRow, ...]:
        """The node's tasks that are not archived yet, in one call. Raises ReadFailed."""
        params = {"source": "active", "limit": str(TASK_PAGE)}
        read = Read(path=f"/nodes/{quoted(node)}/tasks", params=params, node=node)
        return (await self._api.read(read, pve_decode.task_page)).rows

    async def task(self, upid: Upid) -> TaskState | None:
        """The state of one task, asked on the node of its UPID; None = "no such task". Raises ReadFailed."""
        path = f"/nodes/{quoted(upid.node)}/tasks/{quoted(upid.text)}/status"
        read = Read(path=path, node=upid.node, daemon=True)
        answer = await self._api.ask(read)
        if answer.status == OK:
            return understood(read, answer, pve_decode.task)
        _, errors = pve_decode.failure(answer.body)
        if answers.says_no_such_task(answer.status, errors):
            return None
        raise read_failed(read, answer)

    async def _sees_all_tasks(self, node: NodeName) -> bool:
        try:
            return await self._permits(f"/nodes/{node}", "Sys.Audit", below=False)
        except ReadFailed:
            return False

    async def _permits(self, path: str, privilege: str, *, below: bool) -> bool:
        read = Read(path="/access/permissions", params={"path": path})
        answer = await self._api.ask(read)
        if answer.status in _NOT_KNOWN:
            return False
        if answer.status != OK:
            raise read_failed(read, answer)
        return understood(read, answer, lambda body: pve_decode.permits(body, path, privilege, below=below))


def _of_guest(node: NodeName, guest: GuestType, vmid: Vmid, what: str, *, daemon: bool = False) -> Read:
    return Read(path=f"/nodes/{quoted(node)}/{guest.value}/{vmid}/{what}", node=node, daemon=daemon)


def _page(node: NodeName, number: int) -> Read:
    """`source=all`: PVE's default are finished tasks only. `limit=0` would be none, and 50 is PVE's default."""
    params = {"source": "all", "limit": str(TASK_PAGE), "start": str(number * TASK_PAGE)}
    return Read(path=f"/nodes/{quoted(node)}/tasks", params=params, node=node)

"""Looking at the guest that a request means, before it is let in: what was seen, or why nothing is known."""

import msgspec

from trueup.core import one_shots, tasksearch
from trueup.core.gate_params import accepted_intent, planned
from trueup.engine.observer import Observer
from trueup.model.errors import ReadFailed
from trueup.model.gate import Request
from trueup.model.gate_answers import GateRefused, Sighting
from trueup.model.guests import Observed
from trueup.model.ids import GuestType, Vmid
from trueup.model.ops import OpState
from trueup.ports import JournalReader, Pve


async def look(pve: Pve, journal: JournalReader, request: Request) -> Sighting:
    """Read the target of a request; for a container also whether somebody may have made it anew."""
    try:
        guest = await _guest(pve, request.target.vmid)
        if guest is None:
            gone = await pve.sees_all_guests()
            return Sighting(gone=gone, unreadable="" if gone else "not all guests are listed (VM.Audit on /vms)")
    except ReadFailed as error:
        return Sighting(unreadable=error.what)
    if guest.type is not GuestType.LXC:
        return Sighting(guest=guest)
    try:
        return await _container(pve, journal, request, guest)
    except ReadFailed as error:
        return Sighting(guest=guest, unreadable=error.what)


async def _guest(pve: Pve, vmid: Vmid) -> Observed | None:
    row = next((row for row in await pve.resources() if row.vmid == vmid), None)
    return None if row is None else await Observer(pve).one(row)


async def _container(pve: Pve, journal: JournalReader, request: Request, guest: Observed) -> Sighting:
    """A container has no identity of PVE's own: the nodes' task lists say whether it is still the same."""
    try:
        intent = accepted_intent(planned(request, guest), guest, pve.token, {})
    except GateRefused:
        return Sighting(guest=guest)  # it is refused for its kind or its params
    since_ms = request.not_before_ms
    known = frozenset(
        op.upid
        for op in await journal.ops(vmid=guest.vmid)
        if op.upid and op.state is OpState.SUCCEEDED and op.ended_at_ms <= since_ms
    )
    since = msgspec.structs.replace(intent, sent_not_before_s=since_ms // 1000)
    for node in (await pve.cluster()).nodes:
        if not node.online:
            return Sighting(guest=guest, unreadable=f"{node.name} is offline")
        listed = await pve.tasks(node.name)
        if not (listed.sees_all and tasksearch.reaches_back(since, listed)):
            return Sighting(guest=guest, unreadable=f"the task list of {node.name} does not reach back (Sys.Audit)")
        row = one_shots.made_since(guest.vmid, listed.rows, since_ms, known)
        if row is not None:
            return Sighting(guest=guest, remade=f"see task {row.upid.text}")
    return Sighting(guest=guest)

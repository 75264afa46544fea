"""Which guests are imported, and whether the manifest that would be written means the guest that is there.

Rule kept here: a manifest is only written if a plan of it is empty. A key for which that does not hold is left out and
told; a guest for which it cannot hold at all is not written, and told with what to do about it.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from trueup.adapters import manifest_writer
from trueup.adapters.manifests import Manifests
from trueup.core import obstacles, planner
from trueup.core.plan_context import Context
from trueup.engine import importing
from trueup.engine.importing import Portrait
from trueup.engine.observer import Observer, World
from trueup.model.errors import BadInput
from trueup.model.guests import Observed, ResourceRow
from trueup.model.ids import NodeName, Vmid
from trueup.ports import Pve

_TRIES = 32
"""Keys of one guest that may turn out not to be writable before it is given up."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the person asked for: these guests, or all, each narrowed down by tag and node ('' = any)."""

    vmids: tuple[Vmid, ...] = ()
    tag: str = ""
    node: str = ""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One guest with its document and the group (node or tag) whose file it goes into."""

    seen: Observed
    document: str
    group: str
    notes: tuple[str, ...] = ()


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """One guest that gets no manifest, and why. `fine`: there is nothing to be done about it."""

    vmid: Vmid
    name: str
    why: str
    fine: bool = False


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What would be written, and what not."""

    written: tuple[Written, ...] = ()
    skipped: tuple[Skipped, ...] = ()


async def look(pve: Pve, manifests: Manifests, wish: Wish) -> Import:
    """Read the guests and describe them. Raises ReadFailed, or BadInput for a guest that is not there."""
    observer = Observer(pve)
    rows = await observer.rows()
    _require_there(rows, wish)
    skipped = [_declared(row, manifests) for row in _wanted(rows, wish) if row.vmid in manifests.places]
    close = {row.vmid: row for row in _wanted(rows, wish) if row.vmid not in manifests.places}
    world = await observer.world(close)
    written: list[Written] = []
    names = {want.name.lower(): want.vmid for want in manifests.guests}
    for vmid, row in sorted(close.items()):
        seen = world.guests.get(vmid)
        if seen is None:
            why = f"it cannot be read: {world.unread.get(vmid, 'it is gone')}"
            skipped.append(Skipped(vmid=vmid, name=row.name, why=why))
            continue
        if wish.tag and wish.tag not in seen.config.get("tags", "").split(";"):
            continue
        found = _describe(seen, world, wish, names)
        if isinstance(found, Written):
            names[seen.name.lower()] = vmid
            written.append(found)
        else:
            skipped.append(found)
    return Import(written=tuple(written), skipped=tuple(sorted(skipped, key=lambda one: one.vmid)))


def _wanted(rows: Mapping[Vmid, ResourceRow], wish: Wish) -> list[ResourceRow]:
    chosen = [rows[vmid] for vmid in dict.fromkeys(wish.vmids)] if wish.vmids else list(rows.values())
    return [row for row in chosen if wish.node in {"", row.node}]


def _require_there(rows: Collection[Vmid], wish: Wish) -> None:
    missing = [str(vmid) for vmid in wish.vmids if vmid not in rows]
    if missing:
        raise BadInput(
            what=f"there is no guest {', '.join(missing)}, or the token may not see it",
            remedy="the token needs VM.Audit on /vms",
        )


def _declared(row: ResourceRow, manifests: Manifests) -> Skipped:
    why = f"it is declared already, at {manifests.where(row.vmid)}"
    return Skipped(vmid=row.vmid, name=row.name, why=why, fine=True)


def _describe(seen: Observed, world: World, wish: Wish, names: Mapping[str, Vmid]) -> Written | Skipped:
    if seen.lock in obstacles.HALF_MADE:
        return Skipped(vmid=seen.vmid, name=seen.name, why=f"it is being made ({seen.lock}): import it afterwards")
    other = names.get(seen.name.lower())
    if other is not None:
        why = f"its name is already that of guest {other}: rename one of them in PVE, then import it"
        return Skipped(vmid=seen.vmid, name=seen.name, why=why)
    whole = importing.portrait(seen, world.rows.keys())
    nodes = {node.name: True for node in world.cluster.nodes}
    for _ in range(_TRIES):
        text = manifest_writer.render(whole.desired, whole.notes)
        better = _checked(whole, text, seen, nodes)
        if better is None:
            return Written(seen=seen, document=text, group=wish.tag or seen.node, notes=whole.notes)
        if isinstance(better, str):
            return Skipped(vmid=seen.vmid, name=seen.name, why=better)
        whole = better
    return Skipped(vmid=seen.vmid, name=seen.name, why="too many of its values cannot stand in a manifest")


def _checked(whole: Portrait, text: str, seen: Observed, nodes: Mapping[NodeName, bool]) -> Portrait | str | None:
    """None if the text means this guest; else the portrait without what does not fit, or why there can be none."""
    reading = manifest_writer.read_back(text)
    for key, why in reading.refused.items():
        return importing.without(whole, key, why)
    if reading.desired is None:
        return reading.problem or "it cannot be written as a manifest"
    context = Context(installation="", nodes=nodes)
    (plan,) = planner.plan([reading.desired], {seen.vmid: seen}, context).guests
    for diff in plan.diff:
        if diff.key in whole.desired.config or diff.key == "description":
            return importing.without(whole, diff.key, f"PVE has {diff.was!r}, which a manifest cannot say")
        what = f"{diff.key} would be changed from {diff.was!r} to {diff.want!r}"
        return f"{what}: give it {diff.key} {diff.want!r} in PVE, then import it" if diff.key == "name" else what
    return None


def groups(written: Sequence[Written]) -> dict[str, list[Written]]:
    """The guests of each file to be, in order."""
    found: dict[str, list[Written]] = {}
    for one in written:
        found.setdefault(one.group, []).append(one)
    return dict(sorted(found.items()))

"""How a guest that does not exist comes into being: empty, from a container template, cloned, or from a backup.

Starting is an operation of its own: PVE's `start=1` would fork a second task. A clone first becomes what its source
is, and the rest follows as config writes and growth; what cloning can never give is refused before anything is made.
"""

import re
from collections.abc import Mapping

import msgspec

from trueup.core import disks, obstacles, properties
from trueup.core.plan_config import (
    ConfigChange,
    config_change,
    name_key,
    refuse_others_volume,
    reserved,
    wanted_description,
    wanted_keys,
)
from trueup.core.plan_context import Context
from trueup.core.plan_part import planned
from trueup.core.properties import Wanted
from trueup.core.property_formats import ONLY_AT_CREATION_KEYS
from trueup.model.errors import BadInput
from trueup.model.guests import Archive, Clone, ContainerTemplate, Desired, Empty, Identity, Observed, Power, Source
from trueup.model.ids import Digest, GuestType, NodeName, Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Diff, PlannedOp

_CLONE_TAKES = frozenset({"bwlimit", "pool"})
"""Parameters of a manifest's config that PVE's clone call takes as well."""

_ARCHIVE_OF = {
    GuestType.QEMU: re.compile(r"(?:.*/)?vzdump-qemu-|backup/vm/"),
    GuestType.LXC: re.compile(r"(?:.*/)?vzdump-(?:lxc|openvz)-|backup/ct/"),
}
"""How a backup's name tells what is in it (pve-storage, Plugin and PBSPlugin)."""


class Creation(msgspec.Struct, frozen=True, kw_only=True):
    """How a guest is made.

    `op` is None where it cannot be: `impossible` then says why. `follows` is what has to be changed after a clone;
    `nodes` have to be online.
    """

    op: PlannedOp | None = None
    diff: tuple[Diff, ...] = ()
    follows: ConfigChange = ConfigChange()
    nodes: tuple[NodeName, ...] = ()
    impossible: str = ""
    unsupported: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def creation(
    want: Desired, observed: Mapping[Vmid, Observed], context: Context, source_to_be: Desired | None = None
) -> Creation:
    """Plan how the guest comes into being. `source_to_be` is the manifest of a clone source that does not exist yet."""
    if source_to_be is not None and isinstance(want.source, Clone):
        made = _future_clone(want, want.source, source_to_be)
    else:
        made = _by_source(want, observed, context)
    why = "it existed before and is gone" if want.vmid in context.adopted else "it does not exist yet"
    first = Diff(key="guest", was="", want=_describe(want.source), why=why)
    return msgspec.structs.replace(made, diff=(first, *made.diff))


def _by_source(want: Desired, observed: Mapping[Vmid, Observed], context: Context) -> Creation:
    match want.source:
        case Archive(volume=volume):
            return _restore(want, volume)
        case Clone(source=source):
            return _clone(want, observed.get(source), want.source, context)
        case ContainerTemplate(volume=volume):
            if want.type is not GuestType.LXC:
                return Creation(impossible=f"{want.origin}: only containers are made from a container template")
            return _create(want, {"ostemplate": volume})
        case Empty():
            if want.type is GuestType.LXC:
                return Creation(
                    impossible=f"{want.origin}: a container needs a source (`source: {{template: …}}` or a clone)"
                )
            return _create(want, {})


def _describe(source: Source) -> str:
    match source:
        case Empty():
            return "new, empty"
        case Clone(source=vmid, full=full):
            return f"{'full' if full else 'linked'} clone of {vmid}"
        case ContainerTemplate(volume=volume):
            return f"new, from {volume}"
        case Archive(volume=volume):
            return f"restored from {volume}"


def _create(want: Desired, source: Mapping[str, str]) -> Creation:
    return _made(want, Kind.CREATE, source, wanted_keys(want))


def _restore(want: Desired, volume: str) -> Creation:
    """PVE takes the config's keys with the restore and lets them win, but for disks: those come out of the archive."""
    inside = volume.partition(":")[2]
    other = next((kind for kind, name in _ARCHIVE_OF.items() if name.match(inside) and kind is not want.type), None)
    if other is not None:
        return Creation(impossible=f"{want.origin}: {volume} is the backup of a {other.value} guest")
    source = {"archive" if want.type is GuestType.QEMU else "ostemplate": volume}
    storages = _storages(want)
    if len(storages) == 1:
        source["storage"] = storages.pop()
    given = {key: value for key, value in wanted_keys(want).items() if not properties.is_disk(want.type, key)}
    made = _made(want, Kind.RESTORE_NEW, source, given)
    note = "its disks come from the backup; what the manifest says of them is compared once they are there"
    return msgspec.structs.replace(made, notes=(note,) if len(given) < len(wanted_keys(want)) else ())


def _made(want: Desired, kind: Kind, source: Mapping[str, str], given: Mapping[str, Wanted]) -> Creation:
    params: dict[str, str] = {**source, **_in_pool(want)}
    diff: list[Diff] = []
    try:
        for key, value in given.items():
            refuse_others_volume(want, key, value)
            text = properties.render_create(want.type, key, value)
            if text:
                params[key] = text
                diff.append(Diff(key=key, was="", want=properties.show(key, value), why="given at its creation"))
    except BadInput as error:
        return Creation(impossible=str(BadInput(what=error.what, where=want.origin, remedy=error.remedy)))
    op = planned(want, want.node, kind, params, {})
    return Creation(
        op=msgspec.structs.replace(op, description=wanted_description(want) or ""),
        diff=tuple(diff),
        nodes=(want.node,),
        unsupported=reserved(want),
    )


def _in_pool(want: Desired) -> dict[str, str]:
    """PVE puts a new guest into its pool by the same call, which is also where a token may have its rights."""
    return {"pool": want.pool} if want.pool else {}


def _storages(want: Desired) -> set[str]:
    """The storages that the manifest names for its disks."""
    found = [
        disks.wanted(want.type, key, value) for key, value in want.config.items() if properties.is_disk(want.type, key)
    ]
    return {disk.storage for disk in found if disk.storage and not disk.cdrom}


def _clone(want: Desired, source: Observed | None, how: Clone, context: Context) -> Creation:
    impossible = _unfit(want, source, how, context)
    if source is None or impossible:
        return Creation(impossible=impossible)
    storage = _other_storage(want, source)
    if storage and not how.full:
        return Creation(impossible=f"{want.origin}: a linked clone stays on its template's storage, not on {storage}")
    follows = config_change(want, _after_clone(want, source, storage), context)
    if follows.impossible or follows.approvals:
        why = follows.impossible or "; ".join(approval.why for approval in follows.approvals)
        return Creation(impossible=f"cloning {source.vmid} cannot give that: {why}")
    moved = source.node != want.node
    local = moved and _on_local_storage(want, source, storage, context)
    if local and not how.full:
        return Creation(
            impossible=f"{want.origin}: a linked clone of {source.vmid} stays on {source.node}, where its disks are"
        )
    text = wanted_description(want)
    op = _clone_op(
        want, source, how, {"storage": storage} if storage else {}, source.description if text is None else text
    )
    return Creation(
        op=_cloned_there(op, source) if local else op,
        diff=tuple(msgspec.structs.replace(diff, why=f"{source.vmid} has it differently") for diff in follows.diff),
        follows=follows,
        nodes=(source.node, want.node) if moved else (want.node,),
        unsupported=(*follows.unsupported, *_never_cloned(want)),
        notes=_on_the_way(want, source, context, local=local) if moved else (),
    )


def _on_local_storage(want: Desired, source: Observed, storage: str, context: Context) -> bool:
    """Whether the clone's disks would lie where only the source's node sees them; False if that was not asked."""
    if context.shared is None:
        return False
    found = [
        disks.seen(want.type, key, text) for key, text in source.config.items() if properties.is_disk(want.type, key)
    ]
    used = {disk.storage for disk in found if disk.storage and not disk.cdrom}
    return bool((used | ({storage} if storage else set[str]())) - context.shared)


def _cloned_there(op: PlannedOp, source: Observed) -> PlannedOp:
    """PVE clones to other nodes on shared storage only; so it is made beside its source, and moved before it starts."""
    params = {key: value for key, value in op.params.items() if key != "target"}
    return msgspec.structs.replace(op, node=source.node, params=params)


def _on_the_way(want: Desired, source: Observed, context: Context, *, local: bool) -> tuple[str, ...]:
    if local:
        return (f"its disks are local to {source.node}: it is cloned there, and then moved to {want.node}",)
    if context.shared is None:
        return (f"a clone to {want.node} needs shared storage: its source is on {source.node}",)
    return ()


def _future_clone(want: Desired, how: Clone, source: Desired) -> Creation:
    """A clone of a guest that a manifest declares and that is not there yet: shown now, planned closely later."""
    op = _clone_op(want, source, how, {}, wanted_description(want) or "")
    return Creation(op=op, nodes=tuple(dict.fromkeys((source.node, want.node))), unsupported=reserved(want))


def _clone_op(
    want: Desired, source: Observed | Desired, how: Clone, more: Mapping[str, str], description: str
) -> PlannedOp:
    params = {"newid": str(want.vmid), "full": "1" if how.full else "0", name_key(want.type): want.name, **more}
    params |= _in_pool(want)
    if source.node != want.node:
        params["target"] = want.node
    params |= {key: value for key in _CLONE_TAKES if isinstance(value := want.config.get(key), str)}
    return PlannedOp(
        kind=Kind.CLONE,
        type=want.type,
        vmid=want.vmid,
        node=want.node,
        name=want.name,
        params=params,
        description=description,
        source=source.vmid,
        source_node=source.node,
        source_type=source.type,
        labels=want.labels,
    )


def _unfit(want: Desired, source: Observed | None, how: Clone, context: Context) -> str:
    """Why this source cannot be cloned now; '' if it can."""
    if source is None:
        why = context.unread.get(how.source)
        if why:
            return f"its clone source {how.source} cannot be read: {why}"
        return (
            f"its clone source {how.source} does not exist, or the token may not see it "
            "(it needs VM.Audit and VM.Clone there)"
        )
    this = f"its clone source {how.source} ({source.name!r})"
    if source.type is not want.type:
        return f"{this} is a {source.type.value} guest, this one is to be {want.type.value}"
    if source.lock:
        return f"{this} is not free: {obstacles.lock(source)}"
    if how.source in context.closed:
        return f"{this} is not free: {context.closed[how.source]}"
    if source.template:
        return ""
    if not how.full:
        return f"{this} is no template, and only templates have linked clones (make it one, or set `full: true`)"
    if source.status is not Power.STOPPED:
        return f"{this} is {source.status.value} (shut it down, or make it a template)"
    return ""


def _other_storage(want: Desired, source: Observed) -> str:
    """The storage that a full clone has to be made on, if the manifest wants its disks elsewhere than the source's.

    PVE takes one storage for all disks. Where several are wanted, the comparison afterwards finds what is wrong.
    """
    wanted: set[str] = set()
    differs = False
    for key, value in want.config.items():
        have = source.config.get(key)
        if have is None or not properties.is_disk(want.type, key):
            continue
        new, old = disks.wanted(want.type, key, value), disks.seen(want.type, key, have)
        if new.storage and not new.cdrom and not old.cdrom:
            wanted.add(new.storage)
            differs = differs or new.storage != old.storage
    return wanted.pop() if differs and len(wanted) == 1 else ""


def _never_cloned(want: Desired) -> tuple[str, ...]:
    given = (ONLY_AT_CREATION_KEYS[want.type] & set(want.config)) - _CLONE_TAKES
    return tuple(f"config.{key} is left out: a clone does not take it" for key in sorted(given))


_VOLUME_NAME = re.compile(r"(?:[0-9]+/)?(?:vm|base|subvol|basevol)-[0-9]+-")


def _after_clone(want: Desired, source: Observed, storage: str) -> Observed:
    """The clone as it will be: its source's config, with new MAC addresses and volumes of its own."""
    config: dict[str, str] = {}
    for key, value in source.config.items():
        if key.startswith("unused"):
            continue
        if properties.is_net(want.type, key):
            parts = properties.parse(want.type, key, value)
            config[key] = value if parts is None else properties.render_map(want.type, key, _without_mac(parts))
        elif properties.is_disk(want.type, key):
            config[key] = _cloned_volume(want, key, value, storage)
        else:
            config[key] = value
    text = wanted_description(want)
    return msgspec.structs.replace(
        source,
        vmid=want.vmid,
        node=want.node,
        name=want.name,
        status=Power.STOPPED,
        template=False,
        config={**config, name_key(want.type): want.name},
        pending=(),
        description=source.description if text is None else text,
        digest=Digest(""),
        marker=None,
        ha="",
        identity=Identity(),
    )


def _without_mac(parts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in parts.items() if name not in {"macaddr", "hwaddr"}}


def _cloned_volume(want: Desired, key: str, have: str, storage: str) -> str:
    disk = disks.seen(want.type, key, have)
    where, _, volume = disk.volume.partition(":")
    if not volume or (disk.cdrom and not disk.cloudinit) or disk.volume.startswith("/"):
        return have
    name = _VOLUME_NAME.sub(f"vm-{want.vmid}-", volume)
    return have.replace(disk.volume, f"{storage if storage and not disk.cdrom else where}:{name}", 1)

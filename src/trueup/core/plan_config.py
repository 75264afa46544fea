"""How a guest's config differs from its manifest, field by field, and what mends each difference.

A value is written, a disk grown or taken off, its volume staying; what would lose data is never planned but needs an
approval: a disk that must be smaller or lie elsewhere, and what PVE can only give to a new guest.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from trueup.core import disks, properties
from trueup.core import marker as markers
from trueup.core.plan_context import Context
from trueup.core.properties import Wanted
from trueup.core.property_formats import ONLY_AT_CREATION_KEYS, RESERVED_KEYS
from trueup.model.errors import BadInput
from trueup.model.guests import Desired, Observed, Power, Restart
from trueup.model.ids import GuestType, Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Approval, Diff

NO_RESTART = "the manifest does not allow trueup to restart it"


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What mends a config.

    `params` and `goal` are those of one configure; `grows` maps disks to absolute sizes; `detaches` are disks that go
    while their volumes stay; `impossible` is why the manifest cannot be carried out at all.
    """

    diff: tuple[Diff, ...] = ()
    params: Mapping[str, str] = {}
    goal: Mapping[str, str] = {}
    description: str | None = None
    grows: Mapping[str, str] = {}
    detaches: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    unsupported: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    impossible: str = ""

    @property
    def writes(self) -> bool:
        """Whether a configure is needed."""
        return bool(self.params) or self.description is not None


class _Field(msgspec.Struct, frozen=True, kw_only=True):
    """One key's difference. `write` is the value to send ('' = delete), None where no write mends it."""

    key: str
    diff: Diff
    write: str | None = None
    grow: str = ""
    detach: bool = False
    approval: Approval | None = None


def config_change(want: Desired, seen: Observed, context: Context) -> ConfigChange:
    """Compare the manifest's keys with the config that PVE shows, pending changes applied."""
    fields: list[_Field] = []
    try:
        for key, value in wanted_keys(want).items():
            if (key == "protection" and want.vmid in context.fenced) or ignored(want, key):
                continue
            fields.extend(_field(want, seen, key, value))
    except BadInput as error:
        return ConfigChange(impossible=str(BadInput(what=error.what, where=want.origin, remedy=error.remedy)))
    text, text_diff = _description(want, seen)
    written = {field.key: field.write for field in fields if field.write is not None}
    deleted = [key for key, value in written.items() if not value]
    params = {key: value for key, value in written.items() if value}
    return ConfigChange(
        diff=(*(field.diff for field in fields), *text_diff),
        params={**params, "delete": ",".join(deleted)} if deleted else params,
        goal={key: properties.MASK if value and properties.is_secret(key) else value for key, value in written.items()},
        description=text,
        grows={field.key: field.grow for field in fields if field.grow},
        detaches=tuple(field.key for field in fields if field.detach),
        approvals=_once([field.approval for field in fields if field.approval is not None]),
        unsupported=reserved(want),
        notes=_notes(want, context),
    )


def wanted_keys(want: Desired) -> Mapping[str, Wanted]:
    """The config keys that the manifest gives, with the guest's name; without those that are no config of a guest."""
    keys: dict[str, Wanted] = {name_key(want.type): want.name}
    keys.update({key: value for key, value in want.config.items() if key not in RESERVED_KEYS})
    return keys


def ignored(want: Desired, key: str) -> bool:
    """Whether the manifest tells to leave differences of this key alone."""
    return any(fnmatchcase(key, pattern) for pattern in want.ignore)


def waits_for_restart(want: Desired, seen: Observed) -> tuple[str, ...]:
    """The manifest's keys whose new value PVE keeps back until the guest restarts."""
    return tuple(key for key in wanted_keys(want) if key in seen.pending and not ignored(want, key))


def refuse_others_volume(want: Desired, key: str, value: Wanted) -> None:
    """A volume that the manifest names must be this guest's own: PVE would take it from under another one.

    Raises:
        BadInput: by its name, the volume is another guest's.
    """
    if not properties.is_disk(want.type, key):
        return
    volume = disks.wanted(want.type, key, value).volume
    owner = _OWNER.match(volume.rpartition(":")[2].rpartition("/")[2])
    if owner is not None and int(owner[1]) != want.vmid:
        remedy = (
            f"hand it over: `qm disk move {owner[1]} DISK --target-vmid {want.vmid}`, then write its new name"
            if want.type is GuestType.QEMU
            else f"hand it over: `pct move-volume {owner[1]} VOLUME --target-vmid {want.vmid}`, then write its new name"
        )
        raise BadInput(what=f"{key}: volume {volume} is guest {owner[1]}'s", remedy=remedy)


def reserved(want: Desired) -> tuple[str, ...]:
    """Keys in the manifest's config that are not a config's to give, for the plan's `unsupported`."""
    fine = {"description", *(key for key in ("name", "hostname") if want.config.get(key) == want.name)}
    given = [key for key in want.config if key in RESERVED_KEYS and key not in fine]
    return tuple(f"config.{key} is left out: it is no value that a manifest can give" for key in given)


def wanted_description(want: Desired) -> str | None:
    """The user's text, from the manifest or from its config; None if it gives none."""
    if want.description is not None:
        return markers.clean(want.description)
    text = want.config.get("description")
    return markers.clean(text) if isinstance(text, str) else None


def name_key(guest_type: GuestType) -> str:
    """The config key that holds a guest's name."""
    return "name" if guest_type is GuestType.QEMU else "hostname"


def rebuild(vmid: Vmid, why: str) -> Approval:
    """Only a new guest can have it: the old one has to be destroyed by a signed request."""
    return Approval(
        kind=Kind.DESTROY,
        why=f"{why}: only a new guest can have that",
        command=f"trueup request destroy {vmid}",
    )


_OWNER = re.compile(r"(?:vm|base|subvol|basevol)-([0-9]+)-")


def _field(want: Desired, seen: Observed, key: str, value: Wanted) -> list[_Field]:
    have = seen.config.get(key)
    if key == name_key(want.type) and have is None:
        have = seen.name or None
    if key in ONLY_AT_CREATION_KEYS[want.type] or properties.satisfied(want.type, key, value, have):
        return []
    if properties.is_disk(want.type, key) and have is not None:
        return _disk(want, seen, key, value)
    if key == "unprivileged" and want.type is GuestType.LXC:
        why = "PVE cannot change a container's `unprivileged`"
        return [_Field(key=key, diff=_diff(want, seen, key, value, why), approval=rebuild(want.vmid, why))]
    gone = properties.is_gone(value)
    if have is None:
        refuse_others_volume(want, key, value)
    what = "the manifest takes it away" if gone else "not set" if have is None else "differs from the manifest"
    why = f"{what}; {_takes_effect(want, seen, key)}"
    write = "" if gone else properties.render_update(want.type, key, value, have)
    return [_Field(key=key, diff=_diff(want, seen, key, value, why), write=write)]


def _disk(want: Desired, seen: Observed, key: str, value: Wanted) -> list[_Field]:
    """A disk that is there: options are written, growth is an operation of its own, the rest needs an approval."""
    have = seen.config[key]
    old = disks.seen(want.type, key, have)
    if properties.is_gone(value) and not old.cdrom and key != "rootfs" and not _protected(seen):
        why = (
            f"the manifest takes the disk away; {old.volume} stays, as an unused disk; {_takes_effect(want, seen, key)}"
        )
        return [_Field(key=key, diff=_diff(want, seen, key, value, why), detach=True)]
    lost = _loses_disk(want, key, value, have)
    if lost:
        gone = _remove_disk(want, key, lost)
        return [_Field(key=key, diff=_diff(want, seen, key, value, f"{lost}; needs approval"), approval=gone)]
    if old.cdrom and not disks.wanted(want.type, key, value).cdrom:
        why = f"replaces a CD-ROM drive; {_takes_effect(want, seen, key)}"
        write = properties.render_create(want.type, key, value)
        return [_Field(key=key, diff=_diff(want, seen, key, value, why), write=write)]
    found: list[_Field] = []
    if not disks.same_volume(want.type, key, value, have):
        why = f"differs from the manifest; {_takes_effect(want, seen, key)}"
        write = properties.render_update(want.type, key, value, have)
        found.append(_Field(key=key, diff=_diff(want, seen, key, value, why), write=write))
    if disks.size_change(want.type, key, value, have) > 0:
        size = disks.format_size(properties.wanted_size(want.type, key, value) or 0)
        was = disks.format_size(properties.disk_size(have) or 0)
        diff = Diff(key=key, was=was, want=size, why="smaller than the manifest wants; it grows at once")
        found.append(_Field(key=key, diff=diff, grow=size))
    return found


def _loses_disk(want: Desired, key: str, value: Wanted, have: str) -> str:
    """Why the disk that is there cannot stay; '' if it can. A CD-ROM's medium is no loss."""
    old = disks.seen(want.type, key, have)
    if properties.is_gone(value):
        return "" if old.cdrom else _taken_away(key)
    if old.cdrom:
        return ""
    if not disks.same_place(want.type, key, value, have):
        return f"the disk is {old.volume}, which the manifest wants elsewhere; trueup does not move disks"
    if disks.size_change(want.type, key, value, have) < 0:
        return f"the disk has {disks.format_size(old.size or 0)}, and PVE cannot shrink it"
    return ""


def _taken_away(key: str) -> str:
    if key == "rootfs":
        return "the manifest takes the disk away"
    return "the manifest takes the disk away, and PVE takes none off a guest with `protection`"


def _protected(seen: Observed) -> bool:
    return seen.config.get("protection") == "1"


def _remove_disk(want: Desired, key: str, why: str) -> Approval:
    if key == "rootfs":
        return rebuild(want.vmid, why)
    return Approval(
        kind=Kind.DISK_REMOVE,
        why=f"{key}: {why}",
        command=f"trueup request disk-remove {want.vmid} --param disk={key}",
    )


def _description(want: Desired, seen: Observed) -> tuple[str | None, tuple[Diff, ...]]:
    text = wanted_description(want)
    have = markers.clean(seen.description)
    if text is None or text == have:
        return None, ()
    return text, (Diff(key="description", was=have, want=text, why="differs from the manifest; applies at once"),)


def _diff(want: Desired, seen: Observed, key: str, value: Wanted, why: str) -> Diff:
    have = seen.config.get(key, seen.name if key == name_key(want.type) else "")
    was = properties.MASK if have and properties.is_secret(key) else have
    return Diff(key=key, was=was, want=properties.show(key, value), why=why)


_AT_ONCE: Mapping[GuestType, re.Pattern[str]] = {
    GuestType.QEMU: re.compile(
        r"name|tags|onboot|startup|protection|hookscript|shares|cpuunits|cpulimit|affinity|balloon|hotplug|tablet"
        r"|migrate_\w+|vmstatestorage|net[0-9]+|usb[0-9]+|(?:scsi|virtio|sata|ide|unused)[0-9]+"
    ),
    GuestType.LXC: re.compile(
        r"hostname|tags|onboot|startup|protection|hookscript|cores|cpuunits|cpulimit|memory|swap|net[0-9]+"
        r"|(?:mp|unused)[0-9]+"
    ),
}
"""Keys that PVE changes in a running guest, with its default hotplug settings (qemu-server and pve-container)."""


def _takes_effect(want: Desired, seen: Observed, key: str) -> str:
    if seen.status is not Power.RUNNING:
        return "applies at the next start"
    if _AT_ONCE[want.type].fullmatch(key):
        return "applies at once"
    if want.restart == Restart.NEVER:
        return f"takes effect at the next restart; {NO_RESTART}"
    when = "at once" if want.restart == Restart.ALLOWED else f"in its window, {want.restart}"
    return f"takes effect at the next restart, which follows {when} if PVE needs it"


def _notes(want: Desired, context: Context) -> tuple[str, ...]:
    if want.vmid in context.fenced and "protection" in want.config:
        return ("protection stays on: it stops a request of an earlier agent that may still arrive",)
    return ()


def _once(approvals: list[Approval]) -> tuple[Approval, ...]:
    """One rebuild is enough, whatever asks for it."""
    by_command: dict[str, Approval] = {}
    for approval in approvals:
        by_command.setdefault(approval.command, approval)
    return tuple(by_command.values())

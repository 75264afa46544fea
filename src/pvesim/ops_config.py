"""Changes of a guest's config.

Rule kept here: a write happens under the guest's lock file, after lock and digest were looked at; a running VM
takes at once what can be plugged in while it runs, and keeps the rest pending.
"""

from __future__ import annotations

import re

from pvesim.allocation import Filling, check_storages, fill, is_volume_key, unlogged
from pvesim.config_rights import need as need_rights
from pvesim.guest_options import known_option
from pvesim.guests import Guest, Hand, keep_unused
from pvesim.kernel import Steps, join, sleep
from pvesim.machine import Call, Machine
from pvesim.properties import UNUSED, file_of, is_cdrom, lookup, without_boot_device
from pvesim.texts import Config, clean_tags
from pvesim.wire import Json, bad_parameters, died
from pvesim.workers import Job, Work, daemon_flock, flock_key, fork, release, reloaded

QEMU_STALE = "checksum mismatch (file change by other user?)"
LXC_STALE = "detected modified configuration - file changed by other user? Try again."
SYNC_S = 0.008
ROOT_ONLY_OPTIONS = ("lock", "args", "hookscript")
CONFIG_S = 0.2
DISK_S = 1.0
NOT_OPTIONS = frozenset({"digest", "delete", "revert", "skiplock", "force", "background_delay", "node", "vmid"})
PLUGGED = re.compile(
    r"^(name|description|tags|onboot|protection|startup|shares|balloon|cpulimit|cpuunits|migrate_.*"
    r"|net\d+|scsi\d+|virtio\d+|unused\d+|ide2|ipconfig\d+|ci[a-z]+|nameserver|searchdomain|sshkeys|lock"
    r"|vmstatestorage)$"
)
LXC_REFUSED_WHILE_RUNNING = re.compile(r"^(rootfs|arch|ostype|unprivileged|features|cmode|console|tty)$")


class Change:
    """What a request wants changed."""

    def __init__(self, call: Call) -> None:
        """Read the parameters and check them against each other."""
        kind, params = call.guest_type, call.params
        self.digest = params.get("digest", "")
        self.delete = [name for name in re.split(r"[;, ]+", params.get("delete", "")) if name]
        self.revert = [name for name in re.split(r"[;, ]+", params.get("revert", "")) if name]
        self.values = {key: value for key, value in params.items() if key not in NOT_OPTIONS}
        self.force = params.get("force") == "1"
        if not self.values and not self.delete and not self.revert:
            raise died("no options specified")
        for name in ROOT_ONLY_OPTIONS:
            if name in self.values or name in self.delete:
                raise died(f"only root can set '{name}' config")
        for name in self.delete:
            if name in self.values:
                raise bad_parameters({"delete": f"you can't use '-{name}' and -delete {name}' at the same time"})
            if not known_option(kind, name):
                raise bad_parameters({"delete": f"unknown option '{name}'"})
        if "tags" in self.values:
            self.values["tags"] = clean_tags(self.values["tags"])
        need_rights(call.who, (kind, call.vmid, None), self.values, [*self.values, *self.delete, *self.revert])


def put(m: Machine, call: Call) -> Steps[Json]:
    """PUT config: everything happens before the answer."""
    change = Change(call)
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    if call.guest_type == "qemu" and m.is_9:
        _check(guest, change)
    yield from sleep(SYNC_S)
    check_storages(_filling(m, call), change.values)
    key = yield from daemon_flock(m, call, call.guest_type, call.vmid)
    guest = m.guests.need(call.guest_type, call.node, call.vmid)
    _check(guest, change)
    apply_change(m, guest, change, hand=call.hand())
    release(m, call, key)
    return None


def unlink(m: Machine, call: Call) -> Steps[Json]:
    """PUT unlink: the same as a config write that deletes these disks."""
    call.params["delete"] = call.params.pop("idlist")
    answer = yield from put(m, call)
    return answer


def post(m: Machine, call: Call) -> Steps[Json]:
    """POST config of a VM: checked before the fork, and in the newer version once more in the task."""
    change = Change(call)
    guest = m.guests.need("qemu", call.node, call.vmid)
    if not m.is_9:
        yield from daemon_flock(m, call, "qemu", call.vmid)
        guest = m.guests.need("qemu", call.node, call.vmid)
    _check(guest, change)
    check_storages(_filling(m, call), change.values)
    text = " ".join(f"-{key} {value}" for key, value in sorted(call.params.items()) if key != "digest")
    allocates = any(is_volume_key("qemu", key) for key in change.values)
    work = Work(
        type="qmconfig",
        id=str(call.vmid),
        seconds=DISK_S if allocates else CONFIG_S,
        body=lambda job: _worker(job, change, call, f"update VM {call.vmid}: {text}"),
    )
    upid = yield from fork(m, call, work)
    delay = float(call.params.get("background_delay", "0"))
    if not delay or upid not in m.running:
        return upid
    ended = yield from join(m.running[upid], m.scaled(delay))
    if not ended:
        return upid
    task = m.tasks[call.node].logs[upid]
    if task.exitstatus != "OK":
        raise died(task.exitstatus or "")
    return None


def _worker(job: Job, change: Change, call: Call, title: str) -> Steps[None]:
    m = job.m
    job.log(title)
    key = flock_key(job.node, "qemu", call.vmid)
    if call.proc is not None and job.proc is not None and key in call.proc.held:
        m.kernel.hand_over(call.proc, job.proc, key)
    else:
        yield from job.flock("qemu", call.vmid)
    guest = reloaded(job, "qemu", call.vmid)
    _check(guest, change)
    yield from job.work(0.9)
    apply_change(m, guest, change, hand=job.hand, log=job)
    yield from job.work(1.0)


def _filling(m: Machine, call: Call) -> Filling:
    return Filling(m=m, guest_type=call.guest_type, node=call.node, vmid=call.vmid, log=unlogged)


def _check(guest: Guest, change: Change) -> None:
    """Lock and digest."""
    if guest.type == "lxc":
        guest.need_unlocked()
        if change.digest and change.digest != guest.digest:
            raise died(LXC_STALE)
        return
    if change.digest and change.digest != guest.digest:
        raise died(QEMU_STALE)
    guest.need_unlocked()


def apply_change(m: Machine, guest: Guest, change: Change, *, hand: Hand, log: Job | None = None) -> None:
    """Edit a copy of the config, then write it."""
    config = guest.config.copy()
    filling = Filling(
        m=m, guest_type=guest.type, node=guest.node, vmid=guest.vmid, log=log.log if log is not None else unlogged
    )
    for name in change.revert:
        config.pending.pop(name, None)
        if name in config.pending_delete:
            config.pending_delete.remove(name)
    for name in change.delete:
        _delete(m, guest, config, name, change)
    for key, raw in change.values.items():
        _check_boot(config, change, key, raw)
        if key in config.values and is_volume_key(guest.type, key):
            _replace_disk(guest, config, key, raw)
        value = fill(filling, key, raw)
        _set(guest, config, key, value)
    m.guests.write(guest, config, hand)


def _check_boot(config: Config, change: Change, key: str, raw: str) -> None:
    if key != "boot":
        return
    for device in (lookup(raw, "order") or "").split(";"):
        if device and device not in config.effective() and device not in change.values:
            raise died(f"invalid bootorder: device '{device}' does not exist'")


def _plugs(guest: Guest, key: str) -> bool:
    return guest.type == "lxc" or not guest.running or bool(PLUGGED.match(key))


def _set(guest: Guest, config: Config, key: str, value: str) -> None:
    if guest.type == "lxc" and guest.running and LXC_REFUSED_WHILE_RUNNING.match(key):
        config.pending[key] = value
        return
    if key in config.pending_delete:
        config.pending_delete.remove(key)
    if _plugs(guest, key):
        config.values[key] = value
        config.pending.pop(key, None)
    elif config.values.get(key) == value:
        config.pending.pop(key, None)
    else:
        config.pending[key] = value


def _delete(m: Machine, guest: Guest, config: Config, name: str, change: Change) -> None:
    config.pending.pop(name, None)
    if name not in config.values:
        return
    if not _plugs(guest, name):
        if name not in config.pending_delete:
            config.pending_delete.append(name)
        return
    raw = config.values[name]
    if UNUSED.match(name) or (is_volume_key(guest.type, name) and not is_cdrom(raw)):
        _detach(m, guest, config, name, change)
    del config.values[name]
    if name in config.pending_delete:
        config.pending_delete.remove(name)
    if "boot" in config.values:
        config.values["boot"] = without_boot_device(config.values["boot"], name)


def _detach(m: Machine, guest: Guest, config: Config, name: str, change: Change) -> None:
    """A removed disk stays as `unusedN`; removing that deletes it."""
    if config.values.get("protection") == "1" and not (guest.type == "lxc" and UNUSED.match(name)):
        what = "unused disk" if UNUSED.match(name) else "drive"
        raise died(f"can't remove {what} '{name}' - protection mode enabled")
    volid = file_of(config.values[name])
    if UNUSED.match(name) or change.force:
        if any(file_of(raw) == volid for values in config.snapshots.values() for raw in values.values()):
            raise died(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
        m.storages.free(volid, guest.node)
        return
    keep_unused(config.values, volid)


def _replace_disk(guest: Guest, config: Config, key: str, raw: str) -> None:
    """Another volume in the same slot leaves the old one unused."""
    old = config.values[key]
    if is_cdrom(old) or file_of(old) == file_of(raw) or guest.type == "lxc":
        return
    keep_unused(config.values, file_of(old))

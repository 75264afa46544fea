"""Creation of guests.

Rule kept here: the number is reserved by a stub config with `lock: create`, written before the fork; until the
worker has finished, that stub is all there is, and a killed worker leaves it behind.
"""

from __future__ import annotations

from pvesim.allocation import Filling, check_storages, fill, is_volume_key, take_back, unlogged
from pvesim.config_rights import need as need_rights
from pvesim.guests import Guest, Hand
from pvesim.ha import PREFIX, Resource
from pvesim.ha_rounds import keep_going
from pvesim.kernel import Steps
from pvesim.machine import Call, Machine
from pvesim.ops_power import fork_start
from pvesim.ops_restore import restore_lxc, restore_qemu
from pvesim.properties import default_boot, new_uuid
from pvesim.texts import Config, clean_tags
from pvesim.wire import ApiError, Json, died, forbidden
from pvesim.workers import Job, TaskError, Work, daemon_flock, fork, release

CREATE_S = 1.0
TEMPLATE_S = 2.0
STUB_FLOCK_S = 5.0
CREATION = "creation-qemu=10.1.2"
ROOT_ONLY_OPTIONS = ("lock", "args", "hookscript")
NOT_STORED = frozenset({
    "vmid", "node", "start", "storage", "pool", "force", "unique", "bwlimit", "archive", "live-restore",
    "ostemplate", "password", "ssh-public-keys", "restore", "ignore-unpack-errors", "ha-managed",
    "import-working-storage",
})  # fmt: skip


def create(m: Machine, call: Call) -> Steps[Json]:
    """POST /nodes/N/qemu and /nodes/N/lxc."""
    kind, vmid = call.guest_type, int(call.params["vmid"])
    values = {key: value for key, value in call.params.items() if key not in NOT_STORED}
    if "tags" in values:
        values["tags"] = clean_tags(values["tags"])
    m.cluster.need_quorum(call.node)
    allow(m, call, kind, vmid)
    if kind == "qemu" and "archive" in call.params:
        upid = yield from restore_qemu(m, call, values)
        return upid
    if kind == "lxc" and call.flag("restore"):
        upid = yield from restore_lxc(m, call, values)
        return upid
    if call.flag("ha-managed"):
        call.who.need("/", "Sys.Console")
    for name in ROOT_ONLY_OPTIONS:
        if name in values:
            raise died(f"only root can set '{name}' config")
    need_rights(call.who, (kind, vmid, call.params.get("pool")), values, values)
    check_storages(Filling(m=m, guest_type=kind, node=call.node, vmid=vmid, log=unlogged), values)
    yield from reserve(m, call, kind, vmid)
    work = Work(
        type="qmcreate" if kind == "qemu" else "vzcreate",
        id=str(vmid),
        seconds=TEMPLATE_S if kind == "lxc" else CREATE_S,
        body=lambda job: _worker(job, call, values),
        undo=lambda job: drop_stub(job, kind, vmid),
    )
    upid = yield from fork(m, call, work)
    return upid


def allow(m: Machine, call: Call, kind: str, vmid: int) -> None:
    """The rights to create, in a pool or not, or to restore over a guest."""
    who, pool = call.who, call.params.get("pool")
    if pool is not None:
        m.tokens.access.need_pool(pool)
    if "storage" in call.params:
        who.need(f"/storage/{call.params['storage']}", "Datastore.AllocateSpace")
    if call.flag("start") and kind == "qemu":
        who.need_guest(vmid, pool, "VM.PowerMgmt")
    if who.may("VM.Allocate", path=f"/vms/{vmid}") or (pool and who.may("VM.Allocate", path=f"/pool/{pool}")):
        return
    restores = ("archive" in call.params or call.flag("restore")) and call.flag("force")
    if restores and m.guests.find(kind, call.node, vmid) is not None and who.may("VM.Backup", path=f"/vms/{vmid}"):
        return
    raise forbidden("")


def reserve(m: Machine, call: Call, kind: str, vmid: int) -> Steps[Guest]:
    """Write the stub config under the new guest's lock file."""
    prefix = f"unable to create VM {vmid} - " if kind == "qemu" and "newid" not in call.params else ""
    try:
        key = yield from daemon_flock(m, call, kind, vmid, STUB_FLOCK_S)
        m.guests.need_unused(vmid)
        stub = Guest(vmid=vmid, type=kind, node=call.node, config=Config(values={"lock": "create"}))
        m.guests.create(stub, call.hand())
    except ApiError as error:
        raise died(prefix + error.text.rstrip("\n")) from error
    release(m, call, key)
    return stub


def drop_stub(job: Job, kind: str, vmid: int) -> None:
    """Remove what `reserve` wrote."""
    guest = job.m.guests.find(kind, job.node, vmid)
    if guest is not None and guest.lock == "create":
        job.m.guests.remove(guest, Hand(pid=job.task.pid))


def _worker(job: Job, call: Call, values: dict[str, str]) -> Steps[None]:
    m, kind, vmid = job.m, call.guest_type, int(call.params["vmid"])
    filling = Filling(m=m, guest_type=kind, node=job.node, vmid=vmid, log=job.log)
    yield from job.flock(kind, vmid, 1.0)
    try:
        yield from job.work(0.1)
        if kind == "lxc":
            _unpack(job, call, values)
        for key in sorted(k for k in values if is_volume_key(kind, k)):
            values[key] = fill(filling, key, values[key])
        yield from job.work(1.0)
        values |= {key: fill(filling, key, raw) for key, raw in values.items() if not is_volume_key(kind, key)}
        _complete(m, kind, values, m.clock(job.node))
        guest = m.guests.need(kind, job.node, vmid)
        m.guests.write(guest, Config(values=values), job.hand)
        m.tokens.access.put_in_pool(vmid, call.params.get("pool"))
    except (TaskError, ApiError) as error:
        if not (isinstance(error, TaskError) and error.partial):
            take_back(filling)
            drop_stub(job, kind, vmid)
        text = error.text.rstrip("\n")
        raise TaskError(f"unable to create {'VM' if kind == 'qemu' else 'CT'} {vmid} - {text}") from error
    if call.flag("ha-managed"):
        job.log("Add as HA resource")
        sid = f"{PREFIX[kind]}:{vmid}"
        request = "started" if call.flag("start") else "stopped"
        m.ha.resources[sid] = Resource(sid=sid, node=job.node, request=request)
        keep_going(m)
    if call.flag("start"):
        job.log("Execute autostart")
        fork_start(job, kind, vmid)


def _unpack(job: Job, call: Call, values: dict[str, str]) -> None:
    """Check the container template and what follows from it."""
    archive = call.params["ostemplate"]
    try:
        job.m.storages.need(archive, job.node)
    except ApiError as error:
        job.log(error.text.rstrip("\n"))
        raise
    name = archive.rpartition("/")[2]
    job.log(f"extracting archive '/var/lib/vz/template/cache/{name}'")
    values.setdefault("rootfs", f"{call.params.get('storage', 'local')}:4")
    known = ("debian", "ubuntu", "alpine", "centos", "fedora", "archlinux", "opensuse", "gentoo", "devuan")
    values.setdefault("ostype", next((k for k in known if name.startswith(k)), "unmanaged"))
    values.setdefault("hostname", f"CT{call.params['vmid']}")
    if job.m.is_9:
        values.setdefault("unprivileged", "1")
    if values.get("unprivileged") == "0":
        del values["unprivileged"]


def _complete(m: Machine, kind: str, values: dict[str, str], clock: float) -> None:
    """What PVE adds by itself."""
    if kind == "lxc":
        for key, default in (("arch", "amd64"), ("memory", "512"), ("swap", "512")):
            values.setdefault(key, default)
        return
    values.setdefault("boot", default_boot(values))
    if values.get("vmgenid", "1") == "1":
        values["vmgenid"] = new_uuid(m.rng)
    if values["vmgenid"] == "0":
        del values["vmgenid"]
    if "uuid=" not in values.get("smbios1", ""):
        rest = values.get("smbios1")
        values["smbios1"] = f"uuid={new_uuid(m.rng)}" + (f",{rest}" if rest else "")
    values["meta"] = f"{CREATION},ctime={int(clock)}"


def complete_by_hand(m: Machine, kind: str, values: dict[str, str], clock: float) -> None:
    """Fill in a config that somebody gives as a file, as if PVE had made it."""
    meta = values.get("meta")
    if kind == "lxc":
        values.setdefault("ostype", "debian")
    _complete(m, kind, values, clock)
    if meta is not None:
        values["meta"] = meta

"""Doing what the plan says, one operation at a time, ends with nothing left to do: whatever PVE fills in.

The small world below writes configs as the recorded PVE does: addresses and volumes are filled in, tags are sorted, and
sizes are in its own spelling.
"""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.planning import LXC, NODES, QEMU, context, mark, template
from trueup.core import marker as markers
from trueup.core.disks import format_size, parse_size
from trueup.core.planner import next_op, plan
from trueup.model.guests import (
    Archive,
    Backup,
    BackupPolicy,
    Clone,
    ContainerTemplate,
    Desired,
    Empty,
    Observed,
    Power,
    Restart,
    Snapshot,
    SnapshotPolicy,
)
from trueup.model.ids import Vmid
from trueup.model.ops import Kind
from trueup.model.plan import Bucket, Plan

NOW_MS = 1_795_867_200_000
ARCHIVED = {"scsi0": "local-lvm:vm-100-disk-0,size=4G", "net0": "virtio=BC:24:11:00:00:02,bridge=vmbr9", "cores": "9"}
MAC = "BC:24:11:AA:BB:CC"
DISKS = ("scsi", "virtio", "rootfs", "mp", "efidisk", "ide")


def written(op, key, value, config):
    """One value as PVE keeps it."""
    if key == "tags":
        return ";".join(sorted({tag.lower() for tag in value.replace(",", ";").split(";")})) or " "
    if key.startswith("net"):
        first, *rest = value.split(",")
        if op.type is QEMU and "=" not in first:
            first = f"{first}={MAC}"
        elif op.type is LXC and "hwaddr=" not in value:
            rest = [*rest, f"hwaddr={MAC}", "type=veth"]
        return ",".join([first, *sorted(rest)])
    if key.startswith(DISKS):
        volume, *rest = value.split(",")
        storage, _, name = volume.partition(":")
        options = [part for part in rest if not part.startswith(("format=", "size="))]
        if name.replace(".", "", 1).isdigit():
            size = 528 * 1024 if key.startswith("efidisk") else -int(-float(name) * 1024 * 1024) * 1024
            return ",".join(
                [f"{storage}:vm-{op.vmid}-disk-{len(config)}", *sorted(options), f"size={format_size(size)}"]
            )
        if name == "cloudinit":
            return f"{storage}:vm-{op.vmid}-cloudinit,media=cdrom,size=4M"
        size = [part for part in config.get(key, "").split(",") if part.startswith("size=")]
        return ",".join([volume, *sorted(options), *size])
    return value


def configured(op, config):
    config = dict(config)
    for key in op.params.get("delete", "").split(","):
        config.pop(key, None)
    for key, value in op.params.items():
        if key not in {"delete", "ostemplate", "pool", "password"}:
            config[key] = written(op, key, value, config)
    return config


def cloned(op, source):
    config = dict(source.config)
    for key, value in config.items():
        if key.startswith("net"):
            config[key] = value.replace("BC:24:11:00:00:01", MAC)
        elif key.startswith(DISKS):
            named = value.replace(f"base-{source.vmid}", f"vm-{op.vmid}").replace(f"vm-{source.vmid}", f"vm-{op.vmid}")
            config[key] = named.replace("local-lvm", op.params.get("storage", "local-lvm"))
    config["name" if op.type is QEMU else "hostname"] = op.name
    return config


def after(op, world):
    """The world once this operation has succeeded."""
    seen = world.get(op.vmid)
    if op.kind in {Kind.CREATE, Kind.CLONE, Kind.RESTORE_NEW}:
        assert seen is None
        config = {} if op.kind is not Kind.RESTORE_NEW else dict(ARCHIVED)
        config = cloned(op, world[op.source]) if op.kind is Kind.CLONE else configured(op, config)
        config.setdefault("smbios1" if op.type is QEMU else "arch", "filled-in")
        seen = Observed(
            type=op.type, vmid=op.vmid, node=op.node, name=op.name, status=Power.STOPPED, config=config,
            marker=mark(op.vmid), description=op.description or "", pool=op.params.get("pool", ""), snapshots={},
            backups=(),
        )  # fmt: skip
    elif op.kind in {Kind.CONFIGURE, Kind.TAG}:
        text = seen.description if op.description is None else op.description
        config = configured(op, seen.config)
        name = config.get("name", config.get("hostname", seen.name))
        waits = {key for key in op.goal if key in {"cores", "memory"} and seen.status is Power.RUNNING}
        pending = tuple(sorted({*seen.pending, *waits}))
        seen = msgspec.structs.replace(seen, config=config, description=text, name=name, pending=pending)
    elif op.kind is Kind.GROW:
        disk, size = op.params["disk"], op.params["size"]
        parts = [part for part in seen.config[disk].split(",") if not part.startswith("size=")]
        old = next(part for part in seen.config[disk].split(",") if part.startswith("size="))
        assert (parse_size(old[5:]) or 0) < (parse_size(size) or 0)
        seen = msgspec.structs.replace(seen, config={**seen.config, disk: ",".join([*parts, f"size={size}"])})
    else:
        seen = msgspec.structs.replace(seen, **DEEDS[op.kind](op, seen))
    return {**world, op.vmid: seen}


def detached(op, seen):
    (disk,) = op.goal
    unused = {f"unused{len(seen.config)}": seen.config[disk].split(",")[0]}
    return {"config": {**{key: value for key, value in seen.config.items() if key != disk}, **unused}}


def powered(op, seen):
    return {"status": Power(op.goal["power"]), "pending": () if op.goal["power"] == "running" else seen.pending}


def snapped(op, seen):
    name = op.goal["snapshot"]
    assert name not in seen.snapshots
    return {"snapshots": {**seen.snapshots, name: Snapshot(name=name, description=markers.render("", mark(op.vmid)))}}


def backed_up(op, seen):
    number = len(seen.backups)
    volume = f"{op.params['storage']}:backup/{number}"
    notes = "g, by trueup 00000000-0000-7000-8000-000000000000"
    return {"backups": (*seen.backups, Backup(volume=volume, vmid=op.vmid, made_s=NOW_MS // 1000, notes=notes))}


def templated(op, seen):
    assert (seen.status, seen.snapshots) == (Power.STOPPED, {})
    return {"template": True}


DEEDS = {
    Kind.DETACH: detached,
    Kind.POOL: lambda op, seen: {"pool": op.goal["pool"]},
    Kind.MIGRATE: lambda op, seen: {"node": op.goal["node"]},
    Kind.TEMPLATE: templated,
    Kind.REBOOT: lambda op, seen: {"pending": ()},
    Kind.SNAPSHOT: snapped,
    Kind.BACKUP: backed_up,
    **dict.fromkeys((Kind.START, Kind.STOP, Kind.SHUTDOWN), powered),
}


def converge(desired, world: dict[Vmid, Observed]) -> tuple[Plan, dict[Vmid, Observed]]:
    """Do what plans say, until they say nothing more."""
    whole = plan(desired, world, context(now_ms=NOW_MS))
    for _ in range(16 * len(desired)):
        whole = plan(desired, world, context(now_ms=NOW_MS))
        op = next((op for op in map(next_op, whole.guests) if op is not None), None)
        if op is None:
            return whole, world
        world = after(op, world)
    raise AssertionError(f"still something to do: {whole}")


# -- what people may write ---------------------------------------------------------------------------------------------

sizes = st.sampled_from(["8G", "8192M", "12G", "10G", "9000M", "16"])
qemu_disks = st.fixed_dictionaries(
    {"storage": st.just("local-lvm"), "size": sizes},
    optional={"ssd": st.sampled_from(["0", "1", "yes"]), "discard": st.sampled_from(["on", "1", "ignore"])},
)
qemu_nets = st.one_of(
    st.sampled_from(["virtio,bridge=vmbr0", "model=e1000,bridge=vmbr1", "virtio=BC:24:11:00:00:09,bridge=vmbr0"]),
    st.fixed_dictionaries(
        {"model": st.sampled_from(["virtio", "e1000"]), "bridge": st.just("vmbr0")},
        optional={"firewall": st.sampled_from(["0", "1", "on"]), "tag": st.just("7")},
    ),
)
qemu_configs = st.fixed_dictionaries(
    {},
    optional={
        "cores": st.sampled_from(["1", "2", "2.0"]),
        "memory": st.sampled_from(["512", "2048", "current=1024"]),
        "onboot": st.sampled_from(["0", "1", "yes", ""]),
        "agent": st.sampled_from(["1", "enabled=1", "0", "1,fstrim_cloned_disks=1"]),
        "tags": st.sampled_from(["web", "Prod,web", "b;a", ""]),
        "net0": qemu_nets,
        "net1": st.one_of(qemu_nets, st.just("")),
        "scsi0": st.one_of(qemu_disks, st.just("local-lvm:8"), st.just("local-lvm:12,ssd=1")),
        "scsi1": st.one_of(qemu_disks, st.just("")),
        "efidisk0": st.just({"storage": "local-lvm", "efitype": "4m", "size": "1M"}),
        "ide2": st.sampled_from(["local-lvm:cloudinit", "none,media=cdrom", "l:iso/x.iso,media=cdrom"]),
        "boot": st.sampled_from(["order=scsi0;net0", "order=net0"]),
        "ipconfig0": st.sampled_from(["ip=dhcp", "ip=10.0.0.2/24,gw=10.0.0.1"]),
        "cipassword": st.just("hunter2"),
        "description": st.sampled_from(["text", "text\n\n", "  two\nlines "]),
    },
)
lxc_configs = st.fixed_dictionaries(
    {
        "rootfs": st.one_of(
            st.just("local-lvm:8"), st.fixed_dictionaries({"storage": st.just("local-lvm"), "size": sizes})
        )
    },
    optional={
        "cores": st.sampled_from(["1", "4"]),
        "swap": st.sampled_from(["512", "0"]),
        "unprivileged": st.sampled_from(["0", "1"]),
        "features": st.sampled_from(["nesting=1", "nesting=1,keyctl=1"]),
        "net0": st.sampled_from(["name=eth0,bridge=vmbr0", "bridge=vmbr0,name=eth0,ip=dhcp"]),
        "mp0": st.one_of(st.just(""), st.just({"storage": "local-lvm", "size": "4G", "mp": "/data"})),
        "password": st.just("hunter2"),
        "tags": st.sampled_from(["web", "Prod,web"]),
    },
)


schedules = st.sampled_from(["hourly", "daily 02:00", "Sat 03:00 Europe/Berlin"])
snapshot_policies = st.none() | st.builds(SnapshotPolicy, schedule=schedules, keep=st.just(2))
backup_policies = st.none() | st.builds(BackupPolicy, storage=st.just("pbs"), schedule=schedules, keep=st.just(2))


@st.composite
def manifests(draw, vmid, earlier):
    kind = draw(st.sampled_from(["empty", "clone", "container", "archive"]))
    config = draw(lxc_configs if kind == "container" else qemu_configs)
    source = {
        "empty": Empty(),
        "clone": Clone(source=Vmid(9000), full=draw(st.booleans())),
        "container": ContainerTemplate(volume="local:vztmpl/x.tar.zst"),
        "archive": Archive(volume="b:backup/vzdump-qemu-7-x.vma.zst"),
    }[kind]
    is_template = draw(st.integers(0, 5)) == 0
    return Desired(
        type=LXC if kind == "container" else QEMU,
        name=f"g-{vmid}",
        vmid=Vmid(vmid),
        node=draw(st.sampled_from(sorted(NODES))),
        power=draw(st.sampled_from([Power.RUNNING, Power.STOPPED, Power.IGNORE])),
        source=source,
        config=config,
        description=draw(st.sampled_from([None, "", "text \n"])),
        restart=Restart.ALLOWED,
        after=tuple(draw(st.sets(st.sampled_from(earlier), max_size=2))) if earlier else (),
        template=is_template,
        pool=draw(st.sampled_from(["", "dev", "prod"])),
        snapshots=None if is_template else draw(snapshot_policies),
        backups=draw(backup_policies),
        ignore=draw(st.sampled_from([(), ("tags",), ("net*", "agent")])),
    )


@st.composite
def clusters(draw):
    found = []
    for vmid in range(100, 100 + draw(st.integers(1, 4))):
        found.append(draw(manifests(vmid, [want.name for want in found])))
    return draw(st.permutations(found))


@settings(max_examples=300, deadline=None)
@given(clusters())
def test_from_nothing_to_converged_and_then_nothing_more(desired):
    whole, world = converge(desired, {Vmid(9000): template()})
    assert [(guest.bucket, guest.diff) for guest in whole.guests] == [(Bucket.UNCHANGED, ())] * len(desired)
    for want in desired:
        seen = world[want.vmid]
        assert (seen.template, seen.node) == (want.template, want.node)
        assert seen.template or want.power in {Power.IGNORE, seen.status}
        assert want.pool in {"", seen.pool}


@settings(max_examples=200, deadline=None)
@given(clusters(), st.data())
def test_what_somebody_changed_is_named_and_mended(desired, data):
    _, world = converge(desired, {Vmid(9000): template()})
    want = data.draw(st.sampled_from(desired))
    seen = world[want.vmid]
    deed = data.draw(st.sampled_from(["power", "gone", "cores", "name"]))
    if deed == "gone":
        world = {vmid: guest for vmid, guest in world.items() if vmid != want.vmid}
    else:
        changed: dict[str, Any] = {
            "power": {"status": Power.STOPPED if seen.status is Power.RUNNING else Power.RUNNING},
            "cores": {"config": {**seen.config, "cores": "64"}},
            "name": {"config": {**seen.config, "name" if want.type is QEMU else "hostname": "x"}, "name": "x"},
        }[deed]
        world = {**world, want.vmid: msgspec.structs.replace(seen, **changed)}
    touched = {guest.name for guest in plan(desired, world, context()).guests if guest.bucket is not Bucket.UNCHANGED}
    ours = deed in {"gone", "name"} or (deed == "cores" and "cores" in want.config)
    ours = ours or (deed == "power" and want.power is not Power.IGNORE and not want.template)
    assert touched == ({want.name} if ours else set())
    whole, _ = converge(desired, world)
    assert all(guest.bucket is Bucket.UNCHANGED for guest in whole.guests)


@settings(max_examples=200, deadline=None)
@given(manifests(100, []), manifests(100, []))
def test_from_any_manifest_to_any_other_of_the_same_kind(first, second):
    if first.type is not second.type:
        return
    _, world = converge([first], {Vmid(9000): template()})
    if first.template and not second.template:
        second = msgspec.structs.replace(second, power=Power.IGNORE)
    if second.template:  # which PVE makes of no guest with snapshots
        world = {vmid: msgspec.structs.replace(guest, snapshots={}) for vmid, guest in world.items()}
    whole, _ = converge([second], world)
    left = whole.guests[0]
    assert left.ops == ()
    assert left.bucket in {Bucket.UNCHANGED, Bucket.NEEDS_APPROVAL}
    assert left.bucket is Bucket.NEEDS_APPROVAL or not left.approvals

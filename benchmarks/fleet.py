"""The cluster that the benchmarks speak of: its nodes, guests and tasks, each worked out from its number alone.

The stand-in and the benchmarks are processes of their own; both know from here what is where.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

NODES = tuple(f"pve{number:02d}" for number in range(1, 17))
TOKEN = "trueup@pve!bench"  # noqa: S105 - its name
SECRET = "00000000-0000-4000-8000-000000000000"  # noqa: S105 - of the stand-in, which checks none
INSTALLATION = "01930000-0000-7000-8000-000000000000"
"""The id of the first record in the benchmarks' journals, and so the installation in their guests' markers."""

FIRST_VMID = 10_000
BEGAN_S = 1_795_000_000
"""When the tasks of the operations in flight began, in epoch seconds."""


def node_of(number: int) -> str:
    """Where guest or task `number` is."""
    return NODES[number % len(NODES)]


def kind_of(number: int) -> str:
    """Every fourth guest of each node is a container."""
    return "lxc" if number // len(NODES) % 4 == 3 else "qemu"


def vmid_of(number: int) -> int:
    """The vmid of guest `number`."""
    return FIRST_VMID + number


def uid_of(number: int) -> str:
    """The marker uid of guest `number`."""
    return f"01930000-0000-7000-9000-{number:012d}"


def upid(number: int, kind: str = "qmcreate", began_s: int = BEGAN_S) -> str:
    """The UPID of the task of operation `number`."""
    vmid = vmid_of(number)
    return f"UPID:{node_of(number)}:{4096 + number:08X}:{0x0100_0000 + number:08X}:{began_s:08X}:{kind}:{vmid}:{TOKEN}:"


def config_of(number: int) -> dict[str, Any]:
    """What PVE has in the config file of guest `number`: our marker is in its description."""
    vmid = vmid_of(number)
    mark = {"uid": uid_of(number), "installation": INSTALLATION, "vmid": vmid, "op": uid_of(number), "n": 1}
    text = f"<!-- trueup {json.dumps(mark, separators=(',', ':'))} -->"
    mac = f"BC:24:11:{number >> 16 & 255:02X}:{number >> 8 & 255:02X}:{number & 255:02X}"
    if kind_of(number) == "lxc":
        return {
            "hostname": f"guest-{vmid}", "cores": 2, "memory": 1024, "swap": 512, "ostype": "debian", "arch": "amd64",
            "rootfs": f"local-lvm:vm-{vmid}-disk-0,size=8G", "unprivileged": 1, "onboot": 1, "tags": "bench",
            "net0": f"name=eth0,bridge=vmbr0,hwaddr={mac},ip=dhcp,type=veth", "description": text,
        }  # fmt: skip
    return {
        "name": f"guest-{vmid}", "cores": 2, "memory": 2048, "sockets": 1, "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "scsi0": f"local-lvm:vm-{vmid}-disk-0,iothread=1,size=32G", "boot": "order=scsi0", "onboot": 1, "tags": "bench",
        "net0": f"virtio={mac},bridge=vmbr0", "agent": "1", "cpu": "x86-64-v2-AES", "description": text,
        "smbios1": f"uuid=00000000-0000-4000-8000-{number:012x}", "vmgenid": f"00000000-0000-4000-9000-{number:012x}",
        "meta": "creation-qemu=10.0.2,ctime=1790000000",
    }  # fmt: skip


def digest_of(number: int) -> str:
    """A digest like PVE's."""
    return f"{number:040x}"


def manifest_of(number: int) -> str:
    """The manifest that guest `number` is as declared by."""
    vmid = vmid_of(number)
    head = (
        f"name: guest-{vmid}\nvmid: {vmid}\nnode: {node_of(number)}\npower: running\n"
        f"labels: {{tier: web, owner: team-{number % 7}}}\n"
    )
    if kind_of(number) == "lxc":
        return (
            f'kind: Container\n{head}source: {{template: "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"}}\n'
            "config:\n  cores: 2\n  memory: 1024\n  swap: 512\n  onboot: 1\n  tags: [bench]\n"
            "  rootfs: {storage: local-lvm, size: 8G}\n  net0: {name: eth0, bridge: vmbr0, ip: dhcp}\n"
        )
    return (
        f"kind: VirtualMachine\n{head}source: {{empty: true}}\n"
        "config:\n  cores: 2\n  memory: 2048\n  ostype: l26\n  scsihw: virtio-scsi-single\n  onboot: 1\n"
        "  tags: [bench]\n  cpu: x86-64-v2-AES\n  agent: 1\n  boot: order=scsi0\n"
        "  scsi0: {storage: local-lvm, size: 32G, iothread: 1}\n  net0: {model: virtio, bridge: vmbr0}\n"
    )


def new_vm(number: int) -> str:
    """The manifest of a guest that is still to be made: no more than Ansible's module is given too."""
    vmid = vmid_of(number)
    return (
        f"kind: VirtualMachine\nname: new-{vmid}\nvmid: {vmid}\nnode: {node_of(number)}\n"
        "source: {empty: true}\nconfig: {cores: 2, memory: 2048}\n"
    )


def write_manifests(folder: Path, numbers: Iterable[int], text: Callable[[int], str] = manifest_of) -> None:
    """One file for each guest, in folders of 500."""
    for number in numbers:
        place = folder / f"{number // 500:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{vmid_of(number)}.yaml").write_text(text(number))


def row_of(number: int) -> dict[str, Any]:
    """The row of /cluster/resources; PVE's has these fields. Nothing is up for any time: clocks are jumped here."""
    vmid, kind = vmid_of(number), kind_of(number)
    vm = kind == "qemu"
    return {
        "id": f"{kind}/{vmid}", "type": kind, "vmid": vmid, "node": node_of(number), "name": f"guest-{vmid}",
        "status": "running", "template": 0, "tags": "bench", "maxcpu": 2, "maxmem": (2 if vm else 1) << 30,
        "maxdisk": (32 if vm else 8) << 30, "uptime": 0, "cpu": 0.0123456789, "mem": 1_073_741_824 - number,
        "memhost": 1_173_741_824 - number, "disk": 0 if vm else 2 << 30, "netin": 123_456_789, "netout": 987_654_321,
        "diskread": 55_555_555, "diskwrite": 66_666_666, "pressurecpusome": 0.0,
    }  # fmt: skip


def status_row_of(number: int) -> dict[str, Any]:
    """The row of /nodes/N/qemu or lxc."""
    row = row_of(number)
    for key in ("id", "node", "template"):
        del row[key]
    return {**row, "pid": 1000 + number, "cpus": 2}


def task_row(number: int, *, status: str = "OK", kind: str = "qmcreate", began_s: int = BEGAN_S) -> Mapping[str, Any]:
    """The row of a finished task in /nodes/N/tasks."""
    return {
        "upid": upid(number, kind, began_s), "node": node_of(number), "pid": 4096 + number,
        "pstart": 0x0100_0000 + number, "starttime": began_s, "endtime": began_s + 9, "type": kind,
        "id": str(vmid_of(number)), "user": TOKEN.partition("!")[0], "tokenid": TOKEN.partition("!")[2],
        "status": status,
    }  # fmt: skip

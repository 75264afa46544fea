"""Small clusters and what is wanted of them: together they use every kind of operation that is carried out."""

from collections.abc import Mapping

from tests.simulation.harness import Scenario
from trueup.model.guests import Clone, ContainerTemplate, Desired, Power
from trueup.model.ids import GuestType, NodeName, Vmid

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
SPEC: Mapping[str, object] = {
    "nodes": ["pve1", "pve2"],
    "guests": [
        {
            "type": "qemu",
            "vmid": 9000,
            "node": "pve1",
            "name": "debian-12",
            "template": True,
            "config": {
                "cores": 1,
                "memory": 1024,
                "scsi0": "shared:base-9000-disk-0,size=8G",
                "net0": "virtio,bridge=vmbr0",
            },
        },
        {
            "type": "lxc",
            "vmid": 9001,
            "node": "pve1",
            "name": "debian-12-ct",
            "template": True,
            "config": {"memory": 512, "rootfs": "shared:base-9001-disk-0,size=4G", "net0": "name=eth0,bridge=vmbr0"},
        },
    ],
}


def vm(vmid: int, **named: object) -> Desired:
    fields: dict[str, object] = {
        "type": GuestType.QEMU,
        "name": f"vm-{vmid}",
        "vmid": Vmid(vmid),
        "node": NodeName("pve1"),
        "origin": f"test:{vmid}",
    }
    return Desired(**{**fields, **named})  # type: ignore[arg-type]


def ct(vmid: int, **named: object) -> Desired:
    fields: dict[str, object] = {
        "type": GuestType.LXC,
        "name": f"ct-{vmid}",
        "vmid": Vmid(vmid),
        "node": NodeName("pve1"),
        "source": ContainerTemplate(volume=TEMPLATE),
        "origin": f"test:{vmid}",
    }
    config = {"rootfs": "local-lvm:4", "memory": "512", "net0": "name=eth0,bridge=vmbr0"}
    return Desired(**{**fields, "config": config, **named})  # type: ignore[arg-type]


EMPTY_VM = Scenario(
    spec=SPEC,
    desired=[vm(101, config={"memory": "512", "cores": "2", "scsi0": {"storage": "local-lvm", "size": "8G"}})],
)
CONTAINER = Scenario(spec=SPEC, desired=[ct(201)])
# The template has 8G and 1 core: the clone is configured and grown before it starts.
CLONED_VM = Scenario(
    spec=SPEC,
    desired=[
        vm(
            102,
            node=NodeName("pve2"),
            source=Clone(source=Vmid(9000)),
            config={"cores": "4", "tags": "web;prod", "scsi0": {"storage": "shared", "size": "16G"}},
        )
    ],
)
CLONED_CT = Scenario(
    spec=SPEC,
    desired=[ct(202, source=Clone(source=Vmid(9001)), config={"memory": "1024", "rootfs": {"size": "8G"}})],
)

_MARKED = "test"


def powered(kind: GuestType) -> Scenario:
    """A guest that runs and is to be stopped."""
    make = vm if kind is GuestType.QEMU else ct
    return Scenario(spec=SPEC, desired=[make(301, power=Power.STOPPED, restart="allowed")])


CREATING = {"empty-vm": EMPTY_VM, "container": CONTAINER, "cloned-vm": CLONED_VM, "cloned-ct": CLONED_CT}

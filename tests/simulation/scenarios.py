"""Small clusters and what is wanted of them: together they use every kind of operation that is carried out."""

from collections.abc import Callable, Mapping

from tests.simulation.cluster import SimCluster
from tests.simulation.harness import Scenario
from trueup.model.guests import Clone, ContainerTemplate, Desired, Power
from trueup.model.ids import GuestType, NodeName, Vmid

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
SPEC: Mapping[str, object] = {
    "pools": [{"poolid": "prod"}],
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


def _stopped(make: Callable[..., Desired], config: Mapping[str, object]) -> Scenario:
    """A guest that runs is to be stopped, and changed while it is at it."""
    first = make(301)
    then = make(301, power=Power.STOPPED, restart="allowed", config={**first.config, **config})
    return Scenario(spec=SPEC, desired=[first], then=[then])


STOPPED_VM = _stopped(vm, {"onboot": "1", "tags": "a"})
STOPPED_CT = _stopped(ct, {"onboot": "1", "cores": "2"})


# Somebody kills the guest's process, edits a value and takes a guest away by hand.
def _by_hand(cluster: SimCluster) -> None:
    cluster.world.put_guests({"vmid": 101, "status": "stopped", "config": {"cores": 7}})
    cluster.world.put_guests({"vmid": 201, "deleted": True})


DRIFTED = Scenario(
    spec=SPEC,
    desired=[*EMPTY_VM.desired, *CONTAINER.desired],
    then=[*EMPTY_VM.desired, *CONTAINER.desired],
    between=_by_hand,
)

CREATING = {"empty-vm": EMPTY_VM, "container": CONTAINER, "cloned-vm": CLONED_VM, "cloned-ct": CLONED_CT}
CHANGING = {"stopped-vm": STOPPED_VM, "stopped-ct": STOPPED_CT, "drifted": DRIFTED}
ALL = {**CREATING, **CHANGING}

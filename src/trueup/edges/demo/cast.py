"""The cast: three nodes with templates, and eight guests that do not exist yet."""

from collections.abc import Mapping
from typing import Final

import msgspec

CLUSTER: Final = "demo"
TIME_SCALE: Final = 0.36
"""A full clone takes 10 PVE-seconds, so not quite 4 s here."""

_TEMPLATE: Final = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A guest of the demo: what it is called, and where it comes from."""

    vmid: int
    name: str
    what: str


CAST: Final = (
    Role(vmid=101, name="db-1", what="VM, full clone of 9000"),
    Role(vmid=102, name="db-2", what="VM, full clone of 9001"),
    Role(vmid=103, name="web-1", what="VM, linked clone, after db-1"),
    Role(vmid=104, name="web-2", what="VM, linked clone, after db-2"),
    Role(vmid=105, name="cache-1", what="container, from a template"),
    Role(vmid=106, name="dns-1", what="container, from a template"),
    Role(vmid=107, name="mon-1", what="container, full clone of 9002"),
    Role(vmid=108, name="pxe-1", what="VM, empty, stays stopped"),
)


def _vm_template(vmid: int, node: str, name: str) -> dict[str, object]:
    return {
        "type": "qemu",
        "vmid": vmid,
        "node": node,
        "name": name,
        "template": True,
        "config": {
            "cores": 1,
            "memory": 1024,
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "scsi0": f"shared:base-{vmid}-disk-0,size=8G",
            "net0": "virtio,bridge=vmbr0",
        },
    }


WORLD: Final[Mapping[str, object]] = {
    "nodes": ["pve1", "pve2", "pve3"],
    "guests": [
        _vm_template(9000, "pve1", "debian-12"),
        _vm_template(9001, "pve2", "alma-9"),
        {
            "type": "lxc",
            "vmid": 9002,
            "node": "pve3",
            "name": "debian-12-ct",
            "template": True,
            "config": {
                "cores": 1,
                "memory": 512,
                "swap": 512,
                "ostype": "debian",
                "unprivileged": 1,
                "rootfs": "shared:base-9002-disk-0,size=4G",
                "net0": "name=eth0,bridge=vmbr0,ip=dhcp",
            },
        },
    ],
    # PVE-seconds, chosen so that things are at work at the same time and can be watched.
    "durations": {"vzclone": 20, "vzcreate": 6, "qmcreate": 4, "qmstart": 5, "vzstart": 5},
}
"""The simulator's guests file: what is there before the first act."""

MANIFESTS: Final[Mapping[str, str]] = {
    "databases.yaml": """\
kind: VirtualMachine
name: db-1
labels: {tier: db}
vmid: 101
node: pve1
source: {clone: 9000}
config:
  cores: 4
  memory: 4096
  scsi0: {storage: shared, size: 16G}
  tags: [prod, db]
---
kind: VirtualMachine
name: db-2
labels: {tier: db}
vmid: 102
node: pve2
source: {clone: 9001}
config: {cores: 4, memory: 4096, tags: [prod, db]}
""",
    "web.yaml": """\
kind: VirtualMachine
name: web-1
labels: {tier: web}
vmid: 103
node: pve1
source: {clone: 9000, full: false}
config: {cores: 2, memory: 2048}
after: [db-1]
---
kind: VirtualMachine
name: web-2
labels: {tier: web}
vmid: 104
node: pve2
source: {clone: 9001, full: false}
config: {cores: 2, memory: 2048}
after: [db-2]
""",
    "services.yaml": f"""\
kind: Container
name: cache-1
vmid: 105
node: pve1
source: {{template: "{_TEMPLATE}"}}
config:
  cores: 1
  memory: 512
  unprivileged: true
  rootfs: {{storage: local-lvm, size: 4G}}
  net0: {{name: eth0, bridge: vmbr0, ip: dhcp}}
---
kind: Container
name: dns-1
vmid: 106
node: pve2
source: {{template: "{_TEMPLATE}"}}
config:
  cores: 1
  memory: 256
  unprivileged: true
  rootfs: {{storage: local-lvm, size: 2G}}
  net0: {{name: eth0, bridge: vmbr0, ip: dhcp}}
---
kind: Container
name: mon-1
vmid: 107
node: pve3
source: {{clone: 9002}}
config: {{memory: 1024}}
""",
    "pxe.yaml": """\
kind: VirtualMachine
name: pxe-1
vmid: 108
node: pve3
power: stopped
source: {empty: true}
config:
  cores: 1
  memory: 512
  net0: {model: virtio, bridge: vmbr0}
  scsi0: {storage: local-lvm, size: 8G}
""",
}
"""Files of the manifest folder."""


def settings_text(*, url: str, token_id: str, ca_file: str) -> str:
    """A trueup.toml for the simulator; the secret is in a file beside it."""
    return f"""\
[cluster]
name = "{CLUSTER}"
endpoints = ["{url}"]
token_id = "{token_id}"
token_secret_file = "token.secret"
ca_file = "{ca_file}"
"""

"""From PVE's answers to an `Observed` guest: the marker is taken out of the description, the identity is put together.

Sources: qemu-server (smbios1, meta, vmgenid), pve-container (rootfs, netN). LXC has no uuid of its own.
"""

from collections.abc import Mapping
from sys import intern

from trueup.core import marker as markers
from trueup.model.guests import Identity, Marker, Observed, Power, ResourceRow
from trueup.model.ids import Digest, GuestType
from trueup.model.pve import ConfigRead


def observed(row: ResourceRow, read: ConfigRead, *, running: bool | None = None) -> Observed:
    """Put one guest together. `running` is the live state where it was read; else the row's, which may be old."""
    config = dict(read.config)
    raw = config.pop("description", "")
    text, marker = markers.split(raw)
    status = row.status if running is None else (Power.RUNNING if running else Power.STOPPED)
    return Observed(
        type=row.type,
        vmid=row.vmid,
        node=row.node,
        # The row's name is up to 10 s old after a vmid was made anew; the config's is live.
        name=config.get("name" if row.type is GuestType.QEMU else "hostname", row.name),
        status=status,
        template=config.pop("template", "0") == "1",
        lock=config.pop("lock", ""),
        digest=Digest(read.digest),
        config=config,
        pending=read.pending,
        description=text,
        description_raw=raw,
        marker=marker,
        ha=row.ha,
        pool=row.pool,
        identity=identity(row.type, config, marker),
    )


def identity(guest: GuestType, config: Mapping[str, str], marker: Marker | None) -> Identity:
    """What tells this incarnation of the vmid from the next."""
    uid = marker.uid if marker else ""
    if guest is GuestType.QEMU:
        return Identity(
            smbios1_uuid=_part(config.get("smbios1", ""), "uuid"),
            ctime=intern(_part(config.get("meta", ""), "ctime")),
            vmgenid=config.get("vmgenid", ""),
            marker_uid=uid,
        )
    nets = sorted(key for key in config if key.startswith("net") and key[3:].isdigit())
    macs = tuple(mac for mac in (_part(config[key], "hwaddr") for key in nets) if mac)
    return Identity(rootfs=config.get("rootfs", "").partition(",")[0], macs=macs, marker_uid=uid)


def _part(text: str, key: str) -> str:
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name.strip() == key:
            return value.strip()
    return ""

"""Rows of lists are read in two ways, a quick one for those that look as all do; both must say the same."""

import msgspec
import pytest

from trueup.adapters import pve_decode
from trueup.model.guests import Power

COMMON = {"vmid": 105, "type": "qemu", "node": "pve1", "name": "a", "status": "running", "template": 0, "cpu": 0.5}
ODD = {"vmid": 999, "type": "lxc", "node": "pve2", "name": 7}
SPELLINGS = {
    "vmid": (105, "105", 105.0),
    "type": ("qemu", "lxc"),
    "name": ("a", "", "7", None, 7),
    "status": ("running", "stopped", "unknown", "ignore", "paused", "", None),
    "template": (0, 1, "0", "1", True, False, "", None),
    "lock": ("", "backup", None),
    "hastate": ("", "started", None),
    "tags": ("", "a;b", None),
    **dict.fromkeys(("maxmem", "maxdisk", "uptime"), (0, 7, 7.0, 1e12, "7", 7.5, None, 2**60)),
    "maxcpu": (0, 2, 2.5, "2", None),
}


@pytest.mark.parametrize("key", SPELLINGS)
def test_a_row_reads_alike_whatever_the_rows_beside_it_look_like(key: str) -> None:
    for value in SPELLINGS[key]:
        row = {**COMMON, key: value}
        bodies = [msgspec.json.encode({"data": rows}) for rows in ([row], [row, ODD])]
        alone, beside = (pve_decode.resources(body)[0] for body in bodies)
        assert alone == beside
        assert type(alone.status) is Power
        assert alone.status in {Power.RUNNING, Power.STOPPED, Power.UNKNOWN}

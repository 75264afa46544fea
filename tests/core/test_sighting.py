"""How an observed guest is put together from what PVE says."""

from typing import Any

import pytest

from tests.core.operations import LXC, QEMU, mark
from trueup.core import marker as markers
from trueup.core.sighting import identity, observed
from trueup.model.guests import Identity, Power, ResourceRow
from trueup.model.ids import GuestType, NodeName, Vmid
from trueup.model.pve import ConfigRead

OURS = markers.render("Web server\nsecond line", mark())


def row(guest: GuestType = QEMU, **more: Any) -> ResourceRow:
    fields = {"vmid": Vmid(101), "node": NodeName("pve2"), "name": "old-name", "status": Power.RUNNING, "ha": "started"}
    return ResourceRow(type=guest, **{**fields, **more})


def read(**config: str) -> ConfigRead:
    return ConfigRead(config=config, digest="d1", pending=("cores",))


def test_row_and_config_become_one_guest():
    seen = observed(row(), read(name="web-1", cores="2", memory="2048"))
    assert (seen.type, seen.vmid, seen.node, seen.name) == (QEMU, 101, "pve2", "web-1")
    assert (seen.status, seen.ha, seen.digest, seen.pending) == (Power.RUNNING, "started", "d1", ("cores",))
    assert seen.config == {"name": "web-1", "cores": "2", "memory": "2048"}


@pytest.mark.parametrize(("guest", "key"), [(QEMU, "name"), (LXC, "hostname")])
def test_the_name_in_the_config_is_live_and_the_rows_stands_in_for_a_missing_one(guest: GuestType, key: str):
    assert observed(row(guest), read(**{key: "new"})).name == "new"
    assert observed(row(guest), read()).name == "old-name"


@pytest.mark.parametrize(("running", "status"), [(True, Power.RUNNING), (False, Power.STOPPED), (None, Power.UNKNOWN)])
def test_the_live_state_outranks_the_rows(running: bool | None, status: Power):
    assert observed(row(status=Power.UNKNOWN), read(), running=running).status is status


def test_lock_template_and_description_are_no_config():
    seen = observed(row(), read(lock="backup", template="1", description="text", cores="2"))
    assert (seen.lock, seen.template, seen.description) == ("backup", True, "text")
    assert seen.config == {"cores": "2"}


@pytest.mark.parametrize(("flag", "template"), [("1", True), ("0", False), (None, False)])
def test_a_template_says_so(flag: str | None, template: bool):
    config = {} if flag is None else {"template": flag}
    assert observed(row(), read(**config)).template is template


def test_the_config_that_was_read_is_left_as_it_is():
    config = {"description": OURS, "lock": "backup", "template": "1", "cores": "2"}
    answer = ConfigRead(config=config, digest="d1")
    observed(row(), answer)
    assert set(answer.config) == {"description", "lock", "template", "cores"}


@pytest.mark.parametrize("guest", list(GuestType))
@pytest.mark.parametrize("end", ["", "\n", " \n"])
def test_our_marker_and_the_users_text_come_apart_whatever_pve_puts_behind_them(guest: GuestType, end: str):
    seen = observed(row(guest), read(description=OURS + end))
    assert seen.marker == mark()
    assert seen.description == "Web server\nsecond line"
    assert seen.description_raw == OURS + end


def test_a_guest_without_our_marker_keeps_its_text():
    seen = observed(row(LXC), read(description="made by hand\n"))
    assert (seen.marker, seen.description) == (None, "made by hand")


def test_a_guest_without_a_description():
    seen = observed(row(), read())
    assert (seen.marker, seen.description, seen.description_raw) == (None, "", "")


# -- identity ---------------------------------------------------------------------------------------------------------

VM = {
    "smbios1": "uuid=396eae16-9369-4f04-8d2c-3a163a48b0d1,manufacturer=QUNNRQ==,base64=1",
    "meta": "creation-qemu=9.0.2,ctime=1795449387",
    "vmgenid": "74ee4902-3173-4645-b8a6-5163ab887393",
    "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
}
CT = {
    "rootfs": "local-lvm:vm-101-disk-0,size=8G",
    "net1": "name=eth1,bridge=vmbr0,hwaddr=BC:24:11:00:00:02,type=veth",
    "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth",
}


def test_a_vm_is_known_by_uuid_creation_generation_and_our_uid():
    assert identity(QEMU, VM, mark()) == Identity(
        smbios1_uuid="396eae16-9369-4f04-8d2c-3a163a48b0d1",
        ctime="1795449387",
        vmgenid="74ee4902-3173-4645-b8a6-5163ab887393",
        marker_uid="uid-101",
    )


def test_a_container_is_known_by_its_root_volume_its_macs_and_our_uid():
    assert identity(LXC, CT, mark()) == Identity(
        rootfs="local-lvm:vm-101-disk-0", macs=("BC:24:11:00:00:01", "BC:24:11:00:00:02"), marker_uid="uid-101"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"cores": "8", "memory": "4096"},
        {"net0": "virtio=BC:24:11:00:00:09,bridge=vmbr1"},
        {"smbios1": VM["smbios1"] + ",serial=MQ=="},
    ],
)
def test_a_changed_config_is_the_same_vm(change: dict[str, str]):
    assert identity(QEMU, {**VM, **change}, None) == identity(QEMU, VM, None)


@pytest.mark.parametrize("key", ["smbios1", "meta", "vmgenid"])
def test_another_incarnation_of_a_vmid_is_another_vm(key: str):
    renewed = {**VM, key: VM[key].replace("4", "5")}
    assert identity(QEMU, renewed, None) != identity(QEMU, VM, None)


def test_a_container_that_grew_or_was_configured_is_the_same_one():
    no_nets = {"network": "hwaddr=BC:24:11:00:00:07", "dev0": "hwaddr=BC:24:11:00:00:08"}
    grown = {**CT, "rootfs": "local-lvm:vm-101-disk-0,size=16G", "memory": "512", **no_nets}
    assert identity(LXC, grown, None) == identity(LXC, CT, None)


def test_a_container_with_another_root_volume_is_another_one():
    restored = {**CT, "rootfs": "local-lvm:vm-101-disk-1,size=8G"}
    assert identity(LXC, restored, None) != identity(LXC, CT, None)


@pytest.mark.parametrize("guest", list(GuestType))
def test_what_pve_does_not_say_is_empty(guest: GuestType):
    assert identity(guest, {}, None) == Identity()


def test_the_identity_is_part_of_the_observed_guest_with_our_uid():
    seen = observed(row(), read(**VM, description=OURS))
    assert seen.identity == identity(QEMU, VM, mark())

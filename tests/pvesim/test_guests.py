"""Guests as PVE keeps them: what it fills in, what waits until a stop, and what somebody does by hand."""

import re
from itertools import pairwise

import pytest

from tests.pvesim.driving import CT, VM, Sim

PATH = "/nodes/pve1/qemu/900"
TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
MAC = r"BC:24:11:[0-9A-F]{2}:[0-9A-F]{2}:[0-9A-F]{2}"


def put(sim, **params):
    return sim.reply(sim.submit("PUT", f"{PATH}/config", {key: str(value) for key, value in params.items()}))


def test_what_a_create_fills_in():
    sim = Sim()
    status = sim.task(
        "POST", "/nodes/pve1/qemu", vmid=901, name="web", scsi0="local-lvm:32,iothread=1", net0="virtio,bridge=vmbr0",
        ide2="local-lvm:cloudinit", efidisk0="local-lvm:1,efitype=4m", tags="B;a;b", description="text\n\n",
    )  # fmt: skip
    assert status == "OK"
    config = sim.config(901)
    assert config["scsi0"] == "local-lvm:vm-901-disk-1,iothread=1,size=32G"
    assert config["efidisk0"] == "local-lvm:vm-901-disk-0,efitype=4m,size=4M"
    assert config["ide2"] == "local-lvm:vm-901-cloudinit,media=cdrom"
    assert re.fullmatch(f"virtio={MAC},bridge=vmbr0", config["net0"])
    assert (config["tags"], config["description"], config["boot"]) == ("a;b", "text", "order=scsi0;net0")
    assert re.fullmatch(r"uuid=[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", config["smbios1"])
    assert re.fullmatch(r"creation-qemu=[\d.]+,ctime=\d+", config["meta"])
    assert "lock" not in config


def test_what_a_container_gets():
    sim = Sim()
    status = sim.task(
        "POST", "/nodes/pve2/lxc", vmid=801, ostemplate=TEMPLATE, rootfs="local-lvm:8", mp0="local-lvm:2,mp=/data",
        net0="name=eth0,bridge=vmbr0", description="x",
    )  # fmt: skip
    assert status == "OK"
    config = sim.config(801, "lxc", "pve2")
    assert config["rootfs"] == "local-lvm:vm-801-disk-1,size=8G"
    assert config["mp0"] == "local-lvm:vm-801-disk-0,mp=/data,size=2G"
    assert re.fullmatch(f"name=eth0,bridge=vmbr0,hwaddr={MAC},type=veth", config["net0"])
    assert (config["memory"], config["swap"], config["unprivileged"]) == (512, 512, 1)
    assert (config["ostype"], config["hostname"], config["description"]) == ("debian", "CT801", "x\n")


def test_a_clone_carries_the_text_along_and_gets_an_identity_of_its_own():
    sim = Sim(VM | {"config": VM["config"] | {"net0": "virtio,bridge=vmbr0"}})
    put(sim, description="mark", tags="t", protection=1)
    assert sim.task("POST", f"{PATH}/clone", newid=901) == "OK"
    assert sim.task("POST", f"{PATH}/clone", newid=902, description="other", name="web") == "OK"
    source, first, second = sim.config(), sim.config(901), sim.config(902)
    for key in ("description", "tags", "protection", "meta"):
        assert first[key] == source[key]
    for key in ("smbios1", "vmgenid", "net0", "scsi0"):
        assert first[key] != source[key]
    assert (first["name"], second["name"], second["description"]) == ("Copy-of-VM-vm900", "web", "other")
    assert "template" not in first


def test_durations_and_the_time_scale():
    for scale in (1.0, 0.1):
        sim = Sim(VM, VM | {"vmid": 950, "template": True}, scale=scale)
        for method, path, params, seconds in (
            ("POST", f"{PATH}/clone", {"newid": 901}, 10),
            ("POST", "/nodes/pve1/qemu/950/clone", {"newid": 902}, 1),
            ("POST", f"{PATH}/status/start", {}, 1),
            ("POST", f"{PATH}/status/shutdown", {}, 2),
            ("PUT", f"{PATH}/resize", {"disk": "scsi0", "size": "9G"}, 1),
            ("DELETE", PATH, {}, 2),
        ):
            upid = sim.call(method, path, **params).data
            begin = sim.now
            while sim.status(upid)["status"] == "running":
                sim.wait(0.005)
            assert sim.now - begin == pytest.approx(seconds * scale, abs=0.06), path


def test_a_clone_to_another_node_needs_shared_storage():
    sim = Sim(VM, VM | {"vmid": 910, "config": {"scsi0": "shared:4"}}, CT)
    refused = sim.call("POST", f"{PATH}/clone", newid=901, target="pve2")
    assert refused.refusal == (500, "can't clone VM to node 'pve2' (VM uses local storage)")
    refused = sim.call("POST", "/nodes/pve1/lxc/800/clone", newid=901, target="pve2")
    assert refused.refusal == (500, "can't clone CT to node 'pve2' (CT uses local storage)")
    refused = sim.call("POST", "/nodes/pve1/qemu/910/clone", newid=901, target="pve2", storage="local-lvm")
    assert refused.refusal == (500, "can't clone to non-shared storage 'local-lvm'")
    upid = sim.call("POST", "/nodes/pve1/qemu/910/clone", newid=901, target="pve2").data
    sim.wait(1)
    assert sim.config(901)["lock"] == "clone", "the config moves at the end"
    assert sim.ended(upid) == "OK"
    assert sim.config(901, node="pve2")["scsi0"] == "shared:vm-901-disk-0,size=4G"
    gone = sim.call("GET", "/nodes/pve1/qemu/901/config")
    assert gone.refusal == (500, "Configuration file 'nodes/pve1/qemu-server/901.conf' does not exist")


def test_a_number_on_another_node():
    sim = Sim(VM, CT | {"vmid": 901, "node": "pve2"})
    created = sim.call("POST", "/nodes/pve1/qemu", vmid=901)
    assert created.refusal == (500, "unable to create VM 901 - CT 901 already exists on node 'pve2'")
    assert sim.task("POST", f"{PATH}/clone", newid=901).endswith("File exists")
    assert sim.call("POST", "/nodes/pve1/lxc", vmid=900, ostemplate=TEMPLATE).reason == (
        "VM 900 already exists on node 'pve1'"
    )
    assert sim.get("/cluster/nextid") == "100"


def test_a_template_is_not_destroyed_under_its_clones():
    sim = Sim(VM | {"template": True, "config": {"scsi0": "shared:4"}})
    assert sim.task("POST", f"{PATH}/clone", newid=901) == "OK"
    assert sim.config(901)["scsi0"] == "shared:base-900-disk-0/vm-901-disk-0,size=4G"
    status = sim.task("DELETE", PATH)
    assert status == "base volume 'shared:base-900-disk-0' is still in use by linked cloned"
    assert sim.task("POST", f"{PATH}/status/start") == "you can't start a vm if it's a template"


def test_changes_of_a_running_vm_wait_for_its_stop():
    sim = Sim(VM | {"status": "running"})
    assert put(sim, cores=4, memory=64, name="now", tags="now", description="now", onboot=1).status == 200
    assert sim.config()["cores"] == 4
    running = sim.get(f"{PATH}/config", current=1)
    assert ("cores" in running, running["name"], running["memory"]) == (False, "now", "32")
    rows = {row["key"]: row for row in sim.get(f"{PATH}/pending")}
    assert rows["cores"] == {"key": "cores", "pending": 4}
    assert rows["memory"] == {"key": "memory", "value": "32", "pending": "64"}
    put(sim, delete="scsihw,kvm,memory")
    rows = {row["key"]: row for row in sim.get(f"{PATH}/pending")}
    assert rows["memory"] == {"key": "memory", "value": "32", "delete": 1}
    put(sim, revert="memory")
    sim.task("POST", f"{PATH}/status/stop")
    assert sim.get(f"{PATH}/config", current=1)["cores"] == 4
    assert all("pending" not in row and "delete" not in row for row in sim.get(f"{PATH}/pending"))


def test_containers_take_memory_and_cores_at_once():
    sim = Sim(CT | {"status": "running"})
    path = "/nodes/pve1/lxc/800"
    assert sim.call("PUT", f"{path}/config", memory=128, cores=2).status == 200
    running = sim.get(f"{path}/config", current=1)
    assert (running["memory"], running["cores"]) == (128, 2)
    assert sim.call("PUT", f"{path}/resize", disk="rootfs", size="1G").reason == "disk is already at specified size"
    assert sim.call("POST", f"{path}/status/start").refusal == (500, "CT 800 already running")
    assert sim.call("DELETE", path).refusal == (500, "unable to destroy CT 800 - container is running")
    assert sim.task("POST", f"{path}/status/shutdown") == "OK"
    assert sim.call("POST", f"{path}/status/stop").refusal == (500, "CT 800 not running")


def test_disks_leave_and_come_back():
    sim = Sim(VM)
    assert put(sim, scsi1="local-lvm:2").status == 200
    assert sim.config()["scsi1"] == "local-lvm:vm-900-disk-1,size=2G"
    put(sim, delete="scsi1")
    assert sim.config()["unused0"] == "local-lvm:vm-900-disk-1"
    put(sim, scsi1="local-lvm:3")
    put(sim, protection=1)
    assert put(sim, delete="scsi1").reason == "can't remove drive 'scsi1' - protection mode enabled"
    put(sim, delete="protection")
    put(sim, delete="unused0")
    volumes = [row["volid"] for row in sim.get("/nodes/pve1/storage/local-lvm/content", vmid=900)]
    assert volumes == ["local-lvm:vm-900-disk-0", "local-lvm:vm-900-disk-2"]


@pytest.mark.parametrize(
    ("given", "qemu", "lxc"),
    [
        ("mark", "mark", "mark\n"),
        ("mark\n", "mark", "mark\n"),
        ("\n\nmark\n\n", "\n\nmark", "\n\nmark\n"),
        ("a\nmark\nb", "a\nmark\nb", "a\nmark\nb\n"),
        ("%20 %41 ü € # k: v\t[sec]", "%20 %41 ü € # k: v\t[sec]", "%20 %41 ü € # k: v\t[sec]\n"),
        (" mark ", " mark", " mark \n"),
    ],
)
def test_descriptions_round_trip(given, qemu, lxc):
    sim = Sim(VM, CT)
    for kind, vmid, expected in (("qemu", 900, qemu), ("lxc", 800, lxc)):
        sim.call("PUT", f"/nodes/pve1/{kind}/{vmid}/config", description=given)
        config = sim.config(vmid, kind)
        assert config["description"] == expected
        sim.call("PUT", f"/nodes/pve1/{kind}/{vmid}/config", description=expected)
        assert sim.config(vmid, kind)["digest"] == config["digest"] or given != given.strip()


def test_an_empty_value_comes_back_as_a_blank():
    sim = Sim(VM)
    put(sim, tags="", description="")
    config = sim.config()
    assert config["tags"] == " "
    assert "description" not in config


def test_unknown_keys_and_typos_are_refused():
    sim = Sim(VM, CT)
    for kind, vmid, params in (
        ("qemu", 900, {"memroy": 1}),
        ("qemu", 900, {"scsi31": "local-lvm:1"}),
        ("qemu", 900, {"hostname": "x"}),
        ("lxc", 800, {"name": "x"}),
        ("lxc", 800, {"scsi0": "local-lvm:1"}),
        ("lxc", 800, {"nte0": "name=eth0"}),
    ):
        reply = sim.call("PUT", f"/nodes/pve1/{kind}/{vmid}/config", **params)
        assert reply.refusal == (400, "Parameter verification failed.")
        assert list(reply.body["errors"]) == list(params)
    for kind, vmid, params in (
        (
            "qemu",
            900,
            {"ipconfig0": "ip=dhcp", "ciuser": "u", "cpu": "host", "scsihw": "virtio-scsi-single", "agent": 1},
        ),
        ("qemu", 900, {"virtio15": "local-lvm:1", "hostpci0": "0000:01", "vga": "std", "serial0": "socket"}),
        ("lxc", 800, {"features": "nesting=1", "mp9": "local-lvm:1,mp=/x", "startup": "order=1", "nameserver": "::1"}),
    ):
        assert sim.call("PUT", f"/nodes/pve1/{kind}/{vmid}/config", **params).status == 200
    assert sim.mutations()[-1]["params"]["features"] == "nesting=1"


def test_what_is_not_simulated_says_so():
    sim = Sim(VM)
    for method, path in (
        ("POST", f"{PATH}/monitor"), ("POST", f"{PATH}/remote_migrate"), ("POST", f"{PATH}/vncproxy"),
        ("GET", "/cluster/replication"), ("POST", "/nodes/pve1/qemu/900/agent"), ("POST", "/nodes/pve1/lxc/900/config"),
    ):  # fmt: skip
        reply = sim.call(method, path)
        assert reply.refusal == (501, f"Method '{method} {path}' not implemented")
    assert sim.call("POST", "/nodes/pve1/qemu", vmid=901, archive="x", **{"live-restore": 1}).status == 501
    assert sim.mutations()[-1]["effect"] is False


def test_by_hand():
    sim = Sim(VM)
    digests = [sim.config()["digest"]]
    for body in (
        {"vmid": 900, "config": {"description": "edited", "cores": 8}},
        {"vmid": 900, "status": "running"},
        {"vmid": 900, "status": "running"},
        {"vmid": 900, "lock": "backup"},
        {"vmid": 900, "lock": None, "config": {"cores": None}},
    ):
        sim.world.put_guests(body)
        digests.append(sim.config()["digest"])
    assert all(old != new for old, new in pairwise(digests))
    assert sim.config()["description"] == "edited"
    assert sim.get(f"{PATH}/status/current")["status"] == "running"
    sim.world.put_guests({"vmid": 77000, "type": "lxc", "node": "pve3", "name": "new", "config": {"memory": 256}})
    assert sim.config(77000, "lxc", "pve3")["hostname"] == "new"
    sim.world.put_guests({"vmid": 900, "deleted": True})
    assert sim.call("GET", f"{PATH}/config").status == 500
    assert sim.mutations() == []


def test_a_recreated_number_shows_its_predecessor_for_a_while():
    sim = Sim(VM)
    sim.task("DELETE", PATH)
    sim.task("POST", "/nodes/pve1/qemu", vmid=900, name="second")
    names = set()
    for _ in range(30):
        names |= {row.get("name") for row in sim.get("/cluster/resources", type="vm")}
        sim.wait(0.5)
    assert "second" in names
    assert sim.get("/nodes/pve1/qemu")[0]["name"] == "second"


def test_ten_thousand_guests():
    guests = [
        {"vmid": 100 + n, "type": "qemu", "node": f"pve{n % 3 + 1}", "config": {"name": f"g{n}"}} for n in range(10_000)
    ]
    sim = Sim(*guests)
    assert len(sim.get("/cluster/resources", type="vm")) == 10_000

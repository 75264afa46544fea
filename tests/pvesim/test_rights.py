"""Rights by path: users, tokens, roles, pools, and who sees which task."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

QEMU = "/nodes/pve1/qemu/900"
AGENT = "PVEAPIToken=agent@pve!ag=s"
TOKENS = [{"id": "agent@pve!ag", "secret": "s", "privsep": 1}]


def sim_with(*acl, guests=(VM, CT), token=TOKENS, **spec):
    entries = [{"path": path, key: name, "role": role} for path, role in acl
               for key, name in (("ugid", "agent@pve"), ("token", "agent@pve!ag"))]  # fmt: skip
    return Sim(*guests, tokens=token, acl=entries, **spec)


def call(sim, method, path, **params):
    return sim.reply(sim.submit(method, path, {k: str(v) for k, v in params.items()}, header=AGENT))


def test_a_separated_token_has_what_both_have():
    sim = Sim(VM, tokens=TOKENS, acl=[{"path": "/vms", "ugid": "agent@pve", "role": "PVEVMAdmin"}])
    assert call(sim, "GET", f"{QEMU}/config").refusal == (403, "Permission check failed (/vms/900, VM.Audit)")
    sim.call("PUT", "/access/acl", path="/vms/900", tokens="agent@pve!ag", roles="PVEAuditor")
    assert call(sim, "GET", f"{QEMU}/config").status == 200
    assert call(sim, "POST", f"{QEMU}/status/start").refusal == (
        403, "Permission check failed (/vms/900, VM.PowerMgmt)",
    )  # fmt: skip
    assert call(sim, "GET", "/access/permissions").data == {"/vms/900": {"VM.Audit": 1, "VM.GuestAgent.Audit": 1}}
    sim.call("PUT", "/access/acl", path="/vms/900", tokens="agent@pve!ag", roles="PVEAuditor", delete=1)
    assert call(sim, "GET", f"{QEMU}/config").status == 403


def test_the_deepest_entry_counts():
    sim = sim_with(("/vms", "PVEVMAdmin"), ("/vms/900", "NoAccess"))
    assert [row["vmid"] for row in call(sim, "GET", "/cluster/resources", type="vm").data] == [800]
    assert call(sim, "GET", "/nodes/pve1/qemu").data == []
    assert call(sim, "GET", f"{QEMU}/config").status == 403
    assert call(sim, "GET", "/cluster/resources", type="storage").data == []
    assert set(call(sim, "GET", "/nodes").data[0]) == {"id", "node", "type", "level", "status", "ssl_fingerprint"}


def test_each_option_has_its_right():
    sim = sim_with(("/vms", "only-cpu"), roles={"only-cpu": ["VM.Config.CPU", "VM.Audit", "VM.Config.Network"]})
    assert call(sim, "PUT", f"{QEMU}/config", cores=2).status == 200
    for params, privilege in (
        ({"memory": 64}, "VM.Config.Memory"), ({"description": "x"}, "VM.Config.Options"),
        ({"scsi1": "local-lvm:1"}, "VM.Config.Disk"), ({"delete": "scsi0"}, "VM.Config.Disk"),
        ({"kvm": 1}, "VM.Config.HWType"),
    ):  # fmt: skip
        assert call(sim, "PUT", f"{QEMU}/config", **params).refusal == (
            403, f"Permission check failed (/vms/900, {privilege})",
        )  # fmt: skip
    assert call(sim, "PUT", f"{QEMU}/config", net0="virtio,bridge=vmbr0").refusal == (
        403, "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)",
    )  # fmt: skip
    assert call(sim, "PUT", "/nodes/pve1/lxc/800/config", memory=64).status == 403


def test_create_and_clone():
    sim = sim_with(("/vms", "PVEVMAdmin"))
    assert call(sim, "POST", "/nodes/pve1/qemu", vmid=950, scsi0="local-lvm:1").refusal == (
        403, "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)",
    )  # fmt: skip
    assert call(sim, "POST", "/nodes/pve1/qemu", vmid=950).status == 200
    assert call(sim, "POST", f"{QEMU}/clone", newid=951, storage="local-lvm").status == 403
    assert call(sim, "POST", f"{QEMU}/clone", newid=951).status == 200
    one = sim_with(("/vms/900", "PVEVMAdmin"))
    assert call(one, "POST", f"{QEMU}/clone", newid=951).refusal == (403, "Permission check failed")
    assert call(one, "POST", "/nodes/pve1/qemu", vmid=950).refusal == (403, "Permission check failed")


def test_backups_and_their_restore():
    sim = sim_with(("/vms/900", "PVEVMAdmin"))
    assert call(sim, "POST", "/nodes/pve1/vzdump", vmid=900, storage="backup").refusal == (
        403, "Permission check failed (/storage/backup, Datastore.AllocateSpace)",
    )  # fmt: skip
    sim.call("PUT", "/access/acl", path="/storage", users="agent@pve", tokens="agent@pve!ag", roles="PVEDatastoreUser")
    upid = call(sim, "POST", "/nodes/pve1/vzdump", vmid="800,900", storage="backup").data
    assert sim.ended(upid) == "403 Permission check failed (/vms/800, VM.Backup)"
    assert sim.ended(call(sim, "POST", "/nodes/pve1/vzdump", vmid=900, storage="backup").data) == "OK"
    sim.task("POST", "/nodes/pve1/vzdump", vmid=800, storage="backup")
    shown = call(sim, "GET", "/nodes/pve1/storage/backup/content").data
    assert [row["vmid"] for row in shown] == [900]
    volid = shown[0]["volid"]
    assert call(sim, "DELETE", f"/nodes/pve1/storage/backup/content/{volid}").status == 200


def test_pools():
    sim = sim_with(("/pool/p1", "PVEVMAdmin"), ("/pool/p1", "PVEPoolUser"))
    assert sim.call("POST", "/pools", poolid="p1", comment="c").data is None
    assert sim.call("POST", "/pools", poolid="p1").refusal == (500, "create pool failed: pool 'p1' already exists")
    sim.call("PUT", "/pools", poolid="p1", vms="900")
    assert call(sim, "GET", f"{QEMU}/config").status == 200
    assert call(sim, "GET", "/nodes/pve1/lxc/800/config").status == 403
    assert [row["poolid"] for row in call(sim, "GET", "/pools").data] == ["p1"]
    assert next(r for r in sim.get("/cluster/resources", type="vm") if r["vmid"] == 900)["pool"] == "p1"
    assert call(sim, "POST", "/nodes/pve1/qemu", vmid=950, pool="p1").status == 200
    sim.wait(3)
    assert [row["vmid"] for row in sim.get("/pools/p1")["members"]] == [900, 950]
    for params, text in (
        ({"poolid": "p1", "vms": "900"}, "VM 900 is already a pool member"),
        ({"poolid": "p1", "vms": "800", "delete": 1}, "VM 800 is not a pool member"),
        ({"poolid": "no"}, "pool 'no' does not exist"),
    ):
        assert sim.call("PUT", "/pools", **params).refusal == (500, f"update pools failed: {text}")
    sim.call("POST", "/pools", poolid="p2")
    assert sim.call("PUT", "/pools", poolid="p2", vms="900").reason.endswith("'allow-move' is not set")
    assert sim.call("PUT", "/pools", poolid="p2", vms="900", **{"allow-move": 1}).data is None
    assert sim.call("DELETE", "/pools", poolid="p2").refusal == (
        500, "delete pool failed: pool 'p2' is not empty (contains VM 900)",
    )  # fmt: skip
    sim.task("DELETE", QEMU)
    assert sim.call("DELETE", "/pools/p2").data is None
    assert sim.call("POST", "/nodes/pve1/qemu", vmid=960, pool="nope").refusal == (
        403, "Permission check failed (pool 'nope' does not exist)",
    )  # fmt: skip


def test_a_setup_command():
    sim = Sim()
    assert sim.call("POST", "/access/roles", roleid="Agent", privs="VM.Audit,VM.PowerMgmt").data is None
    assert sim.call("POST", "/access/roles", roleid="PVEx").status == 400
    assert sim.call("PUT", "/access/roles/PVEAdmin", privs="VM.Audit").refusal == (
        500, "auto-generated role 'PVEAdmin' cannot be modified",
    )  # fmt: skip
    assert sim.call("POST", "/access/users", userid="agent@pve", comment="c").data is None
    assert sim.call("POST", "/access/users", userid="agent@pve").refusal == (
        500, "create user failed: user 'agent@pve' already exists",
    )  # fmt: skip
    made = sim.call("POST", "/access/users/agent@pve/token/ag").data
    for params in ({"users": "agent@pve"}, {"tokens": "agent@pve!ag"}):
        assert sim.call("PUT", "/access/acl", path="/vms", roles="Agent", **params).data is None
    assert len(sim.get("/access/acl")) == 2
    header = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
    granted = sim.reply(sim.submit("GET", "/access/permissions", {}, header=header)).data
    assert granted == {"/vms": {"VM.Audit": 1, "VM.PowerMgmt": 1}}
    assert sim.reply(sim.submit("GET", "/access/users", {}, header=header)).data[0]["userid"] == "agent@pve"
    sim.call("PUT", "/access/roles/Agent", privs="VM.Snapshot", append=1)
    assert "VM.Snapshot" in sim.get("/access/roles/Agent")
    sim.call("PUT", "/access/users/agent@pve", enable=0)
    assert sim.reply(sim.submit("GET", "/version", {}, header=header)).status == 401
    sim.call("DELETE", "/access/users/agent@pve")
    assert sim.get("/access/acl") == []
    assert sim.call("PUT", "/access/acl", path="/nonsense", roles="Agent", users="root@pam").status == 400


@pytest.mark.parametrize(("grants", "node_all", "cluster", "log"), [
    ((), False, "none", "own"),
    ((("/nodes/pve1", "Sys.Audit"),), True, "none", "own"),
    ((("/", "Sys.Audit"),), True, "all", "own"),
    ((("/", "Sys.Syslog"),), False, "none", "all"),
])  # fmt: skip
def test_who_sees_which_task(grants, node_all, cluster, log):
    roles = {f"r{n}": [privilege] for n, (_, privilege) in enumerate(grants)}
    sim = sim_with(
        ("/vms/900", "power"), *((path, f"r{n}") for n, (path, _) in enumerate(grants)),
        roles={"power": ["VM.PowerMgmt", "VM.Audit"], **roles},
    )  # fmt: skip
    theirs = sim.call("POST", "/nodes/pve1/lxc/800/status/start").data
    own = call(sim, "POST", f"{QEMU}/status/start").data
    sim.wait(5)

    def upids(path, **params):
        return {row["upid"] for row in call(sim, "GET", path, **params).data}

    assert upids("/nodes/pve1/tasks", source="all") == ({own, theirs} if node_all else {own})
    assert upids("/cluster/tasks") == ({own, theirs} if cluster == "all" else set())
    messages = str(call(sim, "GET", "/cluster/log").data)
    assert (own in messages, theirs in messages) == (True, log == "all")
    assert call(sim, "GET", f"/nodes/pve1/tasks/{theirs}/status").status == (200 if node_all else 403)
    assert call(sim, "GET", f"/nodes/pve1/tasks/{own}/status").status == 200


def test_rights_are_looked_at_before_parameters_and_nodes():
    sim = sim_with()
    assert call(sim, "PUT", f"{QEMU}/config", nonsense=1).status == 403
    sim.control("node_down", node="pve2")
    assert call(sim, "GET", "/nodes/pve2/qemu/900/config").status == 403
    expiring = Sim(VM, tokens=[{"id": "a@pve!tt", "secret": "s", "expire": int(Sim().now) + 10}])
    header = "PVEAPIToken=a@pve!tt=s"
    assert expiring.reply(expiring.submit("GET", "/version", {}, header=header)).status == 200
    expiring.wait(20)
    assert expiring.reply(expiring.submit("GET", "/version", {}, header=header)).status == 401

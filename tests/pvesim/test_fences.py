"""What stops a late request: exactly one of two wins, whichever way it was held up, and with the recorded words."""

import pytest

from tests.pvesim.driving import CT, VM, Sim

STALE = "checksum mismatch (file change by other user?)"
LXC_STALE = "detected modified configuration - file changed by other user? Try again."
PROTECTED = "can't remove VM 900 - protection mode enabled"
GONE = "Configuration file 'nodes/pve1/qemu-server/900.conf' does not exist"
PATH = "/nodes/pve1/qemu/900"


def race(sim, late, fence, gap):
    """Send both, `fence` so many seconds after `late` (or before it); their replies."""
    first, second = (late, fence) if gap >= 0 else (fence, late)
    tickets = {id(first): sim.send(first[0], first[1], **first[2])}
    sim.wait(abs(gap))
    tickets[id(second)] = sim.send(second[0], second[1], **second[2])
    replies = sim.reply(tickets[id(late)]), sim.reply(tickets[id(fence)])
    sim.wait(5)
    return replies


GAPS = [-0.012, -0.004, 0.0, 0.002, 0.005, 0.01, 0.03, 0.08, 0.15]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("status", ["stopped", "running"])
def test_config_against_a_new_marker(method, status, gap):
    for seed in range(3):
        sim = Sim(VM | {"status": status}, seed=seed)
        digest = sim.config()["digest"]
        late, fence = race(
            sim,
            (method, f"{PATH}/config", {"cores": 3, "digest": digest}),
            ("PUT", f"{PATH}/config", {"description": "mark", "digest": digest}),
            gap,
        )
        config = sim.config()
        assert ("cores" in config) != ("description" in config)
        assert (fence.status == 200) == ("description" in config)
        if fence.status != 200:
            assert fence.refusal == (500, STALE)
        elif late.status == 200:
            assert sim.ended(late.data) == STALE
        else:
            assert late.refusal == (500, STALE)
        assert sim.effects().count(True) == 1


@pytest.mark.parametrize("gap", GAPS)
def test_destroy_against_protection(gap):
    outcomes = set()
    for seed in range(6):
        sim = Sim(VM, seed=seed)
        digest = sim.config()["digest"]
        late, fence = race(
            sim,
            ("DELETE", PATH, {}),
            ("PUT", f"{PATH}/config", {"protection": 1, "description": "x", "digest": digest}),
            gap,
        )
        there = sim.call("GET", f"{PATH}/config").status == 200
        assert (fence.status == 200) == there
        outcomes.add(there)
        if there:
            assert sim.config()["protection"] == 1
            assert late.refusal == (500, PROTECTED) or sim.ended(late.data) == PROTECTED
            assert sim.get("/nodes/pve1/storage/local-lvm/content", vmid=900)
        else:
            assert fence.refusal in {(500, GONE), (500, STALE)}
            assert sim.ended(late.data) == "OK"
    assert outcomes


@pytest.mark.parametrize("gap", GAPS)
def test_container_config_and_destroy(gap):
    sim = Sim(CT)
    path = "/nodes/pve1/lxc/800"
    digest = sim.config(800, "lxc")["digest"]
    late, fence = race(
        sim,
        ("PUT", f"{path}/config", {"memory": 128, "digest": digest}),
        ("PUT", f"{path}/config", {"description": "mark", "digest": digest}),
        gap,
    )
    assert sorted([late.status, fence.status]) == [200, 500]
    loser = late if late.status == 500 else fence
    assert loser.reason == LXC_STALE
    late, fence = race(sim, ("DELETE", path, {}), ("PUT", f"{path}/config", {"protection": 1}), gap)
    there = sim.call("GET", f"{path}/config").status == 200
    assert (fence.status == 200) == there


@pytest.mark.parametrize("gap", GAPS)
def test_resize_against_a_new_marker(gap):
    sim = Sim(VM)
    digest = sim.config()["digest"]
    late, fence = race(
        sim,
        ("PUT", f"{PATH}/resize", {"disk": "scsi0", "size": "+8M", "digest": digest}),
        ("PUT", f"{PATH}/config", {"description": "mark", "digest": digest}),
        gap,
    )
    status = sim.ended(late.data)
    assert (fence.status == 200) == (status == STALE)
    assert (fence.status == 200) == (sim.config()["scsi0"].endswith("size=1G"))


def test_four_simultaneous_puts_with_one_digest():
    for seed in range(20):
        sim = Sim(VM, seed=seed)
        digest = sim.config()["digest"]
        tickets = [sim.send("PUT", f"{PATH}/config", name=f"racer{n}", digest=digest) for n in range(4)]
        assert sorted(sim.reply(ticket).status for ticket in tickets) == [200, 500, 500, 500]


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("pair", ["create-create", "clone-create", "clone-clone"])
def test_one_number_is_given_once(pair, gap):
    first, second = pair.split("-")
    calls = {
        "create": ("POST", "/nodes/pve1/qemu", {"vmid": 760, "name": "made", "scsi0": "local-lvm:1"}),
        "clone": ("POST", f"{PATH}/clone", {"newid": 760, "name": "cloned"}),
    }
    sim = Sim(VM)
    other = (*calls[second][:2], calls[second][2] | {"name": "other"})
    replies = race(sim, calls[first], other, gap)
    ends = [sim.ended(reply.data) for reply in replies if reply.status == 200]
    assert ends.count("OK") == 1
    words = {reply.reason for reply in replies if reply.status != 200} | {end for end in ends if end != "OK"}
    assert words <= {
        "unable to create VM 760 - VM 760 already exists on node 'pve1'",
        "unable to create VM 760: config file already exists",
        "can't lock file '/var/lock/qemu-server/lock-760.conf' - got timeout",
        "unable to create VM 760 - can't lock file '/var/lock/qemu-server/lock-760.conf' - got timeout",
        "unable to create VM 760 - VM is locked (clone)",
    }
    assert sim.effects().count(True) == 1
    assert len(sim.get("/nodes/pve1/storage/local-lvm/content", vmid=760)) == 1
    assert "lock" not in sim.config(760)


@pytest.mark.parametrize("restored", [True, False])
def test_restoring_the_old_text_breaks_the_fence(restored):
    sim = Sim(VM | {"config": VM["config"] | {"description": "old"}})
    digest = sim.config()["digest"]
    sim.fault("late", method="PUT", path="config$", delay_s=60)
    assert sim.call("PUT", f"{PATH}/config", cores=4, digest=digest).hung_up
    assert sim.call("PUT", f"{PATH}/config", description="mark", digest=digest).status == 200
    if restored:
        sim.call("PUT", f"{PATH}/config", description="old")
        assert sim.config()["digest"] == digest
    sim.wait(61)
    assert ("cores" in sim.config()) == restored


def test_a_fence_that_writes_what_is_there_changes_nothing():
    sim = Sim(VM | {"config": VM["config"] | {"description": "same"}})
    digest = sim.config()["digest"]
    sim.fault("late", method="POST", path="config$", delay_s=60)
    assert sim.call("POST", f"{PATH}/config", cores=4, digest=digest).hung_up
    assert sim.call("PUT", f"{PATH}/config", description="same\n", digest=digest).status == 200
    assert sim.config()["digest"] == digest
    sim.wait(61)
    assert sim.config()["cores"] == 4


def test_lifted_protection_lets_the_late_destroy_through():
    sim = Sim(VM)
    sim.fault("late", method="DELETE", path="qemu/900$", delay_s=60)
    assert sim.call("DELETE", PATH).hung_up
    sim.call("PUT", f"{PATH}/config", protection=1)
    sim.call("PUT", f"{PATH}/config", delete="protection")
    sim.wait(70)
    assert sim.call("GET", f"{PATH}/config").reason == GONE


def test_a_fence_behind_a_busy_lock_fails_after_ten_seconds():
    sim = Sim(VM | {"status": "running", "acpi": False})
    sim.call("POST", f"{PATH}/status/shutdown", timeout=30)
    reply = sim.call("PUT", f"{PATH}/config", description="mark")
    assert reply.refusal == (500, "can't lock file '/var/lock/qemu-server/lock-900.conf' - got timeout")
    assert 10 <= reply.seconds < 10.1
    sim.wait(30)
    assert "description" not in sim.config()


@pytest.mark.parametrize(("version", "seconds"), [("9.2", 0.1), ("8.4", 1.5)])
def test_a_stale_digest_is_seen_before_the_lock_only_by_the_newer_version(version, seconds):
    sim = Sim(VM | {"status": "running", "acpi": False}, version=version)
    sim.call("POST", f"{PATH}/status/shutdown", timeout=3, forceStop=1)
    sim.wait(0.5)
    reply = sim.call("PUT", f"{PATH}/config", description="mark", digest="0" * 40)
    assert reply.refusal == (500, STALE)
    assert (reply.seconds < seconds) == (version == "9.2")


@pytest.mark.parametrize(("version", "expected"), [("9.2", (500, "VM is locked (create)")), ("8.4", (200, "OK"))])
def test_put_while_the_create_runs(version, expected):
    sim = Sim(version=version)
    sim.call("POST", "/nodes/pve1/qemu", vmid=900)
    assert sim.call("PUT", f"{PATH}/config", description="mark").refusal == expected


def test_config_post_of_the_older_version_holds_the_lock_into_the_task():
    sim = Sim(VM, version="8.4")
    digest = sim.config()["digest"]
    assert sim.call("POST", f"{PATH}/config", cores=2, digest="0" * 40).refusal == (500, STALE)
    assert sim.task("POST", f"{PATH}/config", cores=2, digest=digest) == "OK"
    assert sim.call("PUT", f"{PATH}/config", cores=3).status == 200


def test_parallel_clones_of_one_source():
    sim = Sim(VM)
    upids = [sim.call("POST", f"{PATH}/clone", newid=n).data for n in (901, 902)]
    assert [sim.ended(upid) for upid in upids] == ["OK", "OK"]
    sim = Sim(VM | {"status": "running"})
    upids = [sim.call("POST", f"{PATH}/clone", newid=n).data for n in (901, 902)]
    locked = "clone failed: can't lock file '/var/lock/qemu-server/lock-900.conf' - got timeout"
    assert sorted(sim.ended(upid) for upid in upids) == ["OK", locked]
    sim = Sim(CT)
    sim.call("POST", "/nodes/pve1/lxc/800/clone", newid=801)
    refused = sim.call("POST", "/nodes/pve1/lxc/800/clone", newid=802)
    assert refused.refusal == (500, "CT is locked (disk)")
    assert sim.call("GET", "/nodes/pve1/lxc/802/config").status == 500


@pytest.mark.parametrize(
    ("work", "answer"),
    [
        (("POST", f"{PATH}/status/start", {}), (200, "OK")),
        (("POST", f"{PATH}/clone", {"newid": 901}), (200, "OK")),
        (("POST", f"{PATH}/config", {"scsi3": "local-lvm:1"}), (500, STALE)),  # the disk has changed the text
        (("PUT", f"{PATH}/resize", {"disk": "scsi0", "size": "2G"}), (500, STALE)),
        (("DELETE", PATH, {}), (500, GONE)),
    ],
)
def test_an_identical_put_finds_out_whether_somebody_is_at_work(work, answer):
    sim = Sim(VM | {"config": VM["config"] | {"description": "same"}}, durations={"qmclone": 4})
    digest = sim.config()["digest"]
    probe = sim.call("PUT", f"{PATH}/config", description="same", digest=digest)
    assert (probe.status, probe.seconds < 0.05) == (200, True)
    sim.call(work[0], work[1], **work[2])
    probe = sim.call("PUT", f"{PATH}/config", description="same", digest=digest)
    assert probe.seconds > 0.5
    assert probe.refusal == answer
    assert sim.mutations()[-1]["effect"] is False

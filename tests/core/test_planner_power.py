"""Starting is safe; what interrupts follows `disruption`; HA is told through PVE, and left alone while it works."""

import pytest

from tests.core.planning import CONFIG, LXC, diffs, kinds, one, seen, template, want
from trueup.model.guests import Power, Restart, Snapshot
from trueup.model.plan import Bucket

SATURDAY_0230_BERLIN = 1_782_520_200_000  # 2026-06-27T00:30:00Z
WINDOW = "Sat 02:00-04:00 Europe/Berlin"


def stop(**more):
    return want(power=Power.STOPPED, **more)


def test_a_stopped_guest_is_started():
    guest = one(want(), seen(status=Power.STOPPED))
    assert (guest.bucket, kinds(guest)) == (Bucket.POWER, ["start"])
    assert diffs(guest) == {"power": ("stopped", "running")}
    assert guest.ops[0].goal == {"power": "running"}


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        (want(power=Power.IGNORE), seen(status=Power.STOPPED)),
        (want(power=Power.IGNORE), seen()),
        (stop(), seen(status=Power.STOPPED)),
        (want(9000, config={}, name="golden"), template(marker=seen(9000).marker)),
    ],
)
def test_what_is_as_wanted_or_nobodys_business_is_left(desired, observed):
    assert one(desired, observed).bucket is Bucket.UNCHANGED


def test_an_unknown_state_is_left_alone_and_said():
    guest = one(want(), seen(status=Power.UNKNOWN))
    assert guest.bucket is Bucket.UNCHANGED
    assert "does not tell whether it runs" in guest.notes[0]


def test_a_running_guest_is_shut_down_where_that_is_allowed():
    guest = one(stop(restart=Restart.ALLOWED), seen())
    assert (guest.bucket, kinds(guest)) == (Bucket.POWER, ["shutdown"])
    assert guest.ops[0].goal == {"power": "stopped"}


def test_it_is_stopped_hard_only_after_a_shutdown_failed():
    guest = one(stop(restart=Restart.ALLOWED), seen(), shutdown_failed=frozenset({101}))
    assert (guest.bucket, kinds(guest)) == (Bucket.POWER, ["stop"])
    assert kinds(one(stop(), seen(), shutdown_failed=frozenset({101}))) == []


def test_it_is_blocked_where_the_manifest_does_not_allow_it():
    guest = one(stop(), seen())
    assert guest.bucket is Bucket.BLOCKED
    assert "does not allow an interruption (set `disruption: {restart: allowed}`" in guest.blocked_by
    assert diffs(guest) == {"power": ("running", "stopped")}


def test_it_waits_for_its_window():
    inside = one(stop(restart=WINDOW), seen(), now_ms=SATURDAY_0230_BERLIN)
    assert kinds(inside) == ["shutdown"]
    outside = one(stop(restart=WINDOW), seen(), now_ms=SATURDAY_0230_BERLIN + 2 * 3_600_000)
    assert outside.blocked_by == f"waits for its window: {WINDOW}"
    nonsense = one(stop(restart="some time"), seen())
    assert "is no window" in nonsense.blocked_by


def test_what_may_not_be_stopped_is_still_configured():
    guest = one(stop(config={**CONFIG, "cores": "4"}), seen())
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["configure"])
    assert "does not allow" in guest.notes[-1]


def test_config_comes_before_power():
    assert kinds(one(want(config={"cores": "4"}), seen(status=Power.STOPPED))) == ["configure", "start"]


@pytest.mark.parametrize("state", ["started", "stopped", "disabled", "ignored", ""])
def test_ha_is_told_through_pves_own_calls(state):
    assert kinds(one(want(), seen(status=Power.STOPPED, ha=state))) == ["start"]
    assert kinds(one(stop(restart=Restart.ALLOWED), seen(ha=state))) == ["shutdown"]


@pytest.mark.parametrize(
    "state",
    [
        *("queued", "request_start", "request_start_balance", "request_stop"),
        *("migrate", "relocate", "fence", "recovery", "freeze"),
    ],
)
def test_while_ha_is_at_work_nothing_is_asked_of_it(state):
    guest = one(want(), seen(status=Power.STOPPED, ha=state))
    assert (guest.bucket, guest.blocked_by) == (Bucket.BLOCKED, f"HA is at work on it (state {state})")
    assert kinds(one(want(config={"cores": "4"}), seen(status=Power.STOPPED, ha=state))) == ["configure"]


def test_what_ha_has_given_up_has_to_be_mended_by_people():
    guest = one(want(), seen(status=Power.STOPPED, ha="error"))
    assert guest.bucket is Bucket.BLOCKED
    assert "must be disabled and fixed first (`ha-manager set vm:101 --state disabled`" in guest.blocked_by
    box = one(stop(type=LXC, config={}, restart=Restart.ALLOWED), seen(type=LXC, config={}, ha="error"))
    assert "`ha-manager set ct:101 --state disabled`" in box.blocked_by
    as_wanted = one(want(), seen(ha="error"))
    assert as_wanted.bucket is Bucket.UNCHANGED
    assert "HA has given it up" in as_wanted.notes[0]


def test_what_waits_for_a_restart_is_no_difference_but_said():
    guest = one(want(), seen(pending=("memory", "args")))
    assert guest.bucket is Bucket.UNCHANGED
    assert guest.notes == ("memory waits for a restart, which the manifest does not allow",)
    two = one(want(), seen(pending=("cores", "memory")))
    assert two.notes == ("cores, memory wait for a restart, which the manifest does not allow",)


def test_it_is_rebooted_for_what_waits_where_that_is_allowed():
    guest = one(want(restart=Restart.ALLOWED), seen(pending=("memory", "args", "cores")))
    assert (guest.bucket, kinds(guest)) == (Bucket.POWER, ["reboot"])
    assert (guest.ops[0].params, guest.ops[0].goal) == ({}, {"pending": "cores,memory"})
    assert diffs(guest) == {"pending": ("cores,memory", "")}


def test_a_reboot_waits_for_its_window():
    outside = one(want(restart=WINDOW), seen(pending=("memory",)), now_ms=SATURDAY_0230_BERLIN + 2 * 3_600_000)
    assert outside.bucket is Bucket.UNCHANGED
    assert outside.notes == (f"memory waits for a restart; waits for its window: {WINDOW}",)
    inside = one(want(restart=WINDOW), seen(pending=("memory",)), now_ms=SATURDAY_0230_BERLIN)
    assert kinds(inside) == ["reboot"]


def test_a_reboot_waits_while_ha_is_at_work():
    guest = one(want(restart=Restart.ALLOWED), seen(pending=("memory",), ha="migrate"))
    assert guest.notes == ("memory waits for a restart; HA is at work on it (state migrate)",)
    assert guest.ops == ()


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        (want(restart=Restart.ALLOWED), seen(pending=("args",))),
        (want(restart=Restart.ALLOWED, power=Power.IGNORE), seen(pending=("memory",), status=Power.STOPPED)),
    ],
)
def test_no_reboot_for_others_values_nor_of_a_stopped_guest(desired, observed):
    assert one(desired, observed).ops == ()


def test_a_guest_that_is_to_stop_is_not_rebooted_first():
    assert kinds(one(stop(restart=Restart.ALLOWED), seen(pending=("memory",)))) == ["shutdown"]


def test_a_guest_becomes_a_template_once_it_is_stopped():
    desired = want(template=True, restart=Restart.ALLOWED)
    assert kinds(one(desired, seen())) == ["shutdown", "template"]
    guest = one(desired, seen(status=Power.STOPPED))
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["template"])
    assert diffs(guest) == {"template": ("", "1")}
    assert one(desired, seen(status=Power.STOPPED, template=True)).bucket is Bucket.UNCHANGED


@pytest.mark.parametrize(
    ("desired", "observed", "why"),
    [
        (want(template=True), seen(status=Power.STOPPED), "the manifest does not allow"),
        (want(template=True, restart=Restart.ALLOWED), seen(status=Power.UNKNOWN), "does not tell whether it runs"),
        (
            want(template=True, restart=Restart.ALLOWED),
            seen(status=Power.STOPPED, snapshots={"b": Snapshot(name="b"), "a": Snapshot(name="a")}),
            "with snapshots (a, b; `trueup request snapshot-delete 101 --param snapshot=a`)",
        ),
    ],
)
def test_what_keeps_a_guest_from_becoming_a_template(desired, observed, why):
    guest = one(desired, observed)
    assert guest.bucket is Bucket.BLOCKED
    assert why in guest.blocked_by


def test_a_template_is_made_only_of_what_is_as_wanted():
    desired = want(template=True, restart=Restart.ALLOWED, config={"scsi0": {"storage": "ceph", "size": "32G"}})
    guest = one(desired, seen(status=Power.STOPPED))
    assert (guest.bucket, guest.ops) == (Bucket.NEEDS_APPROVAL, ())
    assert "only once its config is as wanted" in guest.notes[-1]

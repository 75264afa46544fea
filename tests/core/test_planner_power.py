"""Starting is safe; stopping follows `disruption`; HA has its own hands on its guests."""

import pytest

from tests.core.planning import CONFIG, LXC, diffs, kinds, one, seen, template, want
from trueup.model.guests import Power, Restart
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
    assert kinds(one(stop(restart=Restart.ALLOWED), seen(), shutdown_failed=frozenset({101}))) == ["stop"]
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


def test_ha_starts_and_stops_its_guests_itself():
    guest = one(want(), seen(status=Power.STOPPED, ha="stopped"))
    assert guest.bucket is Bucket.BLOCKED
    assert guest.ops == ()
    assert "managed by HA, which has it in state stopped (`ha-manager set vm:101 --state started`)" in guest.blocked_by
    box = one(stop(type=LXC, config={}), seen(type=LXC, config={}, ha="started"))
    assert "`ha-manager set ct:101 --state stopped`" in box.blocked_by


def test_ha_leaves_configs_to_us():
    guest = one(want(config={"cores": "4"}), seen(status=Power.STOPPED, ha="stopped"))
    assert (guest.bucket, kinds(guest)) == (Bucket.UPDATE, ["configure"])
    assert "managed by HA" in guest.notes[-1]


def test_ha_that_ignores_a_guest_is_no_ha():
    assert kinds(one(want(), seen(status=Power.STOPPED, ha="ignored"))) == ["start"]

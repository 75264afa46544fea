"""What a plan shows of copies that nobody has to delete (with the command), and of secrets (nothing)."""

import json

from tests.core.planning import CONFIG, HERE, all_of, mark, one, seen, want
from trueup.core import marker as markers
from trueup.edges.cli import plan_view, shapes
from trueup.model.guests import Snapshot, SnapshotPolicy

NOON = 1_795_867_200_000  # 2026-11-28T12:00Z


def test_copies_that_are_too_many_are_offered_where_nothing_differs(capsys):
    text = markers.render("", mark(installation=HERE))
    names = ("auto-20261126-0200", "auto-20261127-0200", "auto-20261128-0200")
    snapshots = {name: Snapshot(name=name, description=text, taken_s=1) for name in names}
    policy = SnapshotPolicy(schedule="daily 02:00", keep=2)
    whole = all_of([want(snapshots=policy)], seen(snapshots=snapshots), now_ms=NOON)
    assert not plan_view.has_changes(whole)
    plan_view.show(whole)
    shown = capsys.readouterr().out
    assert "g-101: auto-20261126-0200 is more than the 2 to be kept" in shown
    assert "trueup request snapshot-delete 101 --param snapshot=auto-20261126-0200" in shown
    assert "No changes: 1 unchanged." in shown


def test_a_password_is_in_no_plan(capsys):
    secret = want(config={**CONFIG, "cipassword": "hunter2"})
    guest = one(secret, seen())
    assert guest.ops[0].params["cipassword"] == "hunter2"
    plan_view.show_guest(guest)
    assert "hunter2" not in capsys.readouterr().out + json.dumps(shapes.plan(all_of([secret], seen())))

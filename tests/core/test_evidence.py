"""What was not looked at counts as not known: an evidence that nobody filled in closes nothing and claims nothing."""

from msgspec.structs import asdict

from trueup.core.probes import Finding, Landing
from trueup.core.recovery import Evidence, FenceState, Lock, Task


def test_what_is_not_filled_in_is_the_cautious_side() -> None:
    assert asdict(Evidence()) == {
        "task": Task.UNKNOWN,
        "upid": "",
        "exit_status": "",
        "finding": Finding(landing=Landing.UNREADABLE),
        "fence": FenceState.NO_KIND,
        "seen_behind_fence": False,
        "settled": False,
        "lock": Lock.UNKNOWN,
        "children_dead": False,
        "patience_over": False,
        "late_possible": True,
        "too_late": False,
        "answered": False,
        "leftovers": (),
        "why_task": "",
    }


def test_a_finding_is_nobodys_unless_it_says_so() -> None:
    assert not Finding(landing=Landing.LANDED).attributable

"""Every planted fault of carrying out what people signed turns the suite red."""

import pytest

from tests.simulation import invariants
from tests.simulation import test_signed as signed
from tests.simulation.harness import simulate
from tests.simulation.stories import die, ending, ops
from tests.teeth import faults
from tests.teeth import signed_faults as planted
from tests.teeth.faults import Plant
from tests.teeth.test_teeth import Victim, _fails
from trueup.model.ids import GuestType
from trueup.model.ops import Kind

QEMU, LXC = GuestType.QEMU, GuestType.LXC


def it_is_destroyed() -> None:
    run = simulate(signed.destroy())
    invariants.converged(run)
    assert [ending(op) for op in ops(run, Kind.DESTROY)] == [("succeeded", "task_ok", "R3")]


def a_guest_that_somebody_else_deleted_was_not_destroyed_by_a_guard() -> None:
    """The agent dies with its guard on the way; the guest is gone, and no DELETE of ours had a part in it."""
    story = signed.destroy(asked=signed.ONCE, before_restart=signed.gone)
    run = die(story, r"PUT .*/301/config before")
    invariants.check(run, believe_tasks=False)
    assert [ending(op)[:2] for op in ops(run, Kind.DESTROY)] == [("failed", "not_started")]


TEETH: dict[str, tuple[Plant, list[Victim]]] = {
    "whoever has the vmid": (
        planted.whoever_has_the_vmid,
        [
            lambda: signed.test_a_guest_that_is_not_the_one_that_was_signed_for_is_not_touched(QEMU, signed.made_anew),
            lambda: signed.test_a_guest_that_is_not_the_one_that_was_signed_for_is_not_touched(LXC, signed.edited),
        ],
    ),
    "no guard": (planted.no_guard, [it_is_destroyed]),
    "the guard's answer is not read back": (
        planted.the_guards_answer_is_not_read_back,
        [lambda: signed.test_a_lost_guard_ends_in_a_fence_and_no_delete(QEMU)],
    ),
    "protection is not restored": (
        planted.protection_is_not_restored,
        [lambda: signed.test_a_destroy_that_pve_did_not_carry_out_leaves_its_guest_protected(QEMU, "task_fails")],
    ),
    "the fence of a destroy is skipped": (
        faults.the_fence_is_skipped,
        [lambda: signed.test_a_delete_that_arrives_behind_the_fence_destroys_nothing(QEMU, 30.0)],
    ),
    "time does not matter": (
        planted.time_does_not_matter,
        [
            signed.test_what_waits_longer_than_it_may_expires_unsent,
            signed.test_in_its_grace_nothing_is_sent_and_afterwards_it_is,
        ],
    ),
    "deletes are sent twice": (planted.deletes_are_sent_twice, [it_is_destroyed]),
    "tasks on a container are not looked at": (
        planted.tasks_on_a_container_are_not_looked_at,
        [signed.test_a_container_that_was_restored_to_the_letter_since_is_another_one],
    ),
    "the gate is not asked again": (planted.the_gate_is_not_asked_again, [signed.test_the_gates_last_word_counts]),
    "standing fences are forgotten": (
        planted.standing_fences_are_forgotten,
        [
            lambda: signed.test_somebody_who_lifts_a_standing_fence_is_noticed_and_the_late_delete_meets_it_again(QEMU),
        ],
    ),
    "a guard counts as a delete": (
        planted.a_guard_counts_as_a_delete,
        [a_guest_that_somebody_else_deleted_was_not_destroyed_by_a_guard],
    ),
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, (_, each) in TEETH.items() for n in range(len(each))])
def test_each_of_these_tests_turns_red(name: str, number: int) -> None:
    plant, victims = TEETH[name]
    with plant():
        assert _fails(victims[number]), f"this does not notice: {name}"


@pytest.mark.parametrize("name", TEETH)
def test_without_the_fault_it_is_green(name: str) -> None:
    for victim in TEETH[name][1]:
        victim()

"""Every planted fault of the gate turns the suite red."""

import pytest

from tests.simulation import gate_invariants
from tests.simulation import test_gate_deaths as deaths
from tests.simulation import test_gate_moments as moments
from tests.simulation.gate_harness import play
from tests.simulation.gate_stories import CASES, story_of
from tests.simulation.gate_swarm import made_anew
from tests.teeth import gate_faults as planted
from tests.teeth import signed_faults
from tests.teeth.faults import Plant
from tests.teeth.test_teeth import Victim, _fails


def ordinary(name: str) -> Victim:
    return lambda: deaths.test_nobody_dies(name)


def invariants_alone() -> None:
    """Nobody asks what people heard: the journal tells that too few of them stood behind it."""
    story = story_of(CASES["disk-remove"])
    gate_invariants.check(play(story))


def another_guest(name: str) -> Victim:
    return lambda: moments.test_a_guest_that_is_another_one_by_then_is_left_alone(name, made_anew)


def revoked() -> None:
    moments.test_a_revocation_or_a_new_policy_counts_until_it_is_sent(0.0, "bob")


TEETH: dict[str, tuple[Plant, list[Victim]]] = {
    "a failure keeps its key": (
        planted.a_failure_keeps_its_key,
        [moments.test_a_second_request_with_its_key_waits_for_the_first_and_is_let_in_when_that_has_failed],
    ),
    "the gate takes a failure for the result": (
        planted.the_gate_takes_a_failure_for_the_result,
        [lambda: deaths.test_its_delete_arrives_long_after_recovery("destroy-qemu")],
    ),
    "keys are counted": (
        planted.keys_are_counted,
        [moments.test_two_keys_of_one_person_are_one_person],
    ),
    "nobody is missing": (
        planted.nobody_is_missing,
        [invariants_alone, moments.test_a_pending_request_without_its_second_person_expires_and_frees_its_key],
    ),
    "nonces do not matter": (planted.nonces_do_not_matter, [ordinary("destroy-qemu"), ordinary("stop")]),
    "a redelivery is new": (
        planted.a_redelivery_is_new,
        [ordinary("rollback"), lambda: deaths.test_its_delete_arrives_long_after_recovery("destroy-lxc")],
    ),
    "other bytes are the same request": (planted.other_bytes_are_the_same_request, [ordinary("disk-remove")]),
    "nobody looks whom it hits": (
        planted.nobody_looks_whom_it_hits,
        [another_guest("destroy-qemu"), another_guest("stop")],
    ),
    "nothing is asked again": (
        planted.nothing_is_asked_again,
        [revoked, moments.test_a_revocation_while_nobody_is_there_counts],
    ),
    "execute_by does not matter": (
        planted.execute_by_does_not_matter,
        [moments.test_what_waits_past_its_execute_by_is_never_sent_also_by_the_next_agent],
    ),
    "the clock is believed": (
        planted.the_clock_is_believed,
        [lambda: moments.test_a_clock_that_is_set_back_opens_no_window(-90_000.0)],
    ),
    "protection is not restored": (
        signed_faults.protection_is_not_restored,
        [
            moments.test_a_second_request_with_its_key_waits_for_the_first_and_is_let_in_when_that_has_failed,
            lambda: deaths.test_a_death_and_an_accident_to_each_write("destroy-lxc", "task_fails"),
        ],
    ),
    "deletes are sent twice": (signed_faults.deletes_are_sent_twice, [ordinary("destroy-qemu")]),
    "pending requests are kept in memory": (
        planted.pending_requests_are_kept_in_memory,
        [moments.test_signatures_outlive_the_agent_that_took_them],
    ),
    "open operations close no lane": (
        planted.open_operations_close_no_lane,
        [moments.test_what_is_signed_waits_while_its_guest_has_an_open_operation],
    ),
    "a redelivery hears that all is well": (
        planted.a_redelivery_hears_that_all_is_well,
        [ordinary("stop"), ordinary("destroy-lxc")],
    ),
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, (_, each) in TEETH.items() for n in range(len(each))])
def test_each_of_these_tests_turns_red(name: str, number: int) -> None:
    plant, victims = TEETH[name]
    with plant():
        assert _fails(victims[number]), f"this does not notice: {name}"


def test_without_a_fault_they_are_green() -> None:
    """Those that no page of tests runs as they are."""
    invariants_alone()

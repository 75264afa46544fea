"""How the limits relate: a number may change, what others lean on may not."""

from trueup.model import ids, limits
from trueup.model.ops import Kind
from trueup.model.settings import HttpSettings, LimitSettings, ReconcileSettings, StoreSettings


def constants() -> dict[str, float]:
    return {name: value for name, value in vars(limits).items() if name.isupper() and isinstance(value, (int, float))}


def test_every_limit_is_positive():
    assert {name for name, value in constants().items() if value <= 0} == set()


def test_every_wait_names_its_unit_and_every_size_too():
    for name, value in constants().items():
        if isinstance(value, float):
            assert name.endswith("_S") or name in {"BACKOFF_JITTER", "LEASE_DRIFT"}, name


def test_settle_times_grow_with_the_risk():
    assert limits.PVE_TASK_VISIBLE_S < limits.SETTLE_MIN_S <= limits.SETTLE_GOAL_S
    assert limits.SETTLE_GOAL_S < limits.SETTLE_TOKEN_S < limits.SETTLE_TIME_S < limits.SETTLE_MAX_S


def test_a_request_past_the_token_check_cannot_outwait_the_settle_time_on_a_flock():
    assert limits.SETTLE_TOKEN_S > limits.PVE_FLOCK_WAIT_S + limits.PVE_TASK_VISIBLE_S


def test_the_watch_outlasts_every_settle_time():
    assert limits.PRESUMED_WATCH_S >= limits.SETTLE_MAX_S


def test_an_answer_of_pve_is_heard_before_we_give_up():
    assert limits.READ_TIMEOUT_S > limits.PVE_PROXY_TIMEOUT_S
    assert limits.MUTATION_TIMEOUT_S > 2 * limits.PVE_PROXY_TIMEOUT_S
    assert limits.CONNECT_TIMEOUT_S < limits.SEND_BY_S


def test_a_request_is_sent_inside_the_lease():
    assert limits.SEND_BY_MIN_S <= limits.SEND_BY_S < limits.LEASE_S <= limits.LEASE_MAX_S


def test_a_lease_survives_three_lost_renewals():
    assert 3 * limits.LEASE_RENEW_S < limits.LEASE_S
    assert limits.SEND_BY_MIN_S + limits.LEASE_MARGIN_S < limits.LEASE_MIN_S / 2 < limits.LEASE_S


def test_a_session_that_was_cut_off_lets_go_before_others_stop_waiting_for_it():
    assert limits.POSTGRES_IDLE_S < limits.POSTGRES_LOCK_S < limits.POSTGRES_COMMIT_S < limits.POSTGRES_PATIENCE_S
    assert limits.POSTGRES_PATIENCE_S < limits.LEASE_S


def test_slots():
    assert limits.SLOTS_PER_GUEST == limits.SLOTS_PER_CLONE_SOURCE == 1
    assert limits.SLOTS_PER_GUEST <= limits.SLOTS_PER_NODE <= limits.SLOTS_PER_NODE_MAX
    assert limits.SLOTS_PER_NODE == 3


def test_a_whole_task_index_fits_into_the_pages_of_a_list():
    assert limits.TASK_PAGE * limits.TASK_PAGES_MAX > 4 * limits.PVE_TASKS_OF_INDEX


def test_every_kind_has_its_patience_which_outlasts_stale_rows():
    assert set(limits.PATIENCE_S) == set(Kind)
    assert all(patience > limits.PVE_TASK_ROW_STALE_S for patience in limits.PATIENCE_S.values())


def test_a_guests_shutdown_fits_into_its_patience():
    assert limits.PATIENCE_S[Kind.SHUTDOWN] > limits.SHUTDOWN_GUEST_S


def test_back_off_starts_below_its_end_and_below_a_pass():
    assert limits.BACKOFF_FIRST_S <= limits.INTERVAL_S <= limits.BACKOFF_MAX_S
    assert 0 < limits.BACKOFF_JITTER < 1
    assert limits.INTERVAL_MIN_S <= limits.INTERVAL_S <= limits.INTERVAL_MAX_S


def test_a_record_holds_a_request():
    assert limits.REQUEST_MAX_BYTES * 4 < limits.RECORD_MAX_BYTES
    assert limits.HTTP_BODY_MAX_BYTES == limits.REQUEST_MAX_BYTES


def test_a_description_leaves_room_for_the_marker():
    assert limits.DESCRIPTION_MAX + 500 <= limits.PVE_DESCRIPTION_MAX
    assert limits.DESCRIPTION_MAX <= limits.CONFIG_VALUE_MAX


def test_a_file_of_the_largest_size_may_be_full_of_values():
    assert limits.MANIFEST_NODES_MAX * 8 > limits.MANIFEST_MAX_BYTES
    assert limits.GUESTS_MAX <= limits.MANIFEST_FILES_MAX
    assert limits.MANIFEST_DEPTH_MAX < 100, "pydantic and Python recurse"


def test_nonces_outlast_requests():
    assert limits.CLOCK_DIFFERENCE_S < limits.REQUEST_VALID_S
    assert limits.NONCE_BITS >= 128


def test_a_batch_of_requests_that_one_person_signed_each_shares_a_commit():
    assert limits.GATE_BATCH_MAX * len(("requested", "approved", "accepted")) <= limits.GROUP_RECORDS_MAX
    assert limits.GATE_BATCH_MAX <= limits.JOURNAL_QUEUE_MAX


def test_vmids():
    assert ids.VMID_MIN == 100
    assert ids.VMID_MAX == 999_999_999


def test_settings_start_from_these_limits(tmp_path):
    defaults = LimitSettings()
    assert defaults.slots_per_node == limits.SLOTS_PER_NODE
    assert defaults.send_by_s == limits.SEND_BY_S
    assert (defaults.settle_goal_s, defaults.settle_token_s, defaults.settle_time_s) == (5, 15, 600)
    assert ReconcileSettings().interval_s == limits.INTERVAL_S
    assert StoreSettings(path=tmp_path).lease_s == limits.LEASE_S
    assert HttpSettings(token_file=tmp_path).host == "127.0.0.1"

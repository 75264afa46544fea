"""What the agent counts and measures, for Prometheus. docs/metrics.md describes each; a test compares the two.

What is said of a cluster carries its name in the label `cluster`, also where an agent has only one.

Counters begin at zero with each start of the agent. What the journal holds (in flight, unresolved, pending) is read
from it at each scrape, so that it is right from the first one on.
"""

import platform
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

import trueup
from trueup.edges import standing
from trueup.model.errors import TrueupError
from trueup.model.gate import Approved, Denied, Lapsed, Requested, RequestState, Vetoed
from trueup.model.notes import Note, What
from trueup.model.ops import Accepted, OpView, Record
from trueup.model.plan import Bucket
from trueup.ports import JournalReader

if TYPE_CHECKING:
    from trueup.edges.web.board import Board
    from trueup.edges.web.news import News

AGES_S: Final = (60, 600, 3600, 86_400)
"""How old an operation in flight may be before it is counted as that old."""

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WORK: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)

_GATE_EVENTS: Final[Mapping[type[object], str]] = {
    Requested: "requested",
    Approved: "approved",
    Accepted: "accepted",
    Vetoed: "vetoed",
    Lapsed: "lapsed",
}


CLUSTER_UP: Final = ("cluster_up", "Whether this cluster's agent runs; 0 = it ended by an error, and is begun again.")


def of_the_process() -> CollectorRegistry:
    """What is said once, however many clusters an agent has."""
    disable_created_metrics()
    registry = CollectorRegistry()
    ProcessCollector(namespace="trueup", registry=registry)
    text = "Version of trueup and of Python; always 1."
    build = Gauge("trueup_build_info", text, ("version", "python"), registry=registry)
    build.labels(trueup.__version__, platform.python_version()).set(1)
    return registry


class Metrics:
    """The registry of one cluster and all that is in it."""

    def __init__(self, cluster: str) -> None:
        """Everything is zero."""
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._cluster = cluster
        self._about_the_agent()
        self._about_operations()
        self._about_guests()
        self._about_the_gate()
        self._about_the_journal()
        self._about_pve()

    # -- what there is -------------------------------------------------------------------------------------------------

    def _about_the_agent(self) -> None:
        self._gauge(*CLUSTER_UP).set(1)
        self._phase = self._gauge("phase", "How far the agent has come: 1 for the present phase.", "phase")
        self._leader = self._gauge("leader", "Whether this agent has recovered and leads.")
        self._epoch = self._gauge("epoch", "Number of this incarnation of the agent.")
        self._alarms = self._counter("alarms_total", "Alarms that were given.")
        self._listeners = self._gauge("http_listeners", "Readers of the event stream.")
        self._events_lost = self._gauge("http_events_lost", "Events that slow readers lost since the start.")

    def _about_operations(self) -> None:
        self._started = self._counter("operations_started_total", "Operations whose intent became durable.", "kind")
        self._ended = self._counter("operations_ended_total", "Operations that ended.", "kind", "state", "reason")
        self._took = self._histogram("operation_seconds", "From the durable intent to the end.", _WORK, "kind")
        self._in_flight = self._gauge("operations_in_flight", "Operations that PVE may be at work on.", "kind", "state")
        self._aged = self._gauge("operations_in_flight_older", "Those in flight that are older than this.", "seconds")
        self._oldest = self._gauge("operations_in_flight_oldest_seconds", "Age of the oldest one in flight.")
        self._unresolved = self._gauge("operations_unresolved", "Operations whose outcome cannot be told.", "kind")
        self._waiting = self._gauge("operations_accepted", "Signed operations that were not sent yet.")
        self._rows = self._counter(
            "recovery_verdicts_total", "Verdicts by row of the recovery table and outcome.", "row", "outcome"
        )
        self._recoveries = self._counter("recoveries_total", "Recoveries at a start that came to their end.")

    def _about_guests(self) -> None:
        self._guests = self._gauge("guests", "Guests by how they stand to their manifests.", "sync")
        self._planned = self._gauge("guests_planned", "Guests of the last plan by bucket.", "bucket")
        self._passes = self._counter("passes_total", "Passes that were made, and that could not be made.", "result")
        self._pass_s = self._histogram("pass_seconds", "Looking, judging what is open, and planning.", _SLOW)
        self._plan_s = self._histogram("plan_seconds", "Looking at the cluster and planning alone.", _SLOW)
        self._passed_at = self._gauge("pass_last_timestamp_seconds", "When the last pass ended.")
        self._paused = self._gauge("paused", "Names that are paused; everything counts as one.")

    def _about_the_gate(self) -> None:
        self._refusals = self._counter("gate_refusals_total", "Deliveries that the gate refused.", "reason")
        self._requests = self._counter("gate_events_total", "What became of requests.", "event")
        self._pending = self._gauge("gate_pending", "Requests that wait for signatures.")

    def _about_the_journal(self) -> None:
        self._records = self._counter("journal_records_total", "Records that became durable.")
        self._append_s = self._histogram("journal_append_seconds", "From an append's call to its durability.", _FAST)
        self._appending = self._gauge("journal_appends_waiting", "Appends that are not durable yet.")
        self._append_failed = self._counter("journal_append_failures_total", "Appends that were refused.", "error")
        self._head_seq = self._gauge("journal_head_seq", "Number of the newest record.")
        self._head_at = self._gauge("journal_head_timestamp_seconds", "Time of the newest record.")
        self._head = self._gauge("journal_head_info", "Where the chain ends; keep it: a cut tail shows.", "seq", "hash")
        self._doubts = self._gauge("journal_doubts", "Reasons why nothing is changed until somebody has looked.")

    def _about_pve(self) -> None:
        self._calls = self._counter("pve_calls_total", "Calls of PVE's API as the engine makes them.", "call")
        self._errors = self._counter("pve_errors_total", "Those that failed, by what is known then.", "call", "error")
        self._call_s = self._histogram("pve_call_seconds", "How long they took.", _SLOW, "call")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"trueup_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"trueup_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"trueup_{name}", text, labels, registry=self.registry, buckets=buckets)

    # -- what happens --------------------------------------------------------------------------------------------------

    def note(self, note: Note) -> None:
        """Count what the engine tells."""
        op = note.op
        if note.what is What.ALARM:
            self._alarms.inc()
        elif note.what is What.RECOVERY_ENDED:
            self._recoveries.inc()
        elif op is None:
            pass
        elif note.what is What.OP_STARTED:
            self._started.labels(op.intent.kind.value).inc()
        elif note.what is What.OP_ENDED:
            self._end(op)
        elif note.what is What.OP_OPEN and op.unresolved is not None:
            self._rows.labels(op.unresolved.row.value, "open").inc()

    def _end(self, op: OpView) -> None:
        kind, reason = op.intent.kind.value, op.reason.value if op.reason else ""
        self._ended.labels(kind, op.state.value, reason).inc()
        self._took.labels(kind).observe(max(0, op.ended_at_ms - op.started_at_ms) / 1000)
        if op.row is not None:
            self._rows.labels(op.row.value, op.state.value).inc()

    def passed(self, *, pass_s: float, plan_s: float) -> None:
        """A pass was made."""
        self._passes.labels("made").inc()
        self._pass_s.observe(pass_s)
        self._plan_s.observe(plan_s)

    def not_passed(self) -> None:
        """A pass could not be made."""
        self._passes.labels("failed").inc()

    def appending(self) -> None:
        """An append was called."""
        self._appending.inc()

    def appended(self, records: Sequence[Record], seconds: float) -> None:
        """It is durable."""
        self._appending.dec()
        self._append_s.observe(seconds)
        self._records.inc(len(records))
        for record in records:
            event = record.event
            if isinstance(event, Denied):
                self._refusals.labels(event.refusal.value).inc(event.times)
            elif (name := _GATE_EVENTS.get(type(event))) is not None:
                self._requests.labels(name).inc()

    def not_appended(self, error: str) -> None:
        """It was refused, or cancelled."""
        self._appending.dec()
        self._append_failed.labels(error).inc()

    def called(self, call: str, seconds: float, error: TrueupError | None) -> None:
        """PVE was asked."""
        self._calls.labels(call).inc()
        self._call_s.labels(call).observe(seconds)
        if error is not None:
            self._errors.labels(call, type(error).__name__).inc()

    # -- what is -------------------------------------------------------------------------------------------------------

    async def read(
        self, journal: JournalReader, board: "Board", news: "News", now_ms: Callable[[], int]
    ) -> Sequence[Metric]:
        """Everything, with the cluster's name. Raises JournalFailed or Corrupt."""
        in_flight = await journal.in_flight()
        accepted = await journal.accepted()
        paused, doubts = await journal.paused(), await journal.doubts()
        pending = await journal.requests(state=RequestState.PENDING)
        self._of_operations(in_flight, now_ms())
        self._waiting.set(len(accepted))
        self._paused.set(len(paused))
        self._doubts.set(len(doubts))
        self._pending.set(len(pending))
        self._of_the_board(board)
        self._listeners.set(news.readers)
        self._events_lost.set(news.lost)
        return [_of_cluster(family, self._cluster) for family in self.registry.collect()]

    def _of_operations(self, in_flight: Sequence[OpView], now_ms: int) -> None:
        _tally(self._in_flight, ((op.intent.kind.value, op.state.value) for op in in_flight))
        _tally(self._unresolved, ((op.intent.kind.value,) for op in in_flight if op.unresolved is not None))
        ages = [max(0, now_ms - op.started_at_ms) / 1000 for op in in_flight]
        self._oldest.set(max(ages, default=0))
        for age_s in AGES_S:
            self._aged.labels(str(age_s)).set(sum(1 for age in ages if age > age_s))

    def _of_the_board(self, board: "Board") -> None:
        for phase in type(board.health.phase):
            self._phase.labels(phase.value).set(phase is board.health.phase)
        self._leader.set(board.health.leads)
        self._epoch.set(board.health.epoch)
        self._passed_at.set(board.passed_at_ms / 1000)
        survey = board.survey
        syncs = Tally(guest.sync for guest in standing.seen(survey)) if survey else Tally[str]()
        for sync in standing.SYNCS:
            self._guests.labels(sync).set(syncs[sync])
        for bucket in Bucket:
            self._planned.labels(bucket.value).set(survey.plan.count(bucket) if survey else 0)
        self._head.clear()
        if board.head is not None:
            self._head_seq.set(board.head.seq)
            self._head_at.set(board.head.at_ms / 1000)
            self._head.labels(str(board.head.seq), board.head.hash).set(1)


def down(cluster: str) -> Metric:
    """What is said of a cluster whose agent does not run."""
    name, text = CLUSTER_UP
    family = Metric(f"trueup_{name}", text, "gauge")
    family.add_sample(family.name, {"cluster": cluster}, 0)
    return family


def exposition(families: Iterable[Metric]) -> bytes:
    """Prometheus' text format; families of one name, from several clusters, stand together."""
    together: dict[str, Metric] = {}
    for family in families:
        known = together.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        known.samples.extend(family.samples)
    return generate_latest(_Read(together.values()))


class _Read:
    """Families that were read already, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_cluster(family: Metric, cluster: str) -> Metric:
    named = Metric(family.name, family.documentation, family.type)
    named.samples = [sample._replace(labels={"cluster": cluster, **sample.labels}) for sample in family.samples]
    return named


def _tally(gauge: Gauge, rows: Iterable[tuple[str, ...]]) -> None:
    gauge.clear()
    for labels, count in Tally(rows).items():
        gauge.labels(*labels).set(count)

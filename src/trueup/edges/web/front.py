"""The agent's side of its HTTP: it hears what the engine tells and what the journal holds, and keeps the board for it.

Rule kept here: the engine never waits for a reader; what it tells is put down and passed on in one step.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from trueup.edges.cli import shapes
from trueup.edges.hosting import Host
from trueup.edges.log import Log, redacted
from trueup.edges.metrics import Metrics
from trueup.edges.metrics_ports import listened
from trueup.edges.parts import Parts
from trueup.edges.reporters import Repeats
from trueup.edges.standing import head_json
from trueup.edges.web.board import Board
from trueup.edges.web.health import Health
from trueup.edges.web.intake import Intake
from trueup.edges.web.news import News
from trueup.edges.web.signing import Signing
from trueup.edges.web.site import Site
from trueup.engine.agent import Agent
from trueup.engine.reconciler import Reconciler
from trueup.engine.surveyor import Survey
from trueup.model.guests import Desired
from trueup.model.notes import Note, What
from trueup.model.ops import Record
from trueup.model.settings import Mode, Settings

_CHANGES_S = 0.5
"""Between two words to pages that something is new."""

Load = Callable[[], Sequence[Desired]]


class Front:
    """One agent's HTTP. Use `parts` instead of the ones that were given: they are listened to."""

    def __init__(self, parts: Parts, settings: Settings, log: Log, holder: str) -> None:
        """Nothing is served before `open`."""
        self.metrics = Metrics(settings.cluster.name)
        self.news = News()
        self.changes = News(wake_s=_CHANGES_S)
        self.board = Board(health=Health(), mode=lambda: settings.reconcile.mode, holder=holder)
        self.parts = listened(parts, self.metrics, self._heard)
        self.site: Site | None = None
        self._settings = settings
        self._log = log
        self._clock = parts.clock()
        self._repeats = Repeats()
        self._reconciler: Reconciler | None = None
        self._pass_began: float | None = None

    @asynccontextmanager
    async def open(self, host: Host) -> AsyncGenerator[Site]:
        """Serve from `host` while this is open. The journal is there already.

        Raises:
            BadInput: the address, the certificate or the token cannot be used.
        """
        doors = host.doors()
        async with self.parts.reader(self._settings.store) as reader:
            site = Site(
                board=self.board,
                doors=doors,
                journal=reader,
                journal_file=self.parts.journal_file,
                store=self._settings.store,
                clock=self._clock,
                metrics=self.metrics,
                news=self.news,
                changes=self.changes,
                complain=lambda text: self._log.error("http", text=redacted(text)),
                cluster=self._settings.cluster.name,
                signing=Signing(self._settings.gate, self._settings.http.relying_party),
                root=host.root,
            )
            async with host.serving(site):
                self.site = site
                try:
                    yield site
                finally:
                    self.news.end()
                    self.changes.end()

    def working(
        self, agent: Agent, reconciler: Reconciler, mode: Callable[[], Mode], intake: Intake | None = None
    ) -> None:
        """The loop begins; what it sees is shown from now on, and what comes in goes to the gate (`intake`)."""
        self._reconciler = reconciler
        self.board.mode = mode
        if self.site is not None:
            self.site.pve, self.site.intake = agent.deck.pve, intake

    def standing_by(self, intake: Intake | None) -> None:
        """Another agent leads; what comes in goes to `intake` until it is this one's turn."""
        if self.site is not None:
            self.site.intake = intake

    def looked(self, survey: Survey) -> None:
        """A standby has looked."""
        self.board.passed(survey, self._clock.now_ms())
        self.changes.publish_once("changed", {})

    def not_looked(self, why: str) -> None:
        """A standby could not look; what it saw before stays, with its time."""
        self.board.problems = ()  # the same again, or what took its place
        self.board.alarm(why)
        self.changes.publish_once("changed", {})

    def perhaps_changed(self) -> None:
        """Something may be new in the journal; pages that are open look."""
        if self.changes.readers:
            self.changes.publish_once("changed", {})

    def loading(self, load: Load) -> Load:
        """The same, and a pass begins with it."""

        def loaded() -> Sequence[Desired]:
            if self._pass_began is not None:
                self.metrics.not_passed()  # it began, and its end was never told
            self._pass_began = self._clock.monotonic()
            desired = load()
            self.board.wanted(desired)
            return desired

        return loaded

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""
        self.metrics.note(note)
        if note.what is What.PASS_ENDED:
            self._passed()
        elif note.what is What.ALARM and note.op is None:
            self.board.alarm(note.text)
        if self._repeats.is_news(note):
            op = shapes.op(note.op) if note.op else None
            self.news.publish("note", {"what": note.what.value, "text": redacted(note.text), "op": op})
        self.changes.publish_once("changed", {})

    def _passed(self) -> None:
        reconciler, began = self._reconciler, self._pass_began
        self._pass_began = None
        if reconciler is not None and began is not None:
            self.board.passed(reconciler.latest, self._clock.now_ms())
            self.metrics.passed(pass_s=self._clock.monotonic() - began, plan_s=reconciler.survey_s)

    def _heard(self, records: Sequence[Record]) -> None:
        if not records:
            return
        newest = max(records, key=lambda record: record.seq)
        if self.board.head is None or newest.seq > self.board.head.seq:
            self.board.head = newest
            self.news.publish("head", head_json(self.board.head))
            self.changes.publish_once("changed", {})

"""One incarnation of the agent: its order of starting is the promise that recovery comes first.

    journal opened (lock) -> epoch taken -> token of this epoch -> tokens of dead epochs deleted -> recovery -> engine

Nothing here can be skipped or reordered: the reconciler is only handed out by `recovered`.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec

from trueup.core import rolled_back
from trueup.core.planner import next_op
from trueup.engine import tokens
from trueup.engine.deck import Deck
from trueup.engine.hindsight import Hindsight
from trueup.engine.led import LedKeeper, LedPve
from trueup.engine.one_shots import CheckAgain
from trueup.engine.reconciler import Reconciler
from trueup.engine.recoverer import Recoverer, Report
from trueup.engine.surveyor import installation_of
from trueup.engine.tokens import Tokens, token_name
from trueup.model import limits
from trueup.model.errors import BadInput, ReadFailed
from trueup.model.guests import Desired, Observed
from trueup.model.ids import Epoch, OpId, TokenId
from trueup.model.notes import What
from trueup.model.ops import Doubted, Draft, Event, TokenPlanned
from trueup.model.plan import Bucket, GuestPlan, Plan
from trueup.model.settings import LimitSettings
from trueup.ports import Clock, Entropy, Journal, Keeper, Pve, Reporter


class OpenPve(Protocol):
    """Opens PVE with the configured token, or with the token of this epoch and its secret."""

    async def __call__(self, token: TokenId | None, secret: str) -> Pve:
        """Return the port; it lives as long as the agent."""
        ...


class Incarnations(msgspec.Struct, frozen=True, kw_only=True):
    """Incarnation tokens: the keeper, and whose tokens of which prefix it makes."""

    keeper: Keeper
    user: str
    prefix: str


class Foundation(msgspec.Struct, frozen=True, kw_only=True):
    """What an incarnation is made of. `holder` names this process in the journal: host and pid."""

    journal: Journal
    open_pve: OpenPve
    clock: Clock
    entropy: Entropy
    reporter: Reporter
    holder: str
    limits: LimitSettings
    incarnations: Incarnations | None = None


class Agent:
    """An incarnation that has its epoch, but has not recovered yet."""

    def __init__(self, deck: Deck, tokens: Tokens | None) -> None:
        """Use `begin`."""
        self.deck = deck
        self.recoverer = Recoverer(deck)
        self.hindsight = Hindsight(deck)
        self._tokens = tokens

    @classmethod
    async def begin(cls, base: Foundation) -> "Agent":
        """Take the epoch and connect.

        Raises:
            JournalFailed, Corrupt: the journal is not to be written.
            KeeperFailed: the token of this epoch could not be made.
        """
        now_ms = base.clock.now_ms()
        epoch = await base.journal.take_epoch(
            holder=base.holder, token=TokenId(""), record_id=base.entropy.uuid7(now_ms), at_ms=now_ms
        )
        pve = LedPve(await _connect(base, epoch), base.journal)
        deck = Deck(
            journal=base.journal,
            pve=pve,
            clock=base.clock,
            entropy=base.entropy,
            reporter=base.reporter,
            epoch=epoch,
            installation=await installation_of(base.journal),
            limits=base.limits,
        )
        deck.tell(What.EPOCH, f"epoch {epoch}, token {pve.token}")
        return cls(deck, Tokens(deck, _led_keeper(base, base.incarnations)) if base.incarnations else None)

    async def recover(self, *, dry: bool = False) -> Report:
        """Find out what became of everything that was in flight. Must end before anything is mutated.

        A journal in doubt may not know all: then the look is `dry`, and what is open stays open until somebody has
        looked.

        Raises:
            ReadFailed: the guests of what is in flight cannot be listed.
            KeeperFailed: tokens of dead epochs could not be deleted: recovery stays open.
        """
        if self._tokens is not None and not dry:
            await self._tokens.retire()
        in_flight = await self.deck.journal.in_flight()
        ops = (*in_flight, *await self.deck.journal.accepted())
        if not dry:
            dry = bool(await self.hindsight.before_recovery(in_flight))
        self.deck.tell(What.RECOVERY_BEGAN, f"{len(ops)} operations were in flight")
        report = await self.recoverer.recover(ops, dry=dry)
        self.deck.tell(
            What.RECOVERY_ENDED,
            f"examined {report.examined}: {report.resumed} had taken effect, {report.failed} failed, "
            f"{report.rolled_back} never took effect, {report.still_running} still running, "
            f"{report.unresolved} unresolved",
        )
        return report

    @property
    def own_token(self) -> bool:
        """Whether the API token was made for this epoch alone."""
        return self._tokens is not None

    def reconciler(self, check: CheckAgain | None = None) -> Reconciler:
        """The engine; only after `recover`. `check` is the gate's last word on what people signed."""
        return Reconciler(self.deck, self.recoverer, check)


async def _connect(base: Foundation, epoch: Epoch) -> Pve:
    """Open PVE with the configured token, or make the token of this epoch: its name is journaled first."""
    if base.incarnations is None:
        return await base.open_pve(None, "")
    user, prefix, keeper = base.incarnations.user, base.incarnations.prefix, _led_keeper(base, base.incarnations)
    token = token_name(user, prefix, epoch)
    listed = await tokens.there_already(keeper, token)
    planned, _ = await base.journal.tokens()
    later = [other for other in rolled_back.later_epochs(listed, f"{user}!{prefix}", epoch) if other not in planned]
    events: list[Event] = [TokenPlanned(token=token)]
    if later:  # named in the journal, they can be deleted once somebody has looked
        events += [TokenPlanned(token=other) for other in later if other != token]
        events.append(Doubted(what=rolled_back.doubt_of_tokens(later, epoch)))
    now_ms = base.clock.now_ms()
    drafts = [
        Draft(record_id=base.entropy.uuid7(now_ms), at_ms=now_ms, op_id=OpId(""), event=event) for event in events
    ]
    await base.journal.append(epoch, drafts)
    return await base.open_pve(token, await tokens.make(keeper, token, there=token in listed))


def _led_keeper(base: Foundation, incarnations: Incarnations) -> LedKeeper:
    return LedKeeper(incarnations.keeper, base.journal, base.clock)


class Converged(msgspec.Struct, frozen=True, kw_only=True):
    """How an `apply` ended. `failing` names guests that were given up after `limits.APPLY_TRIES` failures in a row."""

    plan: Plan
    failing: tuple[str, ...] = ()
    left_open: int = 0

    @property
    def exit_code(self) -> int:
        """0 converged, 2 something needs approval, is blocked or is open, 1 something failed."""
        if self.failing:
            return 1
        undone = sum(1 for guest in self.plan.guests if guest.bucket is not Bucket.UNCHANGED)
        return 2 if undone or self.left_open else 0


async def apply(reconciler: Reconciler, deck: Deck, load: Callable[[], Sequence[Desired]], *, once: bool) -> Converged:
    """Pass after pass until nothing is left to do, or nothing more can be done. With `once`, one pass.

    Each pass waits for every operation that it began.

    Raises:
        ReadFailed: the cluster cannot be read.
        Stale, JournalFailed: the journal refused a record.
    """
    plan = await reconciler.step(load())
    for _ in range(limits.APPLY_PASSES_MAX):
        await reconciler.tend()
        if once or reconciler.stopping:
            plan = await reconciler.look(load())
            break
        plan = await reconciler.step(load())
        if reconciler.working:
            continue
        waits = [reconciler.backoff.waits_s(guest.vmid) for guest in plan.guests if _to_be_tried(guest, reconciler)]
        if not waits:
            break
        await deck.clock.sleep(max(limits.TASK_WATCH_S, min(waits)))
    failing = tuple(guest.name for guest in plan.guests if _given_up(guest, reconciler))
    left_open = len(await deck.journal.in_flight()) + len(await deck.journal.accepted())
    return Converged(plan=plan, failing=failing, left_open=left_open)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop goes on: seconds between two passes, and whether it mends what it finds."""

    interval_s: float
    enforce: bool


async def run(
    reconciler: Reconciler,
    deck: Deck,
    load: Callable[[], Sequence[Desired]],
    *,
    pace: Callable[[], Pace],
    own_token: bool = False,
) -> None:
    """The daemon's loop, until `reconciler.wind_down` is called; what is at work then is waited for.

    `pace` is asked before each pass, where it may change. A cluster that cannot be read, or manifests that are broken,
    stop a pass, never the loop. With `own_token`, the API token was made for this very epoch: once PVE no longer knows
    it, this incarnation can do nothing more, and the next one makes its own.

    Raises:
        Stale, JournalFailed: the journal refused a record.
        ReadFailed: the token of this epoch is gone.
    """
    hindsight, looked = Hindsight(deck), False
    while not reconciler.stopping:
        now = pace()
        doubts = await deck.journal.doubts()
        wait_s = now.interval_s
        try:
            desired = load()
            if not (looked or doubts):  # before the first change of all
                await reconciler.look(desired)
                doubts, looked = await hindsight.look(_fresh(reconciler)), True
            enforce = now.enforce and not doubts
            plan = await (reconciler.step(desired) if enforce else reconciler.look(desired))
            doubts = doubts or await hindsight.look(_fresh(reconciler))
            deck.tell(What.PASS_ENDED, f"{'' if enforce else 'observing only: '}{_summary(plan)}")
            for doubt in doubts:
                deck.tell(What.ALARM, f"nothing is changed: {doubt} (look, then `trueup journal acknowledge`)")
        except (ReadFailed, BadInput) as error:
            refused = isinstance(error, ReadFailed) and error.status == HTTPStatus.UNAUTHORIZED
            if own_token and refused:
                raise
            again = "; a new secret is taken over by a restart" if refused else ""
            deck.tell(What.ALARM, f"this pass was not made: {error}{again}")
            wait_s = min(wait_s, limits.AGAIN_S)
        await reconciler.idle(wait_s)
    await reconciler.tend()


def _fresh(reconciler: Reconciler) -> list[Observed]:
    """The guests whose configs the last look has read, and not remembered."""
    world = reconciler.latest.world if reconciler.latest else None
    return [seen for vmid, seen in world.guests.items() if vmid not in world.kept] if world else []


def _to_be_tried(guest: GuestPlan, reconciler: Reconciler) -> bool:
    return next_op(guest) is not None and not _given_up(guest, reconciler)


def _given_up(guest: GuestPlan, reconciler: Reconciler) -> bool:
    return reconciler.backoff.failures(guest.vmid) >= limits.APPLY_TRIES


def _summary(plan: Plan) -> str:
    return ", ".join(f"{plan.count(bucket)} {bucket.value}" for bucket in Bucket if plan.count(bucket)) or "no guests"

"""`trueup apply`: recover, plan, show, ask, do, and look whether it is so."""

import sys
from contextlib import AsyncExitStack, redirect_stdout
from pathlib import Path

import click
import msgspec

from trueup.adapters.manifests import refuse_emptied
from trueup.edges import inbox, incarnation, option_check
from trueup.edges.acts import Acts, at_the_socket
from trueup.edges.cli import plan_view, recovery_view, shapes
from trueup.edges.cli.asking import Answer, ask, may_ask
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import print_json, run_async, say, warn
from trueup.edges.gating import Gatekeeper
from trueup.edges.parts import Parts
from trueup.edges.reporters import progress
from trueup.edges.stopping import Stopping
from trueup.engine.agent import Agent, Converged
from trueup.engine.agent import apply as converge
from trueup.engine.recoverer import Report
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.plan import Bucket, Plan
from trueup.model.settings import Settings


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the person said on the command line."""

    yes: bool
    once: bool
    as_json: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended. `shown` is the plan that was agreed on; `converged` is None where the person said no."""

    report: Report
    shown: Plan
    plan: Plan
    converged: Converged | None
    stopped: bool = False


@click.command(context_settings=HELP)
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--once", is_flag=True, help="One pass only, which still waits for every operation that it began.")
@json_option
@click.pass_obj
def apply(parts: Parts, config: Path, *, yes: bool, once: bool, as_json: bool) -> int:
    """Recover, show the plan, ask, and bring the guests to their manifests.

    The first Ctrl-C begins nothing more and waits for what is at work; the second one leaves that to the next
    recovery. Exits 0 if converged, 2 if something needs an approval, is blocked or open, 1 on an error.
    """
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    if not yes and not may_ask():
        raise BadInput(what="there is no terminal to ask on", remedy="look at `trueup plan`, then give --yes")
    options = Options(yes=yes, once=once, as_json=as_json)
    outcome = run_async(_apply(parts, settings, options))
    if as_json:
        print_json(_json(outcome))
    elif outcome.converged is not None:
        _show_end(outcome, outcome.converged)
    return _exit_code(outcome)


async def _apply(parts: Parts, settings: Settings, options: Options) -> Outcome:
    manifests = parts.manifests(settings.manifests.path)()
    reporter = progress(parts.clock(), say)
    stopping = Stopping(reporter.say)
    with stopping.listening():
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(incarnation.journal_for_work(parts, settings))
            refuse_emptied(manifests, await journal.adopted())
            agent = await stack.enter_async_context(incarnation.incarnation(parts, settings, journal, reporter, warn))
            option_check.refuse(await parts.options(agent.deck.pve, settings), manifests)
            gate = Gatekeeper(agent.deck, settings, own_token=agent.own_token, warn=warn)
            acts = Acts(agent.deck, lambda: manifests.guests, gate.gate)
            await stack.enter_async_context(at_the_socket(settings, acts))
            with reporter.drawing():
                report = await agent.recover()
            _show_recovery(report, options)
            await gate.look(settled=True)
            if (taker := inbox.taker(settings, journal, gate, agent.deck.clock, warn)) is not None:
                await taker.look()
            looking = agent.reconciler()
            plan = await looking.look(manifests.guests)
            _show_plan(plan, options)
            guests = looking.latest.world.guests.values() if looking.latest else ()
            for doubt in await journal.doubts() or await agent.hindsight.look(guests):
                remedy = "compare guests with manifests, then `trueup journal acknowledge`"
                raise BadInput(what=f"nothing is changed: {doubt}", remedy=remedy)
            if await _nothing_to_do(agent, plan, report):
                return Outcome(report=report, shown=plan, plan=plan, converged=Converged(plan=plan))
            if not _agreed(plan, report, options, stopping):
                return Outcome(report=report, shown=plan, plan=plan, converged=None)
            with reporter.drawing():
                converged = await _converge(agent, acts, gate, options, stopping)
            return Outcome(report=report, shown=plan, plan=converged.plan, converged=converged, stopped=stopping.asked)


async def _nothing_to_do(agent: Agent, plan: Plan, report: Report) -> bool:
    """Whether another look could not find any work: then an apply costs no more reads than a plan.

    Nothing may be done now, nothing is open, nothing is watched, and every guest of ours is accounted for.
    """
    journal, now_ms = agent.deck.journal, agent.deck.clock.now_ms()
    return not (
        plan_view.has_work(plan)
        or report.left_open
        or await journal.in_flight()
        or await journal.accepted()
        or await journal.presumed_since(now_ms - int(limits.PRESUMED_WATCH_S * 1000))
        or set(await journal.adopted()) - {guest.vmid for guest in plan.guests}
    )


async def _converge(agent: Agent, acts: Acts, gate: Gatekeeper, options: Options, stopping: Stopping) -> Converged:
    """Work until nothing more can be done, or until somebody says to stop."""
    async with agent.reconciler(gate.gate.check_again) as reconciler:

        def wind_down() -> None:
            stopping.say(f"finishing what is at work on {reconciler.working} guests; once more to stop at once")
            reconciler.wind_down()

        stopping.gently(wind_down)
        gate.wake = reconciler.look_now
        with acts.working(agent, reconciler):
            return await converge(reconciler, agent.deck, acts.load, once=options.once)


def _show_plan(plan: Plan, options: Options) -> None:
    """Nobody is asked about a plan that was not shown, wherever the data goes."""
    if not options.as_json:
        plan_view.show(plan)
    elif not options.yes:
        with redirect_stdout(sys.stderr):
            plan_view.show(plan)


def _show_recovery(report: Report, options: Options) -> None:
    if report.examined and not options.as_json:
        recovery_view.show(report)
        click.echo()


def _agreed(plan: Plan, report: Report, options: Options, stopping: Stopping) -> bool:
    """Whether to go on: nothing is asked where there is nothing to do."""
    if options.yes or not (plan_view.has_work(plan) or report.still_running):
        return True
    question = "Bring these guests to their manifests?"
    if not plan_view.has_work(plan):
        question = "Wait for what is still at work, and do what follows from the manifests?"
    with stopping.paused():
        return ask(question) is Answer.YES


def _json(outcome: Outcome) -> dict[str, shapes.Json]:
    converged = outcome.converged
    return {
        "recovery": shapes.recovery(outcome.report),
        "plan": shapes.plan(outcome.plan),
        "converged": converged is not None and converged.exit_code == 0,
        "failing": list(converged.failing) if converged else [],
        "left_open": converged.left_open if converged else outcome.report.left_open,
    }


def _exit_code(outcome: Outcome) -> int:
    if outcome.converged is not None:
        return outcome.converged.exit_code
    return 2 if plan_view.has_changes(outcome.plan) or outcome.report.left_open else 0


def _show_end(outcome: Outcome, converged: Converged) -> None:
    plan = converged.plan
    if outcome.stopped:
        click.echo("Stopped as asked; what was at work has ended.")
    if converged.failing:
        click.echo(f"{click.style('Failing', fg='red', bold=True)}: {', '.join(converged.failing)} (trueup ops list)")
    if converged.left_open:
        click.echo(f"{click.style('Open', fg='magenta', bold=True)}: {converged.left_open} (trueup status)")
    if converged.exit_code == 0:
        click.echo(f"{click.style('Converged', fg='green', bold=True)}: {plan.count(Bucket.UNCHANGED)} guests.")
        return
    if plan != outcome.shown:
        plan_view.show(plan)

"""`trueup demo`: watch an agent be killed in the middle of its work, again and again, and see that nothing is lost."""

import asyncio
import json
import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from trueup.edges.cli.options import HELP, debug_option
from trueup.edges.cli.output import run_async, say
from trueup.edges.demo import signed
from trueup.edges.demo.cast import CAST
from trueup.edges.demo.stage import open_stage
from trueup.edges.demo.story import Outcome, Story
from trueup.edges.demo.teller import PlainTeller, Teller
from trueup.edges.parts import Parts
from trueup.model.errors import BadInput


@click.command(context_settings=HELP)
@click.option("--json", "as_json", is_flag=True, help="The last line on standard output is a summary in JSON.")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Work in this folder, and leave it there.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Seed of the simulator's chance."
)
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="Also write what was seen as an SVG.")
@debug_option
@click.pass_obj
def demo(parts: Parts, *, as_json: bool, keep: Path | None, seed: int, picture: Path | None) -> int:
    """Watch trueup survive its own death, against a simulated cluster on this machine.

    It takes less than a minute, needs no other service and no network, and touches nothing outside its folder. Exits
    0 only if everything held that it claims at its end.
    """
    with _folder(keep) as folder:
        outcome = run_async(_play(parts, Path(folder), as_json=as_json, seed=seed, picture=picture))
    if keep is not None:
        say(f"Everything is in {keep}: trueup.toml, manifests, and the journal in state/.")
    if as_json:
        click.echo(json.dumps(_summary(outcome)))
    return 0 if outcome.held else 1


async def _play(parts: Parts, folder: Path, *, as_json: bool, seed: int, picture: Path | None) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_stage(folder, parts, seed=seed) as stage:
        signed.people(folder)
        teller = _teller(as_json=as_json)
        if picture is not None:
            from trueup.edges.demo.picture import PictureTeller

            teller = PictureTeller(teller, picture)
        return await Story(stage, teller).play()


def _teller(*, as_json: bool) -> Teller:
    """The live picture where somebody watches; lines elsewhere. Data alone is on standard output with --json."""
    stream = sys.stderr if as_json else sys.stdout
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return PlainTeller(say if as_json else click.echo)
    from rich.console import Console

    from trueup.edges.demo.screen import ScreenTeller

    return ScreenTeller(Console(stderr=as_json, no_color=bool(os.environ.get("NO_COLOR")), highlight=False))


def _folder(keep: Path | None) -> AbstractContextManager[str]:
    if keep is None:
        return TemporaryDirectory(prefix="trueup-demo-")
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        raise BadInput(what=f"cannot be used: {error.strerror}", where=str(keep), remedy="name a folder") from error
    if not empty:
        raise BadInput(what="the folder is not empty", where=str(keep), remedy="name a new one")
    return nullcontext(str(keep.absolute()))


def _summary(outcome: Outcome) -> dict[str, object]:
    return {
        "guests": len(CAST),
        "kills": outcome.kills,
        "recovery": dict(outcome.recovery),
        "final_changes": outcome.final_changes,
        "journal_ok": outcome.journal_ok,
        "duplicates": outcome.duplicates,
        "signed_deliveries": outcome.deliveries,
        "signed_executions": outcome.destroyed,
    }

"""`trueup` itself: the list of commands, imported one by one when called, and the place where errors become a line.

Usage errors exit 1, since 2 says "there are changes". Only click is imported here, so that `--help` is quick.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

import click

from trueup.model.errors import ManyProblems, TrueupError

if TYPE_CHECKING:
    from trueup.edges.parts import Parts

EXIT_ERROR: Final = 1
EXIT_INTERRUPTED: Final = 130

COMMANDS: Final = {
    "init": ("init", "write a starter configuration"),
    "doctor": ("doctor", "check all that trueup leans on; set it up in PVE on request"),
    "import": ("import_", "write manifests for guests that are there already"),
    "adopt": ("adopt", "take guests over that are there already"),
    "plan": ("plan", "show what differs from the manifests, and why; changes nothing"),
    "apply": ("apply", "recover, show the plan, ask, and bring the guests to their manifests"),
    "agent": ("agent", "do so all the time, as a daemon"),
    "recover": ("recover", "find out what became of everything that was in flight"),
    "status": ("status", "guests, operations in flight, unresolved ones first, and who leads"),
    "request": ("request", "prepare what people have to sign, for one guest"),
    "sign": ("sign", "add a signature to it"),
    "submit": ("submit", "hand it in"),
    "approve": ("approve", "sign a request that waits"),
    "veto": ("veto", "end a request that was not carried out yet"),
    "requests": ("requests", "what people have asked for, and who is missing"),
    "keys": ("keys", "who may sign, with which keys; make one"),
    "policy": ("policy", "what keyring and policy say of a request"),
    "pause": ("pause", "leave guests alone; all of them, or some"),
    "resume": ("resume", "take them up again"),
    "ops": ("ops", "operations, and the whole story of one"),
    "journal": ("journal", "the record of everything: tail, verify, export, stats"),
    "explain": ("explain", "a page on each kind of trouble, and the way out of it"),
    "schema": ("schema", "print the JSON Schema of manifests, for editors"),
    "sim": ("sim", "run a simulated PVE cluster, to try manifests on"),
    "demo": ("demo", "watch trueup survive its own death, against the simulator"),
}
"""Name to module and first line. The command has the name of its module."""

_EPILOG: Final = 'Completion: eval "$(_TRUEUP_COMPLETE=bash_source trueup)", or zsh_source, or fish_source.'


class Lazy(click.Group):
    """A group that imports a command when it is asked for, and lists all of them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names, in the order in which people meet them."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, and make the parts that it will work with."""
        if cmd_name not in COMMANDS:
            return None
        if callable(ctx.obj):
            ctx.obj = ctx.obj()
        module, _ = COMMANDS[cmd_name]
        path = f"trueup.edges.cli.{module}"
        try:
            loaded = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name == path:
                return None  # this build ships without it
            raise
        return cast("click.Command", getattr(loaded, module))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete names from the table too."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found or super().shell_complete(ctx, incomplete)


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="trueup", message="%(prog)s %(version)s")
def root() -> None:
    """Keep the guests of a Proxmox VE cluster at their declared state, and never lose track of a mutation."""


root.epilog = _EPILOG


def run(parts: "Callable[[], Parts]", arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `parts` is asked once a command is known."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    color = False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
    try:
        code: object = root.main(args=given, prog_name="trueup", standalone_mode=False, obj=parts, color=color)
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return _fail(error.format_message(), debug=debug)
    except (click.Abort, KeyboardInterrupt):
        click.echo("trueup: interrupted", err=True)
        return EXIT_INTERRUPTED
    except TrueupError as error:
        return _tell(error, debug=debug)
    except BaseExceptionGroup as group:
        return _tell_first(group, debug=debug)
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "trueup"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return EXIT_ERROR
    text = error.format_message().rstrip(".")
    click.echo(f"{path}: {text[:1].lower()}{text[1:]} (see `{path} --help`)", err=True)
    return EXIT_ERROR


def _tell(error: TrueupError, *, debug: bool) -> int:
    problems: Sequence[TrueupError] = error.problems if isinstance(error, ManyProblems) else (error,)
    for problem in problems:
        _fail(str(problem), debug=False)
    if debug:
        import traceback

        traceback.print_exception(error)
    return EXIT_ERROR


def _tell_first(group: BaseExceptionGroup[BaseException], *, debug: bool) -> int:
    """Tell the first error of ours in a group; anything else is a bug and shows as it is."""
    known = group.subgroup(TrueupError)
    if known is None:
        raise group
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = cast("BaseExceptionGroup[BaseException]", first).exceptions[0]
    return _tell(cast("TrueupError", first), debug=debug)


def _fail(text: str, *, debug: bool) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {text}", err=True, color=_error_color())
    if debug:
        import traceback

        traceback.print_exc()
    return EXIT_ERROR


def _error_color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None

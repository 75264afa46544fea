"""Options that many commands share, so that they are spelled the same everywhere."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from trueup.model.settings import DEFAULT_FILE

if TYPE_CHECKING:
    from trueup.edges.parts import Parts

_Command = TypeVar("_Command", bound=Callable[..., Any])

HELP: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def config_option(command: _Command) -> _Command:
    """`-c FILE`, `--cluster NAME`, which narrows the parts that the command gets, and `--debug`."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error as well.")(
        command
    )
    command = click.option(
        "--cluster",
        metavar="NAME",
        expose_value=False,
        callback=_narrowed,
        help="Which cluster, where the settings have several.",
    )(command)
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        default=DEFAULT_FILE,
        show_default=True,
        metavar="FILE",
        help="The settings.",
    )(command)


def _narrowed(context: click.Context, _option: click.Parameter, name: str | None) -> None:
    """Give the command parts whose settings are this cluster's, so that no command has to know of several."""
    if name is not None:
        parts: Parts = context.obj
        context.obj = parts.of_cluster(name)


def json_option(command: _Command) -> _Command:
    """`--json`: one document on standard output, everything else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document; see docs/json.md.")(command)


def debug_option(command: _Command) -> _Command:
    """`--debug` for commands without settings."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error as well.")(
        command
    )


def bundled(name: str, form: Callable[..., object], *fields: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Hand a command several options as one value: `form` of these fields becomes its argument `name`."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def called(*arguments: object, **given: object) -> int:
            value = form(**{field: given.pop(field) for field in fields})
            return command(*arguments, **given, **{name: value})

        return called

    return decorate

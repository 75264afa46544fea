"""How commands speak: data on standard output, all else on standard error, colours only where they are wanted."""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import click

from trueup.model.guests import Power
from trueup.model.ids import GuestType

T = TypeVar("T")

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

KIND_OF: Final = {GuestType.QEMU: "VirtualMachine", GuestType.LXC: "Container"}
"""A guest's type as manifests spell it."""

WORD_OF: Final = {GuestType.QEMU: "VM", GuestType.LXC: "container"}
"""A guest's type as people say it."""

HEALTH_COLOR: Final = {Power.RUNNING.value: "green", "locked": "yellow", "absent": "red"}


def print_json(document: Json) -> None:
    """Print the one JSON document of this command."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """Tell a person something that is no data."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """Warn a person."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {text}", err=True)


def dim(text: str) -> str:
    """Text that stays in the background."""
    return click.style(text, dim=True)


def iso(at_ms: int) -> str | None:
    """An instant as ISO 8601 in UTC, None for none."""
    if not at_ms:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(at_ms: int) -> str:
    """An instant as a person on this machine reads it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(milliseconds: int) -> str:
    """A duration as a person says it."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns; styled cells count by what is seen of them."""
    widths = [max(len(click.unstyle(row[at])) for row in rows) for at in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def run_async(work: Coroutine[object, object, T]) -> T:
    """Run a command's coroutine; being cancelled by a signal is an interruption like any other."""
    try:
        return asyncio.run(work)
    except asyncio.CancelledError as error:
        raise click.Abort from error

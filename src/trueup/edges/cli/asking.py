"""Asking a person: only on a terminal, and Ctrl-C means no."""

import sys
from enum import Enum, auto

import click


class Answer(Enum):
    """What the person said."""

    YES = auto()
    NO = auto()


def may_ask() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> Answer:
    """Ask; anything but a yes is a no."""
    try:
        return Answer.YES if click.confirm(click.style(question, bold=True), err=True) else Answer.NO
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return Answer.NO

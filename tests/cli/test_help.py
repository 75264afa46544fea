"""What people see first, and that it comes at once."""

import os
import statistics
import subprocess

import click
import pytest

from tests.cli.stage import TRUEUP
from trueup.edges.cli import root


def _run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, **environment}
    return subprocess.run([*TRUEUP, *arguments], env=env, capture_output=True, text=True, check=False, timeout=30)


def test_help_comes_at_once() -> None:
    """The goal is 150 ms on a quiet machine, so as much of the processor's time is its bound on a busy one."""
    times: list[float] = []
    for _ in range(5):
        before = os.times()
        assert _run("--help").returncode == 0
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert statistics.median(times) < 0.15


def test_help_imports_nothing_that_is_heavy() -> None:
    script = "import sys; from trueup.app import parts; from trueup.edges.cli import run; run(parts, ['--help']);"
    script += "print([name for name in ('asyncio', 'aiohttp', 'pydantic', 'msgspec', 'rich', 'yaml', 'sqlite3',"
    script += " 'structlog', 'starlette', 'uvicorn', 'dataclasses', 'pathlib') if name in sys.modules])"
    done = subprocess.run([*TRUEUP[:1], "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_apply_loads_nothing_that_signs_and_no_authority_that_it_does_not_need() -> None:
    """aiohttp reads the system's authorities twice when it is imported, and half of an apply's imports are for keys."""
    script = "import sys; from trueup.edges.cli import apply; from trueup.adapters import pve_http;"
    script += "from aiohttp import connector; import os;"
    script += "print([name for name in ('cryptography', 'fido2', 'securesystemslib') if name in sys.modules],"
    script += " connector._SSL_CONTEXT_VERIFIED.get_ca_certs(), os.environ.get('SSL_CERT_FILE'))"
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    done = subprocess.run([*TRUEUP[:1], "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[] [] None\n"


@pytest.mark.parametrize("name", sorted(set(root.COMMANDS) - {"demo"}))
def test_every_command_explains_itself(name: str) -> None:
    command = root.root.get_command(click.Context(root.root), name)
    assert command is not None
    assert command.name == name
    assert command.help
    for sub in getattr(command, "commands", {}).values():
        assert sub.help


def test_version_and_completion() -> None:
    assert _run("--version").stdout.startswith("trueup ")
    completed = _run(_TRUEUP_COMPLETE="bash_complete", COMP_WORDS="trueup rec", COMP_CWORD="1")
    assert completed.stdout.split() == ["plain,recover"]


def test_no_arguments_show_the_help_and_exit_1() -> None:
    done = _run()
    assert done.returncode == 1
    assert "Commands:" in done.stderr

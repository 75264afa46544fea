"""The generated pages are current, the navigation leads somewhere, and the site builds with every warning an error."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.docs.blocks import ROOT
from trueup.edges.cli import root
from trueup.edges.settings_form import SettingsForm

DOCS = ROOT / "docs"
ZENSICAL = ROOT / ".cache" / "docs-venv" / "bin" / "zensical"


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (DOCS / "commands.md").read_text()
    group = click.Context(root.root)
    for name in root.COMMANDS:
        command = root.root.get_command(group, name)
        assert command is not None
        assert f"## trueup {name}\n" in text
        for sub in getattr(command, "commands", {"": command}).values():
            for option in (param for param in sub.params if isinstance(param, click.Option)):
                assert option.name in {"config", "debug", "as_json"} or f"`{option.opts[0]}" in text, option


def test_every_setting_is_in_the_reference() -> None:
    text = (DOCS / "settings.md").read_text()
    for name, field in SettingsForm.model_fields.items():
        section = text.split(f"## [{name}]\n", 1)[1].split("\n## ", 1)[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(field.annotation.model_fields)  # type: ignore[union-attr]


def pages(nav: list[dict]) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from pages(value)


def test_the_navigation_leads_to_pages_that_are_there() -> None:
    nav = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert len(nav) == len(set(nav)) > 10
    assert [page for page in nav if not (DOCS / page).is_file()] == []


@pytest.mark.timeout(300)
@pytest.mark.skipif(not ZENSICAL.exists(), reason="`make docs` was not run here")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    subprocess.run([sys.executable, "docs/site.py", folder], cwd=ROOT, check=True)
    done = subprocess.run([ZENSICAL, "build", "--strict"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "site" / "trouble" / "leftover-lock.html").exists()

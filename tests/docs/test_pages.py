"""What the documents say is there: links, reasons, error texts, and privileges that suffice."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from trueup.edges.demo import cast
from trueup.model.ops import Reason

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "adr").glob("*.md"))]
PAGES += sorted((ROOT / "docs" / "trouble").glob("*.md"))
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPEN = list(Reason)[list(Reason).index(Reason.TASK_UNKNOWN) :]
TRUEUP = [sys.executable, "-m", "trueup"]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(other), f"{page.name}: {target}"


def test_the_guide_tells_what_to_do_about_each_reason_to_stand_open() -> None:
    section = GUIDE.split("## What stands open", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {reason.value for reason in OPEN}


def said_in_the_source() -> str:
    """Every text of the package; a value that is filled in becomes `…`."""
    texts: list[str] = []
    for file in (ROOT / "src" / "trueup").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


FILLED_IN = r"…|'[^']*'|\b\d+\b|token secret"
"""What the source has as a value."""


def test_the_guide_quotes_errors_as_they_are() -> None:
    source = said_in_the_source()
    section = GUIDE.split("## Errors", 1)[1]
    quoted = [
        text for row in re.findall(r"^\| (`.*?) \| \d", section, re.MULTILINE) for text in re.findall(r"`([^`]+)`", row)
    ]
    assert len(quoted) > 15
    for text in quoted:
        parts = [part for part in re.split(FILLED_IN, text) if len(part.strip(" :,()")) > 3]
        assert parts, text
        for part in parts:
            assert part.strip() in source, f"{text!r}: {part!r} is said nowhere"


def test_the_readme_and_the_guide_give_the_same_privileges() -> None:
    lines = re.findall(r"^pveum .*$", README, re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        assert line in GUIDE


def test_the_privileges_of_the_readme_suffice(tmp_path: Path) -> None:
    """With them, and no others, all that the demo's guests need can be done."""
    given = {privilege for privs in re.findall(r'--privs "([^"]+)"', README) for privilege in privs.split()}
    token = {"id": "trueup@pve!agent-a", "secret": "11111111-2222-4333-8444-555555555555", "privs": sorted(given)}
    world = tmp_path / "world.json"
    world.write_text(json.dumps({**cast.WORLD, "tokens": [token]}))
    command = [sys.executable, "-m", "pvesim", "--json", "--guests", str(world), "--time-scale", "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout
            reached = json.loads(simulator.stdout.readline())
            settings = cast.settings_text(url=reached["url"], token_id=token["id"], ca_file=reached["ca_file"])
            (tmp_path / "trueup.toml").write_text(settings)
            (tmp_path / "token.secret").write_text(token["secret"])
            (tmp_path / "manifests").mkdir()
            for name, text in cast.MANIFESTS.items():
                (tmp_path / "manifests" / name).write_text(text)
            done = subprocess.run(
                [*TRUEUP, "apply", "--yes"], check=False, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert "Converged: 8 guests." in done.stdout
        finally:
            simulator.terminate()

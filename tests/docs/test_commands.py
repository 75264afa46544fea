"""The commands of the README, the guide, and the pages on manifests and on the gate work as written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Block, Shell, blocks, commands, missing

README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
GATE = ROOT / "docs" / "gate.md"
MANIFESTS = ROOT / "docs" / "manifests.md"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize("document", [README, GUIDE, GATE], ids=["README", "guide", "gate"])
def test_its_commands_work_as_written(document: Path, shell: Shell) -> None:
    some = blocks(document)
    assert len(some) > 3
    shell.play(document, some)


def test_the_manifest_on_the_page_of_manifests_is_one(shell: Shell) -> None:
    shell.play(README, blocks(README)[:1])
    shell.run("rm manifests/*")
    shell.play(MANIFESTS, blocks(MANIFESTS))


def test_a_block_is_read_as_commands_with_codes_and_output() -> None:
    block = Block(line=1, language="console", text="$ a    # exits 0 or 2\nx … y\n$ b\n", file="")
    assert [(one.text, one.codes, one.expected) for one in commands(block)] == [
        ("a", [0, 2], ["x … y"]),
        ("b", [0], []),
    ]


def test_expected_lines_are_looked_for_in_their_order() -> None:
    assert missing(["a", "…", "c … e"], ["a", "b", "c  d e"]) == ""
    assert missing(["b", "a"], ["a", "b"]) == "a"
    assert missing(["a …"], ["b a b"]) == "a …"

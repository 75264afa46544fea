"""Blocks of the documents that are meant to be run, and the shell that runs them.

A comment before a fenced block says what it is for:

    <!-- run -->            bash: run as it stands. console: each line with `$ ` is run, the lines below are its output
    <!-- file: NAME -->     its content is written into this file

In expected output, `…` stands for anything, also for any number of lines; lines may be left out between others.
`# exits 2` (or `0 or 2`) behind a command is its exit code, else it is 0. All blocks of a document share one shell.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"<!-- (run|file: (?P<name>\S+)) -->\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_EXITS = re.compile(r"\s+# exits (?P<codes>\d+(?: or \d+)*)$")


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    text: str
    file: str


@dataclass(frozen=True)
class Command:
    text: str
    codes: Sequence[int]
    expected: Sequence[str]


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            file=found["name"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *expected = part.rstrip("\n").split("\n")
        exits = _EXITS.search(line)
        codes = [int(code) for code in exits["codes"].split(" or ")] if exits else [0]
        yield Command(text=_EXITS.sub("", line), codes=codes, expected=expected)


def missing(expected: Sequence[str], said: Sequence[str]) -> str:
    """The first expected line that is not there, in order; '' if all are."""
    lines = iter([_plain(line) for line in said])
    for want in expected:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in _plain(want).split("…")))
        if pattern.pattern.strip(".* ") and not any(pattern.fullmatch(line) for line in lines):
            return want
    return ""


def _plain(line: str) -> str:
    return " ".join(line.split())


class Shell:
    """One bash for a whole document: folders, functions and background jobs stay."""

    _MARK = "@@@ended"

    def __init__(self, folder: Path, programs: Path = Path(sys.executable).parent) -> None:
        path = f"{programs}:{os.environ['PATH']}"
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str) -> tuple[int, list[str]]:
        """The exit code, and what was said on both outputs."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{{\n{text}\n}} </dev/null\nprintf '\\n{self._MARK} %s\\n' $?\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(self._MARK):
                return int(line.split()[1]), said
            said.append(line.rstrip("\n"))
        raise AssertionError(f"the shell ended: {said}")

    def write(self, name: str, text: str) -> None:
        code, said = self.run(f"cat > '{name}' <<'@@@EOF'\n{text}@@@EOF")
        assert code == 0, said

    def play(self, document: Path, some: Sequence[Block]) -> None:
        for block in some:
            where = f"{document.name}:{block.line}"
            if block.file:
                self.write(block.file, block.text)
            elif block.language == "bash":
                code, said = self.run(block.text)
                assert code == 0, f"{where}: exit {code}: {said}"
            else:
                self._each(where, block)

    def _each(self, where: str, block: Block) -> None:
        for command in commands(block):
            code, said = self.run(command.text)
            shown = "\n".join(said)
            assert code in command.codes, f"{where}: {command.text}: exit {code}\n{shown}"
            lost = missing(command.expected, said)
            assert not lost, f"{where}: {command.text}: no line like {lost!r} in\n{shown}"

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

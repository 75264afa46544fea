"""Prints the locked packages that trueup needs at run time: the lock file without what only its development needs."""

import re
import sys
import tomllib
from pathlib import Path


def main(lock: str, project: str) -> None:
    """Walk from the project's own dependencies over the `# via` remarks of the lock file."""
    named = tomllib.loads(Path(project).read_text())["project"]["dependencies"]
    wanted = {_plain(re.split(r"[\s<>=!~\[;]", text)[0]) for text in named}
    blocks = _blocks(Path(lock).read_text())
    grown = True
    while grown:
        more = {name for name, (_, via) in blocks.items() if via & wanted} - wanted
        grown = bool(more)
        wanted |= more
    for name, (text, _) in blocks.items():
        if name in wanted:
            print(text)


def _blocks(lock: str) -> dict[str, tuple[str, set[str]]]:
    """Each package's lines, and who asks for it."""
    found: dict[str, tuple[str, set[str]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", block)
        if match is None:
            continue
        remarks = [
            line.strip().removeprefix("#").strip() for line in block.splitlines() if line.strip().startswith("#")
        ]
        via = {_plain(text.removeprefix("via").strip().split(" ")[0]) for text in remarks}
        lines = [line for line in block.splitlines() if not line.strip().startswith("#")]
        found[_plain(match[1])] = ("\n".join(lines), via)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(*sys.argv[1:])

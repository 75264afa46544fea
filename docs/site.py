# noqa: INP001 - a script beside the pages, no package
"""Copy what the site is made of into a folder: `python docs/site.py FOLDER`.

The tool that builds it keeps a .cache where it runs, so it does not run here. Links to files beside the documents (the
unit, the benchmarks) lead nowhere on a site, and become words.
"""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)\s]+)\)")


def main(target: Path) -> None:
    """Copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target / "docs", ignore=shutil.ignore_patterns("__pycache__", "*.py", "*.txt"))
    shutil.copy(ROOT / "zensical.toml", target)
    for page in (target / "docs").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(OUTSIDE.sub(partial(_inside, page, target), text), encoding="utf-8")


def _inside(page: Path, target: Path, link: re.Match[str]) -> str:
    """The link, or its words where it leads out of the documents."""
    other = (page.parent / link[0].rpartition("(")[2].rstrip(")").partition("#")[0]).resolve()
    return link[0] if other.is_relative_to((target / "docs").resolve()) else f"{link[1]} (`{link[2]}`)"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

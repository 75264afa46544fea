"""The files that `trueup init` writes. It never replaces one, and writes none where one is there already."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from trueup.adapters.file_names import shown
from trueup.model.errors import BadInput

STARTER_FILES: Final = {
    "trueup.toml": "trueup.toml",
    "manifests/example.yaml": "manifests/example.yaml",
    "keyring.yaml": "keyring.yaml",
    "policy.yaml": "policy.yaml",
    "README.txt": "README.txt",
    ".gitignore": "gitignore",
}
"""Written name to shipped name."""


def write_starter(folder: Path) -> tuple[Path, ...]:
    """Write the starter files into a folder, which is made if need be; the answer is what was written.

    Raises:
        BadInput: one of the files exists (then nothing was written), or the folder cannot be written.
    """
    there = [name for name in STARTER_FILES if (folder / name).is_symlink() or (folder / name).exists()]
    if there:
        what = f"{', '.join(there)} {'are' if len(there) > 1 else 'is'} there already; nothing was written"
        raise BadInput(what=what, where=shown(folder), remedy="choose another folder, as in `trueup init DIR`")
    shipped = files("trueup.edges.starter")
    written: list[Path] = []
    for name, source in STARTER_FILES.items():
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as opened:
                opened.write(shipped.joinpath(source).read_text(encoding="utf-8"))
        except OSError as error:
            what = f"cannot write: {error.strerror}"
            raise BadInput(what=what, where=shown(target), remedy="choose a folder that you may write") from error
        written.append(target)
    return tuple(written)

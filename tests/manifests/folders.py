"""Folders of manifests, as the tests write them."""

import pytest

from trueup.adapters.manifests import load
from trueup.model.errors import BadInput, ManyProblems

VM = "kind: VirtualMachine\nname: web-1\nvmid: 101\nnode: pve1\n"


def write(folder, text, name="a.yaml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(folder, text=None, name="a.yaml"):
    if text is not None:
        write(folder, text, name)
    with pytest.raises(BadInput) as caught:
        load(folder)
    error = caught.value
    return [str(problem) for problem in (error.problems if isinstance(error, ManyProblems) else (error,))]


def one(folder, text):
    write(folder, text)
    (guest,) = load(folder).guests
    return guest

"""What two clusters of one settings file may not have in common: names, nodes, a journal, manifests, a spool.

A shared journal would let one cluster's recovery judge the other's operations, a shared manifest folder would make
every guest twice, and a signed request in a shared spool would be refused by the cluster that it is not made out to.
Keyrings and policies may be shared: they are only read, and a request names its cluster.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from trueup.model.settings import Settings

_NOT_IN_VARIABLES: Final = re.compile(r"[^A-Z0-9]")


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """Something that two clusters have in common. `path` leads to the second one's table or key."""

    path: tuple[str | int, ...]
    what: str
    remedy: str


def plain(name: str) -> str:
    """A cluster's name as it ends the names of variables: `TRUEUP_TOKEN_SECRET_LAB_1` for `lab-1`."""
    return _NOT_IN_VARIABLES.sub("_", name.upper())


def shared(clusters: Sequence[Settings]) -> list[Shared]:
    """All that clusters have in common and may not, in the order of the file."""
    found = [*_names(clusters), *_endpoints(clusters), *_journals(clusters)]
    manifests = [settings.manifests.path for settings in clusters]
    found += _folders(clusters, manifests, "manifests", "path")
    found += _folders(clusters, [settings.gate.spool for settings in clusters], "gate", "spool")
    return sorted(found, key=lambda told: int(told.path[1]))


def _names(clusters: Sequence[Settings]) -> Iterator[Shared]:
    first: dict[str, int] = {}
    for at, settings in enumerate(clusters):
        name = settings.cluster.name
        other = first.setdefault(plain(name), at)
        if other != at:
            taken = clusters[other].cluster.name
            what = f"there is a cluster {taken!r} already" if name == taken else f"{name!r} is too much like {taken!r}"
            remedy = "give each cluster a name that differs in letters and digits"
            yield Shared(path=("cluster", at, "name"), what=what, remedy=remedy)


def _endpoints(clusters: Sequence[Settings]) -> Iterator[Shared]:
    first: dict[str, int] = {}
    for at, settings in enumerate(clusters):
        for endpoint in settings.cluster.endpoints:
            other = first.setdefault(endpoint, at)
            if other != at:
                what = f"{endpoint} is a node of {clusters[other].cluster.name!r} already"
                remedy = "one cluster has one table: two journals would not know of each other's operations"
                yield Shared(path=("cluster", at, "endpoints"), what=what, remedy=remedy)


def _journals(clusters: Sequence[Settings]) -> Iterator[Shared]:
    """The journal's path is also where its control socket is, with PostgreSQL too."""
    first: dict[str, int] = {}
    for at, settings in enumerate(clusters):
        other = first.setdefault(os.path.realpath(settings.store.path), at)
        if other != at:
            name, whose = settings.cluster.name, clusters[other].cluster.name
            what = f"{name!r} would have the journal of {whose!r}, {settings.store.path}"
            remedy = "write a folder of its own, or a url in [cluster.store]"
            yield Shared(path=("cluster", at, "store", "url"), what=what, remedy=remedy)


def _folders(clusters: Sequence[Settings], folders: Sequence[Path], section: str, key: str) -> Iterator[Shared]:
    """Folders that are the same, or one inside of the other."""
    real = [Path(os.path.realpath(folder)) for folder in folders]
    first: dict[Path, int] = {}
    for at, folder in enumerate(real):
        first.setdefault(folder, at)
    for at, folder in enumerate(real):
        around = (first[above] for above in (folder, *folder.parents) if above in first)
        other = next((one for one in around if one != at), None)
        if other is not None:
            name, whose = clusters[at].cluster.name, clusters[other].cluster.name
            what = f"[{section}] {key} of {name!r} is in that of {whose!r}, {folders[other]}"
            remedy = f"write {key} in [cluster.{section}], for a folder of its own"
            yield Shared(path=("cluster", at, section, key), what=what, remedy=remedy)

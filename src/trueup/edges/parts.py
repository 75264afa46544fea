"""What commands are made of, as a value: the commands ask for a part, and only `app` knows where it comes from.

Nothing is opened before it is asked for, so that `trueup --help` and the commands that only read pay for what they use.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from trueup.adapters.manifests import Manifests
    from trueup.adapters.sqlite import Stats, Verification
    from trueup.model.ids import TokenId
    from trueup.model.settings import ClusterSettings, Secret, Settings, StoreSettings
    from trueup.ports import Clock, Entropy, Journal, JournalReader, Keeper, Pve


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An API token with its secret."""

    token: "TokenId"
    secret: "Secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFile:
    """What can be asked of a journal's file as a whole, beside its writer. All of them may raise BadInput or Corrupt.

    `exists` tells whether there is one; `held` whether somebody holds its writer's lock now; `durability` what is wrong
    with how it is kept ('' = nothing).
    """

    exists: "Callable[[StoreSettings], bool]"
    held: "Callable[[StoreSettings], bool]"
    verify: "Callable[[StoreSettings], Verification]"
    export: "Callable[[StoreSettings], Iterator[str]]"
    stats: "Callable[[StoreSettings], Stats]"
    durability: "Callable[[StoreSettings], str]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts.

    `settings` reads a settings file. `journal` opens the journal for writing and holds its lock until it is closed;
    `reader` opens it beside its writer; both raise what the adapter raises. `manifests` makes a loader that remembers
    files which did not change. `pve` and `keeper` connect, and are entered once PVE has answered.
    """

    settings: "Callable[[Path], Settings]"
    clock: "Callable[[], Clock]"
    entropy: "Callable[[], Entropy]"
    journal: "Callable[[StoreSettings], Journal]"
    reader: "Callable[[StoreSettings], AbstractAsyncContextManager[JournalReader]]"
    journal_file: JournalFile
    manifests: "Callable[[Path], Callable[[], Manifests]]"
    pve: "Callable[[Settings, Credential], AbstractAsyncContextManager[Pve]]"
    keeper: "Callable[[ClusterSettings, str, Credential], AbstractAsyncContextManager[Keeper]]"

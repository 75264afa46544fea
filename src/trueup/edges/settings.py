"""`trueup.toml`: read once, checked whole, and handed on as frozen values (`model.settings`), one for each cluster.

Everything that is wrong is told at once, with its line. Secrets are read apart from it, and only by the commands that
need one. Importing this module is cheap; pydantic comes in when a file is read.

With `[[cluster]]` tables, what is relative in the settings of a cluster is relative to the cluster's own folder, so
that two clusters share nothing unless somebody writes it down; and then it is refused (`settings_apart`).
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from trueup.adapters.file_names import shown
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.ids import TokenId
from trueup.model.settings import (
    DEFAULT_FILE,
    KEEPER_SECRET_VARIABLE,
    TOKEN_SECRET_VARIABLE,
    CaFile,
    ClusterSettings,
    Fingerprint,
    GateSettings,
    HttpSettings,
    Insecure,
    KeeperSettings,
    LimitSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    ManifestSettings,
    Mode,
    NotifySettings,
    ReconcileSettings,
    Secret,
    SecretSource,
    Settings,
    StoreSettings,
    Trust,
)

if TYPE_CHECKING:
    from trueup.edges.settings_form import ClusterForm, HttpForm, LimitsForm, SettingsForm, StoreForm

_AT: Final = re.compile(r"\s*\(at line (\d+), column (\d+)\)$")
_INSECURE: Final = (
    "insecure = true: PVE's certificate is not checked, so anybody on the way can read and change all of it"
)


_BESIDE_POSTGRES: Final = "state/postgresql"
"""Names what is kept on this machine where the journal is not: the control socket, the cluster's schema."""


class SecretRead(msgspec.Struct, frozen=True, kw_only=True):
    """A secret, and what should be said about the way it is kept."""

    secret: Secret
    warnings: tuple[str, ...] = ()


def load(file: Path = Path(DEFAULT_FILE), cluster: str | None = None) -> Settings:
    """Read the settings of one cluster; which one has to be said where the file has several.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are.
    """
    return pick(load_all(file), cluster)


def pick(found: Sequence[Settings], cluster: str | None) -> Settings:
    """The settings of the cluster with this name; None = of the only one. Raises BadInput with all names."""
    names = ", ".join(settings.cluster.name for settings in found)
    where = shown(found[0].file)
    if cluster is None:
        if len(found) > 1:
            what = "these settings are for several clusters"
            raise BadInput(what=what, where=where, remedy=f"choose one with --cluster: {names}")
        return found[0]
    for settings in found:
        if settings.cluster.name == cluster:
            return settings
    raise BadInput(
        what=f"there is no cluster {cluster[:80]!r} in these settings", where=where, remedy=f"known: {names}"
    )


def load_all(file: Path = Path(DEFAULT_FILE)) -> tuple[Settings, ...]:
    """Read a settings file, for each of its clusters. Relative paths in it are relative to its folder.

    Raises:
        BadInput: something is wrong; `ManyProblems` if several things are.
    """
    text = _text(file)
    name = shown(file)
    document = _parse(text, name)
    from pydantic import ValidationError

    from trueup.adapters.complaints import complaints
    from trueup.edges.settings_form import SettingsForm, known

    lines = key_lines(text)
    tables = document.get("cluster")
    whole = Path(os.path.abspath(file))  # noqa: PTH100 - links in the path are kept as they are
    try:
        if isinstance(tables, list):
            return _several(document, whole, name, lines)
        return (_settings(SettingsForm.model_validate(document), whole),)
    except ValidationError as error:
        keys = known(len(cast("list[object]", tables)) if isinstance(tables, list) else None)
        found = sorted(((_line(lines, told.path), told) for told in complaints(error, keys)), key=itemgetter(0))
        problems = [BadInput(what=told.what, where=f"{name}:{line}", remedy=told.remedy) for line, told in found]
        raise (problems[0] if len(problems) == 1 else ManyProblems(problems=problems)) from None


def read_secret(source: SecretSource, environment: Mapping[str, str], *, what: str = "token secret") -> SecretRead:
    """Read a secret: from its environment variable if that is set, else from its file.

    Raises:
        BadInput: there is none, or it is no secret in one line.
    """
    given = environment.get(source.variable, "") if source.variable else ""
    if given:
        return SecretRead(secret=_one_line(given.encode(), f"${source.variable}", what))
    if source.file is None:
        remedy = f"set token_secret_file, or the environment variable {source.variable}"
        raise BadInput(what=f"there is no {what}", remedy=remedy)
    where = shown(source.file)
    try:
        with source.file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(limits.SECRET_MAX_BYTES + 1)
    except OSError as error:
        remedy = f"put the {what} into this file, with mode 0600"
        remedy += f", or set {source.variable}" if source.variable else ""
        raise BadInput(what=f"cannot read the {what}: {error.strerror}", where=where, remedy=remedy) from None
    warnings: tuple[str, ...] = ()
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        warnings = (f"{where}: every user of this machine can read the {what} (chmod 600 {where})",)
    return SecretRead(secret=_one_line(content, where, what), warnings=warnings)


Steps = tuple[str | int, ...]
"""A path of keys; the tables of an array are counted from 0."""


def key_lines(text: str) -> dict[Steps, int]:
    """The lines of a TOML file's tables and keys; keys inside inline tables have their table's line.

    It is a search, not a parser: a line inside a multi-line string may be taken for a key. Only messages lean on it.
    """
    lines: dict[Steps, int] = {}
    arrays: dict[Steps, int] = {}
    table: Steps = ()
    for number, line in enumerate(text.split("\n"), start=1):
        header = re.match(r"\s*\[(\[)?([^\[\]]+)\]\]?\s*(?:#.*)?$", line)
        key = re.match(
            r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=", line
        )
        if header:
            table = _table(_dotted(header[2]), arrays, opens=header[1] is not None)
            lines.setdefault(table[:-1] if header[1] else table, number)
            lines.setdefault(table, number)
        elif key:
            path = table + _dotted(key[1])
            for depth in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:depth], number)
    return lines


def _table(names: Sequence[str], arrays: dict[Steps, int], *, opens: bool) -> Steps:
    """The path of a header: a table below an array belongs to the array's newest one, or `opens` a new one."""
    path: Steps = ()
    for at, name in enumerate(names):
        path = (*path, name)
        if opens and at == len(names) - 1:
            arrays[path] = arrays.get(path, -1) + 1
        if path in arrays:
            path = (*path, arrays[path])
    return path


def _dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _line(lines: Mapping[Steps, int], path: Steps) -> int:
    """The line of the nearest key above that has one."""
    for depth in range(len(path), 0, -1):
        if path[:depth] in lines:
            return lines[path[:depth]]
    return 1


def _text(file: Path) -> str:
    where = shown(file)
    try:
        with file.open("rb") as source:
            content = source.read(limits.SETTINGS_MAX_BYTES + 1)
    except FileNotFoundError:
        remedy = "run `trueup init`, or name the file with --config"
        raise BadInput(what="there is no settings file", where=where, remedy=remedy) from None
    except OSError as error:
        raise BadInput(what=f"cannot read the settings: {error.strerror}", where=where) from None
    if len(content) > limits.SETTINGS_MAX_BYTES:
        raise BadInput(what=f"the settings are larger than {limits.SETTINGS_MAX_BYTES // 1024} KiB", where=f"{where}:1")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(what="the file is not in UTF-8", where=f"{where}:{line}", remedy="save it as UTF-8") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        at = _AT.search(said)
        where = f"{name}:{at[1]}:{at[2]}" if at else f"{name}:{text.count(chr(10)) + 1}"
        what = f"not TOML: {_AT.sub('', said).removesuffix(' (at end of document)')}"
        raise BadInput(what=what, where=where, remedy='texts stand in quotes: key = "value"') from None
    except RecursionError:
        raise BadInput(what="not TOML: nested too deeply", where=f"{name}:1") from None


def _one_line(content: bytes, where: str, what: str) -> Secret:
    text = content.decode("ascii", errors="replace").strip()
    if not text:
        raise BadInput(what=f"the {what} is empty", where=where, remedy="put in the secret that PVE showed once")
    if len(content) > limits.SECRET_MAX_BYTES or not text.isascii() or not text.isprintable() or " " in text:
        raise BadInput(what=f"the {what} is not one word of plain text", where=where, remedy="put in nothing else")
    return Secret(text)


def _several(document: Mapping[str, Any], file: Path, name: str, lines: Mapping[Steps, int]) -> tuple[Settings, ...]:
    """One for each `[[cluster]]`. Raises pydantic's ValidationError, or BadInput where two share what they may not."""
    from trueup.edges import settings_apart
    from trueup.edges.settings_form import SettingsForm, SeveralForm, over

    form = SeveralForm.model_validate(document)
    found: list[Settings] = []
    for member in form.cluster:
        one = SettingsForm.model_construct(
            cluster=member,
            store=over(form.store, member.store),
            manifests=over(form.manifests, member.manifests),
            reconcile=over(form.reconcile, member.reconcile),
            gate=over(form.gate, member.gate),
            http=form.http,
            limits=over(form.limits, member.limits),
            log=form.log,
            notify=over(form.notify, member.notify),
        )
        ending = f"_{settings_apart.plain(member.name)}"
        found.append(_settings(one, file, folder=file.parent / (member.folder or member.name), ending=ending))
    problems = [
        BadInput(what=told.what, where=f"{name}:{_line(lines, told.path)}", remedy=told.remedy)
        for told in settings_apart.shared(found)
    ]
    if problems:
        raise problems[0] if len(problems) == 1 else ManyProblems(problems=problems)
    return tuple(found)


def _settings(form: "SettingsForm", file: Path, *, folder: Path | None = None, ending: str = "") -> Settings:
    """The settings of one cluster, whose own things are in `folder`; `ending` tells its variables from others'."""
    mine = folder or file.parent
    warning = f"cluster {form.cluster.name}: {_INSECURE}" if ending else _INSECURE
    return Settings(
        file=file,
        cluster=_cluster(form.cluster, mine, ending),
        store=_store(form.store, form.cluster.name, mine),
        manifests=ManifestSettings(path=mine / form.manifests.path),
        reconcile=ReconcileSettings(interval_s=form.reconcile.interval, mode=Mode(form.reconcile.mode)),
        gate=GateSettings(
            keyring=mine / form.gate.keyring, policy=mine / form.gate.policy, spool=mine / form.gate.spool
        ),
        http=_http(form.http, file.parent),
        limits=_limits(form.limits),
        log=LogSettings(level=LogLevel(form.log.level), format=LogFormat(form.log.format)),
        notify=NotifySettings(urls=tuple(Secret(url) for url in form.notify.urls)),
        warnings=(warning,) if form.cluster.insecure else (),
    )


def _http(form: "HttpForm", folder: Path) -> HttpSettings:
    from trueup.edges import settings_origins

    return HttpSettings(
        host=form.host(),
        port=form.port(),
        token_file=folder / form.token_file,
        tls_cert=folder / form.tls_cert if form.tls_cert else None,
        tls_key=folder / form.tls_key if form.tls_key else None,
        socket=folder / form.socket if form.socket else None,
        relying_party=settings_origins.relying_party(form.origins, form.rp_id),
    )


def _store(form: "StoreForm", cluster: str, folder: Path) -> StoreSettings:
    from trueup.adapters.postgres import address

    url, lease_s = form.url, form.lease
    if url.partition(":")[0] in address.SCHEMES and "://" in url:
        found = address.parse(url, cluster)
        return StoreSettings(path=folder / _BESIDE_POSTGRES, postgres=found, lease_s=lease_s)
    return StoreSettings(path=folder / url, lease_s=lease_s)


def _cluster(form: "ClusterForm", folder: Path, ending: str) -> ClusterSettings:
    keeper = form.keeper
    return ClusterSettings(
        name=form.name,
        endpoints=tuple(form.endpoints),
        trust=_trust(form, folder),
        token_id=TokenId(form.token_id) if form.token_id else None,
        token_secret=_secret_source(form.token_secret_file, folder, TOKEN_SECRET_VARIABLE + ending),
        keeper=KeeperSettings(
            token_id=TokenId(keeper.token_id),
            secret=_secret_source(keeper.token_secret_file, folder, KEEPER_SECRET_VARIABLE + ending),
            user=keeper.user,
            prefix=keeper.prefix,
        )
        if keeper
        else None,
    )


def _secret_source(file: str | None, folder: Path, variable: str) -> SecretSource:
    return SecretSource(file=folder / file if file else None, variable=variable)


def _trust(form: "ClusterForm", folder: Path) -> Trust:
    if form.ca_file is not None:
        return CaFile(path=folder / form.ca_file)
    if form.fingerprint is not None:
        return Fingerprint(sha256=bytes.fromhex(form.fingerprint))
    return Insecure()


def _limits(form: "LimitsForm") -> LimitSettings:
    return LimitSettings(
        slots_per_node=form.slots_per_node,
        send_by_s=form.send_by,
        settle_goal_s=form.settle_time,
        settle_token_s=form.settle_time_token,
        settle_time_s=form.settle_time_without_token,
    )

"""The form of `trueup.toml`: which keys there are, and what may stand in them.

Imported only when a settings file is read: pydantic costs more than `trueup --help` may take.
"""

import ipaddress
import re
from pathlib import PosixPath
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trueup.adapters.complaints import Path, wrong
from trueup.adapters.postgres import address
from trueup.edges import settings_origins
from trueup.model import limits
from trueup.model.durations import parse_duration
from trueup.model.errors import BadInput
from trueup.model.settings import LogFormat, LogLevel, Mode

_CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_USER: Final = re.compile(r"[^\s:/@!]{1,60}@[A-Za-z][A-Za-z0-9._-]+", re.ASCII)
_TOKEN: Final = re.compile(rf"{_USER.pattern}![A-Za-z][A-Za-z0-9._-]+", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,40}", re.ASCII)
_FINGERPRINT: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}|[0-9A-Fa-f]{64}", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_PVE_PORT: Final = 8006
_PORT_MAX: Final = 65_535


def _cluster_name(value: str) -> str:
    if _CLUSTER_NAME.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no name for a cluster", "write letters, digits and - . _, at most 63")
    return value


def _endpoint(value: str) -> str:
    """`https://host[:port]`, and nothing else that would be sent somewhere unexpected."""
    remedy = "write https://host:8006"
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise wrong(f"endpoint {value[:80]!r} is no URL: {error}", remedy) from error
    if url.scheme != "https":
        raise wrong(f"endpoint {value[:80]!r} is not https", remedy)
    if url.username is not None or url.query or url.fragment or url.path not in {"", "/"}:
        raise wrong("an endpoint is a host and a port, without user, path or query", remedy)
    if not _is_host(host) or port == 0:
        raise wrong(f"endpoint {value[:80]!r} has no valid host and port", remedy)
    bracketed = f"[{host}]" if ":" in host else host
    return f"https://{bracketed}:{port or _PVE_PORT}"


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


def _token_id(value: str) -> str:
    if _TOKEN.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no token id", "write user@realm!name, like trueup@pve!agent")
    return value


def _user(value: str) -> str:
    if _USER.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no PVE user", "write user@realm, like trueup@pve")
    return value


def _prefix(value: str) -> str:
    if _PREFIX.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no beginning of a token's name", 'write a letter first, like "agent-a-"')
    return value


def _fingerprint(value: str) -> str:
    if _FINGERPRINT.fullmatch(value) is None:
        raise wrong("the fingerprint is no SHA-256", "write the 32 pairs that PVE shows under System > Certificates")
    return value.replace(":", "").lower()


def _file(value: str) -> str:
    if not value or "\0" in value:
        raise wrong("a path is empty", "write a path, relative to this file or absolute")
    try:
        return str(PosixPath(value).expanduser())
    except RuntimeError as error:
        raise wrong(f"{value[:80]!r} names a user that is not there", "write the whole path") from error


def _seconds(value: object) -> float:
    if not isinstance(value, str):
        raise wrong("a duration needs its unit", 'write it in quotes, like "30s", "5m" or "1h"')
    try:
        return parse_duration(value)
    except BadInput as error:
        raise wrong(error.what, error.remedy) from error


def _between(least: float, most: float) -> AfterValidator:
    def check(value: float) -> float:
        if not least <= value <= most:
            raise wrong(f"{value:g}s is outside of {least:g}s to {most:g}s", "choose a value inside")
        return value

    return AfterValidator(check)


def _store(value: str) -> str:
    """The path of a SQLite file, or the whole URL of a database."""
    scheme, _, path = value.partition(":")
    if scheme in address.SCHEMES:
        try:
            return address.parse(value, "").url.reveal()
        except BadInput as error:
            raise wrong(error.what, error.remedy) from None
    if scheme != "sqlite" or not path or "?" in path or "\0" in path or path.endswith("/") or path.startswith("//"):
        remedy = 'write url = "sqlite:state/journal.db", or "postgresql://user@host/database"'
        raise wrong(f"{address.redacted(value)[:80]!r} is no place for the journal", remedy)
    return path


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdigit() and int(port) <= _PORT_MAX) or not _is_host(host):
        raise wrong(f"{value[:80]!r} is no address to listen on", 'write "127.0.0.1:8640" or "[::1]:8640"')
    return value


File = Annotated[str, AfterValidator(_file)]
Token = Annotated[str, AfterValidator(_token_id)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Settle = Annotated[Seconds, _between(limits.SETTLE_MIN_S, limits.SETTLE_MAX_S)]


class _Form(BaseModel):
    # Built when it is first used: a form within another one is built as a part of that one, and needs none of its own.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class KeeperForm(_Form):
    """`keeper = {…}` in `[cluster]`."""

    token_id: Token
    token_secret_file: File | None = None
    user: Annotated[str, AfterValidator(_user)]
    prefix: Annotated[str, AfterValidator(_prefix)]


class ClusterForm(_Form):
    """`[cluster]`, the only section that must be there."""

    name: Annotated[str, AfterValidator(_cluster_name)]
    endpoints: Annotated[
        list[Annotated[str, AfterValidator(_endpoint)]], Field(min_length=1, max_length=limits.ENDPOINTS_MAX)
    ]
    token_id: Token | None = None
    token_secret_file: File | None = None
    keeper: KeeperForm | None = None
    ca_file: File | None = None
    fingerprint: Annotated[str, AfterValidator(_fingerprint)] | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        trust = [key for key in ("ca_file", "fingerprint") if getattr(self, key) is not None]
        trust += ["insecure"] if self.insecure else []
        if len(trust) != 1:
            what = f"{' and '.join(trust)} exclude each other" if trust else "nothing says which certificate to trust"
            raise wrong(what, 'write exactly one of ca_file = "…", fingerprint = "…", insecure = true')
        if self.token_id is None and self.keeper is None:
            raise wrong("'token_id' is missing", 'write token_id = "trueup@pve!agent", or a keeper')
        if self.keeper is not None and self.keeper.token_id == self.token_id:
            what = "the keeper's token is the agent's own"
            raise wrong(what, "give the keeper a user and a token of its own", at="keeper")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise wrong("an endpoint is named twice", "take one out", at="endpoints")
        return self


class StoreForm(_Form):
    """`[store]`."""

    url: Annotated[str, AfterValidator(_store)] = "state/journal.db"
    lease: Annotated[Seconds, _between(limits.LEASE_MIN_S, limits.LEASE_MAX_S)] = limits.LEASE_S


class ManifestsForm(_Form):
    """`[manifests]`."""

    path: File = "manifests"


class ReconcileForm(_Form):
    """`[reconcile]`."""

    interval: Annotated[Seconds, _between(limits.INTERVAL_MIN_S, limits.INTERVAL_MAX_S)] = limits.INTERVAL_S
    mode: Literal["enforce", "observe"] = Mode.ENFORCE.value


class GateForm(_Form):
    """`[gate]`."""

    keyring: File = "keyring.yaml"
    policy: File = "policy.yaml"
    spool: File = "spool"


class HttpForm(_Form):
    """`[http]`."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8640"
    token_file: File = "http.token"  # noqa: S105 - a file's name
    tls_cert: File | None = None
    tls_key: File | None = None
    socket: File | None = None
    origins: list[Annotated[str, AfterValidator(settings_origins.origin)]] = Field(default_factory=list)
    rp_id: str | None = None

    @model_validator(mode="after")
    def _of_one_site(self) -> Self:
        settings_origins.relying_party(self.origins, self.rp_id)
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise wrong("tls_cert and tls_key go together", "write both or none")
        if self.tls_cert is None and not _is_loopback(self.host()):
            what = f"{self.listen!r} can be reached from other machines, without TLS"
            raise wrong(what, "write tls_cert and tls_key, or listen on 127.0.0.1", at="listen")
        return self

    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")

    def port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class LimitsForm(_Form):
    """`[limits]`."""

    slots_per_node: Annotated[int, Field(ge=1, le=limits.SLOTS_PER_NODE_MAX)] = limits.SLOTS_PER_NODE
    send_by: Annotated[Seconds, _between(limits.SEND_BY_MIN_S, limits.SEND_BY_S)] = limits.SEND_BY_S
    settle_time: Settle = limits.SETTLE_GOAL_S
    settle_time_token: Settle = limits.SETTLE_TOKEN_S
    settle_time_without_token: Settle = limits.SETTLE_TIME_S


class LogForm(_Form):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = LogLevel.INFO.value
    format: Literal["auto", "text", "json"] = LogFormat.AUTO.value


class NotifyForm(_Form):
    """`[notify]`."""

    urls: list[str] = Field(default_factory=list)


class MemberForm(ClusterForm):
    """One of several `[[cluster]]` tables. What it says in sections of its own goes before the file's."""

    folder: File = ""
    store: StoreForm = StoreForm()
    manifests: ManifestsForm = ManifestsForm()
    reconcile: ReconcileForm = ReconcileForm()
    gate: GateForm = GateForm()
    limits: LimitsForm = LimitsForm()
    notify: NotifyForm = NotifyForm()


_Clusters = TypeVar("_Clusters")


class _Sections(_Form, Generic[_Clusters]):
    cluster: _Clusters
    store: StoreForm = StoreForm()
    manifests: ManifestsForm = ManifestsForm()
    reconcile: ReconcileForm = ReconcileForm()
    gate: GateForm = GateForm()
    http: HttpForm = HttpForm()
    limits: LimitsForm = LimitsForm()
    log: LogForm = LogForm()
    notify: NotifyForm = NotifyForm()


class SettingsForm(_Sections[ClusterForm]):
    """The whole file, with one `[cluster]`."""


class SeveralForm(_Sections[Annotated[list[MemberForm], Field(min_length=1)]]):
    """The whole file, with `[[cluster]]` tables."""


_Section = TypeVar("_Section", bound=BaseModel)


def over(shared: _Section, own: _Section) -> _Section:
    """A section of one cluster: what it says itself, else what the file says for all."""
    return shared.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})


def known(clusters: int | None) -> dict[Path, tuple[str, ...]]:
    """The keys that each map may have, in a file with so many `[[cluster]]` tables; None = it has a `[cluster]`."""
    sections: dict[str, Any] = {name: field.annotation for name, field in SettingsForm.model_fields.items()}
    names: dict[Path, tuple[str, ...]] = {(): tuple(sections)}
    names |= {(name,): tuple(form.model_fields) for name, form in sections.items()}
    own: dict[str, Any] = {name: form for name, form in sections.items() if name in MemberForm.model_fields}
    tables: list[Path] = [("cluster",)] if clusters is None else [("cluster", at) for at in range(clusters)]
    for table in tables:
        names[(*table, "keeper")] = tuple(KeeperForm.model_fields)
        if clusters is not None:
            names[table] = tuple(MemberForm.model_fields)
            names |= {(*table, name): tuple(form.model_fields) for name, form in own.items()}
    return names

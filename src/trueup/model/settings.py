"""What `trueup.toml` says, as frozen values with every default filled in and every path made absolute.

Who holds a `Settings` may trust it: names, addresses and durations were checked where the file was read
(`edges.settings`). Secrets are not part of it, only where they are to be found: commands that read a journal need no
token, and nothing that is printed or logged can give one away.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final, final

import msgspec

from trueup.model import limits
from trueup.model.ids import TokenId
from trueup.model.keyring import RelyingParty

DEFAULT_FILE: Final = "trueup.toml"
TOKEN_SECRET_VARIABLE: Final = "TRUEUP_TOKEN_SECRET"  # noqa: S105 - the name of a variable
KEEPER_SECRET_VARIABLE: Final = "TRUEUP_KEEPER_SECRET"  # noqa: S105 - the name of a variable


@final
class Secret:
    """A secret that does not show itself: not in logs, tracebacks, comparisons of tests, nor by pickling."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep the value."""
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one who sends it. Grep for this name to find all of them."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not written anywhere")


class SecretSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret is: the environment variable goes before the file."""

    file: Path | None = None
    variable: str = ""


class CaFile(msgspec.Struct, frozen=True, kw_only=True, tag="ca_file"):
    """Trust the certificates that this authority signed (a PVE cluster's own: /etc/pve/pve-root-ca.pem)."""

    path: Path


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True, tag="fingerprint"):
    """Trust exactly the certificate with this SHA-256, whoever signed it."""

    sha256: bytes


class Insecure(msgspec.Struct, frozen=True, kw_only=True, tag="insecure"):
    """Trust anybody. Said on every run."""


Trust = CaFile | Fingerprint | Insecure


class KeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The second credential, for incarnation tokens: it makes and deletes tokens `prefix` + epoch of `user`."""

    token_id: TokenId
    secret: SecretSource
    user: str
    prefix: str


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The PVE cluster; `name` is the audience of signed requests.

    `endpoints` are `https://host:port` without a path. `token_id` is None where a keeper makes the tokens; at least one
    of the two is there.
    """

    name: str
    endpoints: tuple[str, ...]
    trust: Trust
    token_id: TokenId | None = None
    token_secret: SecretSource = SecretSource(variable=TOKEN_SECRET_VARIABLE)
    keeper: KeeperSettings | None = None


class PostgresAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A database in PostgreSQL, and the journal's name in it: the cluster's.

    `url` is as it was written, perhaps with a password; `shown` never has one.
    """

    url: Secret
    shown: str
    journal: str


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The journal: a SQLite file, or a database in PostgreSQL if `postgres` is there.

    `path` is the file; beside it are the control socket and what is kept of the cluster's schema, with PostgreSQL too.
    `lease_s` is how long a leader leads without renewing.
    """

    path: Path
    postgres: PostgresAddress | None = None
    lease_s: float = limits.LEASE_S

    @property
    def shown(self) -> str:
        """The journal's place, for people."""
        return self.postgres.shown if self.postgres else str(self.path)


class ManifestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The folder with the manifests."""

    path: Path


class Mode(StrEnum):
    """Whether the loop mends what it finds, or only shows it."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class ReconcileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The loop. `interval_s` is between two passes."""

    interval_s: float = limits.INTERVAL_S
    mode: Mode = Mode.ENFORCE


class GateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's files. A missing keyring or policy closes the gate; it is no error."""

    keyring: Path
    policy: Path
    spool: Path


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Our own HTTP. `port` 0 takes a free one. Off loopback both TLS files are there.

    `socket` is a unix socket beside it for this machine's users that may open it, who need no token (None = there is
    none). `relying_party` are the pages on which people sign with security keys.
    """

    host: str = "127.0.0.1"
    port: int = 8640
    token_file: Path
    tls_cert: Path | None = None
    tls_key: Path | None = None
    socket: Path | None = None
    relying_party: RelyingParty = RelyingParty()


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that an operator may change; what each means stands in `model.limits`."""

    slots_per_node: int = limits.SLOTS_PER_NODE
    send_by_s: float = limits.SEND_BY_S
    settle_goal_s: float = limits.SETTLE_GOAL_S
    settle_token_s: float = limits.SETTLE_TOKEN_S
    settle_time_s: float = limits.SETTLE_TIME_S


class LogLevel(StrEnum):
    """The least important line that is still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line looks: text for people, JSON for machines; AUTO is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The log, on standard error."""

    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.AUTO


class NotifySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who hears of alarms (contradictions, unresolved operations): Apprise URLs, secret since they hold passwords."""

    urls: tuple[Secret, ...] = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of `trueup.toml`. `file` is where it was read; `warnings` are lines that every run should show."""

    file: Path
    cluster: ClusterSettings
    store: StoreSettings
    manifests: ManifestSettings
    reconcile: ReconcileSettings = ReconcileSettings()
    gate: GateSettings
    http: HttpSettings
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    notify: NotifySettings = NotifySettings()
    warnings: tuple[str, ...] = ()

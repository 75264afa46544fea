# noqa: INP001 - a script beside the pages, no package
"""The reference of commands and of settings, read from what the program itself reads."""

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trueup.edges.cli import root
from trueup.edges.settings_form import ClusterForm, KeeperForm, MemberForm, SettingsForm, StoreForm

MADE: Final = "<!-- Made by `python docs/generate.py`; do not edit. -->\n\n"

COMMANDS_HEAD: Final = (
    MADE
    + """\
# Commands

`trueup COMMAND --help` says the same. `-c FILE` names the settings (`trueup.toml` in the present folder unless given),
`--cluster NAME` says which cluster is meant where the settings have [several](clusters.md), `--json` prints one JSON
document ([its form](json.md)), `--debug` adds the traceback of an error. Exit codes are in
[a table of their own](json.md).

"""
)

SETTINGS_HEAD: Final = (
    MADE
    + """\
# Settings

`trueup.toml`. Only `[cluster]` is required; all else has the default that is shown. Unknown keys are errors. Paths are
relative to the file, with `[[cluster]]` tables to the folder of the cluster. Durations are texts with a unit: `"30s"`,
`"5m"`, `"1h"`. A running agent reads the file anew on SIGHUP, and says what has to wait for a restart.

"""
)

COMMON: Final = frozenset({"cluster", "config", "debug", "as_json"})

MEANING: Final = {
    "cluster.name": "the cluster's name; signed requests are made out to it",
    "cluster.endpoints": "nodes as `https://host:8006`, tried in turn for reads",
    "cluster.token_id": "the agent's API token, `user@realm!name`; not needed with a keeper",
    "cluster.token_secret_file": "where its secret is, or the variable `TRUEUP_TOKEN_SECRET`",
    "cluster.keeper": "the second credential, for tokens that die with their agent; see below",
    "cluster.ca_file": "the authority that signed the nodes' certificates; or `fingerprint`, or `insecure`",
    "cluster.fingerprint": "the SHA-256 of the one certificate that is trusted",
    "cluster.insecure": "trust anybody; said on every run",
    "cluster.folder": "the folder to which all its relative paths are relative; its name, if nothing is said",
    "cluster.keeper.token_id": "the keeper's own API token",
    "cluster.keeper.token_secret_file": "where its secret is, or the variable `TRUEUP_KEEPER_SECRET`",
    "cluster.keeper.user": "the agent's user, whose tokens it makes and deletes",
    "cluster.keeper.prefix": "how those tokens' names begin; the epoch's number follows",
    "store.url": '`"sqlite:FILE"` or `"postgresql://user@host/database"`',
    "store.lease": "how long a leader leads without renewing its lease (PostgreSQL)",
    "manifests.path": "the folder with the manifests",
    "reconcile.interval": "between two passes",
    "reconcile.mode": "`observe` looks and tells, and changes nothing",
    "gate.keyring": "who may sign; without it the gate is closed",
    "gate.policy": "who may do what; without it the gate is closed",
    "gate.spool": "the folder from which signed requests are taken",
    "http.listen": "the address of the API and the page; off loopback with TLS only",
    "http.token_file": "the token for API and page; made at the first start",
    "http.tls_cert": "a certificate, with its chain",
    "http.tls_key": "its key",
    "http.socket": "a unix socket beside it, for this machine's users that may open it; needs no token",
    "http.origins": "addresses of the page as browsers write them (`https://trueup.example`), on which people may "
    "[approve with a security key](gate.md#security-keys-in-the-browser); empty: nowhere",
    "http.rp_id": "the domain that security keys are enrolled for, if several origins have different hosts; "
    "otherwise their host",
    "limits.slots_per_node": "changes at work on one node at once",
    "limits.send_by": "a request that could not be sent within it is not sent at all",
    "limits.settle_time": "before a start, stop, clone or create without a trace is presumed not to have happened",
    "limits.settle_time_token": "the same for what people signed, once the old token is dead",
    "limits.settle_time_without_token": "the same without a keeper",
    "log.level": "the least important line that is still written",
    "log.format": "`auto` is text on a terminal and JSON elsewhere",
    "notify.urls": "[Apprise URLs](https://github.com/caronc/apprise/wiki) of who hears of alarms (`trueup[notify]`)",
}


def commands() -> str:
    """The page of commands."""
    group = click.Context(root.root, info_name="trueup")
    parts: list[str] = []
    for name, (_, line) in root.COMMANDS.items():
        found = root.root.get_command(group, name)
        if found is None:
            continue
        parts.append(f"## trueup {name}\n\n{_upper(line)}.\n\n")
        context = click.Context(found, info_name=f"trueup {name}", parent=None)
        if isinstance(found, click.Group):
            later = (one for one in found.list_commands(context) if one not in found.commands)  # loaded when called
            for sub_name in (*found.commands, *later):
                path = f"trueup {name} {sub_name}"
                sub = found.get_command(context, sub_name) or found
                parts.append(f"### {path}\n\n" + _command(sub, click.Context(sub, info_name=path)))
        else:
            parts.append(_command(found, context))
    return COMMANDS_HEAD + "".join(parts).rstrip() + "\n"


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    options = [option for option in command.params if isinstance(option, click.Option) and option.name not in COMMON]
    rows = "".join(
        f"| `{_spelled(option)}` | {_cell(option.help or '')} |\n" for option in options if not option.hidden
    )
    return f"```text\n{usage}\n```\n\n{_escaped(text)}\n\n" + (f"| option | |\n| --- | --- |\n{rows}\n" if rows else "")


def _spelled(option: click.Option) -> str:
    names = ", ".join(option.opts)
    if option.is_flag:
        return names
    choices = "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ""
    return f"{names} {choices or option.metavar or option.type.name.upper()}".replace("|", "\\|")


def settings() -> str:
    """The page of settings."""
    parts: list[str] = []
    for name, field in SettingsForm.model_fields.items():
        form: Any = field.annotation
        parts.append(f"## [{name}]\n\n{_table(name, form)}\n")
    keeper = f"## keeper\n\n`keeper = {{…}}` in `[cluster]`.\n\n{_table('cluster.keeper', KeeperForm)}\n"
    return SETTINGS_HEAD + parts[0] + keeper + _several() + "".join(parts[1:]).rstrip() + "\n"


def _several() -> str:
    """What a `[[cluster]]` table has besides."""
    more = [key for key in MemberForm.model_fields if key not in ClusterForm.model_fields]
    sections = ", ".join(f"`[cluster.{key}]`" for key in more if key in SettingsForm.model_fields)
    own = "".join(
        f"| `{key}` |  | {MEANING[f'cluster.{key}']} |\n" for key in more if key not in SettingsForm.model_fields
    )
    return (
        "## [[cluster]]\n\nSeveral clusters in one file, instead of `[cluster]`: see [several clusters](clusters.md). "
        f"Each has the keys of `[cluster]`, sections of its own ({sections}) whose keys go before those below, and\n\n"
        f"| key | default | |\n| --- | --- | --- |\n{own}\n"
    )


def keys() -> Iterator[str]:
    """Every key there is, with its section."""
    for name, field in SettingsForm.model_fields.items():
        form: Any = field.annotation
        yield from (f"{name}.{key}" for key in form.model_fields)
    yield from (f"cluster.keeper.{key}" for key in KeeperForm.model_fields)
    yield "cluster.folder"


def _table(section: str, form: type[BaseModel]) -> str:
    rows = [
        f"| `{key}` | {_default(field.annotation, field.get_default(call_default_factory=True, validated_data={}))} "
        f"| {_values(field.annotation)}{MEANING[f'{section}.{key}']} |"
        for key, field in form.model_fields.items()
    ]
    return "\n".join(["| key | default | |", "| --- | --- | --- |", *rows, ""])


def _default(annotation: Any, value: object) -> str:
    if value is PydanticUndefined:
        return "*required*"
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and annotation is float:
        return f'`"{value / 60:g}m"`' if value >= 60 and value % 60 == 0 else f'`"{value:g}s"`'  # noqa: PLR2004 - a minute
    if value == StoreForm.model_fields["url"].default:
        return f'`"sqlite:{value}"`'
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _values(annotation: Any) -> str:
    if get_origin(annotation) is not Literal:
        return ""
    return ", ".join(f"`{value}`" for value in get_args(annotation)) + ": "


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return " ".join(_escaped(text).split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;")

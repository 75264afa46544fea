"""The form of a manifest and of a folder's defaults: which keys there are and what may stand in them.

The JSON Schema for editors comes from it. What has a form of its own in PVE (`config`) is only a map here;
`adapters.config_values` reads it.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from trueup.adapters.complaints import Path, wrong
from trueup.adapters.zones import zone_exists
from trueup.core.schedule import Schedule
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.ids import VMID_MAX, VMID_MIN
from trueup.model.windows import Window

_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_NODE: Final = re.compile(_LABEL, re.ASCII)
_VOLUME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*:[^\s,:][^\s,]*", re.ASCII)
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?", re.ASCII)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?", re.ASCII)
_STORAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]", re.ASCII)
_POOL: Final = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+){0,2}", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_IGNORED: Final = re.compile(r"[a-z*?][a-z0-9*?_-]*", re.ASCII)
_CONTAINER: Final = 'write {template: "local:vztmpl/…"}, {clone: VMID} or {archive: …}'
_DNS: Final = "PVE takes letters, digits and hyphens, in parts of at most 63 characters between dots"


def _name(value: str) -> str:
    fits = len(value) <= limits.PVE_DNS_NAME_MAX and all(len(p) <= limits.PVE_NAME_MAX for p in value.split("."))
    if not fits or _NAME.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no name for a guest", _DNS)
    return value


def _node(value: str) -> str:
    if len(value) > limits.PVE_NAME_MAX or _NODE.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no name of a node", "see `pvecm nodes`, or the tree in PVE's web page")
    return value


def _volume(value: str) -> str:
    if _VOLUME.fullmatch(value) is None:
        raise wrong(f"{value[:80]!r} is no volume", 'write storage:volume, like "local:vztmpl/debian-12.tar.zst"')
    return value


def _labels(value: dict[str, Any]) -> dict[str, str]:
    if len(value) > limits.LABELS_MAX:
        raise wrong(f"more than {limits.LABELS_MAX} labels")
    labels: dict[str, str] = {}
    for key, given in value.items():
        text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        if not isinstance(text, str):
            raise wrong(f"label {key[:80]!r} must be a text", "put it in quotes")
        if max(len(key), len(text)) > limits.LABEL_MAX:
            raise wrong(f"label {key[:80]!r} is longer than {limits.LABEL_MAX} characters")
        if _LABEL_KEY.fullmatch(key) is None or _LABEL_VALUE.fullmatch(text) is None:
            raise wrong(f"label {key[:80]!r} has other characters than letters, digits and - _ .")
        labels[key] = text
    return labels


def _window(value: str) -> str:
    try:
        window = Window.parse(value.strip())
    except BadInput as error:
        raise wrong(error.what, error.remedy) from error
    if not zone_exists(window.zone):
        remedy = 'write a name like "Europe/Berlin"; if it is right, install tzdata'
        raise wrong(f"time zone {window.zone[:60]!r} is not known here", remedy)
    return value.strip()


def _schedule(value: str) -> str:
    try:
        schedule = Schedule.parse(value)
    except BadInput as error:
        raise wrong(error.what, error.remedy) from error
    if not zone_exists(schedule.zone):
        remedy = 'write a name like "Europe/Berlin"; if it is right, install tzdata'
        raise wrong(f"time zone {schedule.zone[:60]!r} is not known here", remedy)
    return value.strip()


def _fits(pattern: re.Pattern[str], longest: int, what: str, remedy: str) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > longest or pattern.fullmatch(value) is None:
            raise wrong(f"{value[:80]!r} is no {what}", remedy)
        return value

    return AfterValidator(check)


def _restart_form(value: object) -> str:
    """Which of the two forms is meant, so that pydantic complains about that one only."""
    return "Window" if isinstance(value, (dict, WindowForm)) else "Word"


VmidField = Annotated[int, Field(ge=VMID_MIN, le=VMID_MAX)]
NameField = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
NodeField = Annotated[str, AfterValidator(_node), Field(json_schema_extra={"pattern": f"^{_NODE.pattern}$"})]
VolumeField = Annotated[str, AfterValidator(_volume)]
ScheduleField = Annotated[str, AfterValidator(_schedule)]
KeepField = Annotated[int, Field(ge=1, le=limits.KEEP_MAX, description="the newest ones that stay")]
PoolField = Annotated[str, _fits(_POOL, limits.PVE_POOL_MAX, "pool", "PVE takes letters, digits and - _ . and /")]
StorageField = Annotated[str, _fits(_STORAGE, limits.PVE_NAME_MAX, "storage", "see `pvesm status`")]
PrefixField = Annotated[
    str,
    _fits(_PREFIX, limits.SNAPSHOT_PREFIX_MAX, "prefix for names of snapshots", "write a short word, like auto"),
]
IgnoreField = Annotated[
    str, _fits(_IGNORED, limits.PVE_NAME_MAX, "config key", 'write keys of config, like "cores" or "net*"')
]
Labels = Annotated[dict[str, Any], AfterValidator(_labels)]

_SCALAR: Final = {"type": ["string", "integer", "number", "boolean"]}
_CONFIG_SCHEMA: Final = {
    "type": "object",
    "description": "PVE's own keys and spelling; only the keys given here are ours. null deletes a key, and takes a "
    "disk off.",
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "integer", "number", "boolean", "null"]},
            {"type": "array", "items": _SCALAR},
            {"type": "object", "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}},
        ]
    },
}
_RANGES_SCHEMA: Final = {"type": ["string", "array"], "items": {"type": "string"}}
_LABELS_SCHEMA: Final = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}


class _Form(BaseModel):
    # Built when it is first used: a form within another one is built as a part of that one, and needs none of its own.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


class SourceForm(_Form):
    """Where a guest comes from: exactly one of clone, empty, archive, template."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [form]} for form in ("clone", "empty", "archive", "template")]}
    )
    clone: VmidField | None = Field(default=None, description="vmid of the guest to clone")
    full: bool | None = Field(default=None, description="with clone: copy the disks (default) or link them")
    empty: bool | None = Field(default=None, description="true: made of nothing but its config")
    archive: VolumeField | None = Field(default=None, description="a backup to restore, as storage:volume")
    template: VolumeField | None = Field(default=None, description="containers: a template, as storage:vztmpl/file")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [form for form in ("clone", "empty", "archive", "template") if getattr(self, form) is not None]
        if self.empty is False:
            raise wrong("'empty: false' says nothing", "write the source that is meant, or leave it out")
        if len(given) != 1:
            what = (
                f"source has {' and '.join(given)}" if given else "source has none of clone, empty, archive, template"
            )
            raise wrong(what, "write exactly one of clone, empty, archive, template")
        if self.full is not None and self.clone is None:
            raise wrong("'full' belongs to a clone", "leave it out")
        return self


class WindowForm(_Form):
    """A window in which a guest may be restarted."""

    window: Annotated[str, AfterValidator(_window)]


class DisruptionForm(_Form):
    """What the loop may do to a running guest."""

    restart: Annotated[
        Annotated[Literal["never", "allowed"], Tag("Word")] | Annotated[WindowForm, Tag("Window")],
        Discriminator(_restart_form),
    ] = "never"


class SnapshotsForm(_Form):
    """Snapshots to be taken; what is more than `keep` is offered for approval, never deleted."""

    schedule: ScheduleField = Field(description='"hourly", "daily 02:00", "Sat 03:00 Europe/Berlin"')
    keep: KeepField
    prefix: PrefixField = Field(default="auto", description="begins the names: auto-20261124-0200")


class BackupsForm(_Form):
    """Backups to be made; what is more than `keep` is offered for approval, never deleted."""

    storage: StorageField
    schedule: ScheduleField = Field(description='"daily 02:00", "Sat 03:00 Europe/Berlin"')
    keep: KeepField
    mode: Literal["snapshot", "suspend", "stop"] = Field(
        default="snapshot", description="suspend and stop interrupt a running guest, and follow `disruption`"
    )


class _Shared(_Form):
    """What a folder's defaults may say as well as a manifest."""

    power: Literal["running", "stopped", "ignore"] = "running"
    config: Annotated[dict[str, Any], WithJsonSchema(_CONFIG_SCHEMA)] = Field(default_factory=dict)
    labels: Annotated[Labels, WithJsonSchema(_LABELS_SCHEMA)] = Field(
        default_factory=dict, description="for selecting guests, in policies and commands"
    )
    disruption: DisruptionForm = DisruptionForm()
    template: bool = Field(default=False, description="turned into a template, which cannot be undone")
    pool: PoolField | None = Field(default=None, description="the pool that it is put into")
    snapshots: SnapshotsForm | None = Field(default=None, description="null: none, whatever the folder's defaults say")
    backups: BackupsForm | None = Field(default=None, description="null: none, whatever the folder's defaults say")
    ignore: list[IgnoreField] = Field(
        default_factory=list, max_length=limits.IGNORE_MAX, description="config keys, with *, that are never mended"
    )


class ManifestForm(_Shared):
    """A guest of a Proxmox VE cluster, as it should be."""

    kind: Literal["VirtualMachine", "Container"]
    name: NameField
    vmid: VmidField
    node: NodeField
    source: SourceForm | None = None
    after: list[NameField] = Field(default_factory=list, description="guests to be there, and started, before this one")

    @model_validator(mode="after")
    def _template_fits(self) -> Self:
        if self.template and self.power == "running" and "power" in self.model_fields_set:
            raise wrong("a template never runs", "leave `power` out", at="power")
        if self.template and self.snapshots is not None:
            raise wrong("PVE takes no snapshots of a template", "leave `snapshots` out", at="snapshots")
        return self

    @model_validator(mode="after")
    def _source_fits_kind(self) -> Self:
        source = self.source
        if self.kind == "VirtualMachine":
            if source is not None and source.template is not None:
                raise wrong("a VirtualMachine has no container template", "write clone, archive or empty", at="source")
        elif source is not None and source.empty:
            # None at all is fine for one that is there already: where it came from is not told by PVE.
            raise wrong("a Container needs a source", _CONTAINER, at="source")
        if source is not None and source.clone == self.vmid:
            what = f"guest {self.vmid} cannot be a clone of itself"
            raise wrong(what, "write the vmid of the guest to be cloned", at="source")
        return self


class DefaultsForm(_Shared):
    """What holds for all guests of this folder and of those below it, unless they say otherwise."""

    kind: Literal["Defaults"]
    vmids: Annotated[Any, WithJsonSchema(_RANGES_SCHEMA)] = Field(
        default=None, description='the vmids that guests of this folder may have, like "200-299"'
    )


def _known(form: type[_Shared]) -> dict[Path, tuple[str, ...]]:
    return {
        (): tuple(dict.fromkeys((*form.__annotations__, *form.model_fields))),
        ("source",): tuple(SourceForm.model_fields),
        ("disruption",): tuple(DisruptionForm.model_fields),
        ("disruption", "restart", "Window"): tuple(WindowForm.model_fields),
        ("snapshots",): tuple(SnapshotsForm.model_fields),
        ("backups",): tuple(BackupsForm.model_fields),
    }


KNOWN: Final = _known(ManifestForm)
KNOWN_IN_DEFAULTS: Final = _known(DefaultsForm)
NEVER_DEFAULTS: Final = frozenset(ManifestForm.model_fields) - frozenset(DefaultsForm.model_fields)
"""Keys that tell one guest from another."""


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a document in a manifest file, for editors: a guest, or a folder's defaults."""
    guest, defaults = ManifestForm.model_json_schema(), DefaultsForm.model_json_schema()
    parts = {**guest.pop("$defs", {}), **defaults.pop("$defs", {})}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trueup manifest",
        "type": "object",
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "Defaults"}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/Defaults"},
        "else": {"$ref": "#/$defs/Guest"},
        "$defs": {**parts, "Guest": guest, "Defaults": defaults},
    }

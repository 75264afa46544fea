"""The form of a manifest: which keys there are and what may stand in them. The JSON Schema for editors comes from it.

What has a form of its own in PVE (`config`) is only a map here; `adapters.config_values` reads it.
"""

import re
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from trueup.adapters.complaints import Path, wrong
from trueup.adapters.zones import zone_exists
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


def _restart_form(value: object) -> str:
    """Which of the two forms is meant, so that pydantic complains about that one only."""
    return "Window" if isinstance(value, (dict, WindowForm)) else "Word"


VmidField = Annotated[int, Field(ge=VMID_MIN, le=VMID_MAX)]
NameField = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
NodeField = Annotated[str, AfterValidator(_node), Field(json_schema_extra={"pattern": f"^{_NODE.pattern}$"})]
VolumeField = Annotated[str, AfterValidator(_volume)]

_SCALAR: Final = {"type": ["string", "integer", "number", "boolean"]}
_CONFIG_SCHEMA: Final = {
    "type": "object",
    "description": "PVE's own keys and spelling; only the keys given here are ours. null deletes a key.",
    "additionalProperties": {
        "anyOf": [
            {"type": ["string", "integer", "number", "boolean", "null"]},
            {"type": "array", "items": _SCALAR},
            {"type": "object", "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}},
        ]
    },
}
_LABELS_SCHEMA: Final = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


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


class ManifestForm(_Form):
    """A guest of a Proxmox VE cluster, as it should be."""

    kind: Literal["VirtualMachine", "Container"]
    name: NameField
    vmid: VmidField
    node: NodeField
    power: Literal["running", "stopped", "ignore"] = "running"
    source: SourceForm | None = None
    config: Annotated[dict[str, Any], WithJsonSchema(_CONFIG_SCHEMA)] = Field(default_factory=dict)
    labels: Annotated[dict[str, Any], AfterValidator(_labels), WithJsonSchema(_LABELS_SCHEMA)] = Field(
        default_factory=dict, description="for selecting guests, in policies and commands"
    )
    disruption: DisruptionForm = DisruptionForm()
    after: list[NameField] = Field(default_factory=list, description="guests to be there, and started, before this one")

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


KNOWN: Final[dict[Path, tuple[str, ...]]] = {
    (): tuple(ManifestForm.model_fields),
    ("source",): tuple(SourceForm.model_fields),
    ("disruption",): tuple(DisruptionForm.model_fields),
    ("disruption", "restart", "Window"): tuple(WindowForm.model_fields),
}


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of a manifest, for editors."""
    schema = ManifestForm.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "trueup manifest"}

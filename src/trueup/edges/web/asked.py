"""Requests as data: what is asked for, of which very guest, who agreed, and what is missing."""

from trueup.edges.cli.output import KIND_OF, Json, iso
from trueup.model.gate import RequestView


def request(view: RequestView) -> dict[str, Json]:
    """One request."""
    asked, ruling = view.request, view.ruling
    identity = asked.target.identity
    return {
        "request_id": view.request_id,
        "state": view.state.value,
        "kind": asked.kind,
        "vmid": asked.target.vmid,
        "guest_kind": KIND_OF[asked.target.type],
        "identity": {
            "marker": identity.marker_uid or None,
            "smbios1_uuid": identity.smbios1_uuid or None,
            "ctime": identity.ctime or None,
            "vmgenid": identity.vmgenid or None,
            "rootfs": identity.rootfs or None,
            "macs": list(identity.macs),
        },
        "digest": asked.target.digest or None,
        "params": dict(asked.params),
        "reason": asked.reason,
        "requested_by": asked.requested_by,
        "requested_at": iso(view.requested_at_ms),
        "not_before": iso(asked.not_before_ms),
        "approve_by": iso(asked.approve_by_ms),
        "execute_by": iso(asked.execute_by_ms),
        "ended_at": iso(view.ended_at_ms),
        "idempotency_key": asked.idempotency_key,
        "payload_sha256": view.payload_sha256,
        "via": view.via or None,
        "people": ruling.people,
        "rule": ruling.rule or None,
        "missing": ruling.missing or None,
        "approvals": [
            {"person": one.person, "key_id": one.key_id, "form": one.form.value, "at": iso(one.at_ms)}
            for one in view.approvals
        ],
        "vetoed_by": view.vetoed.approval.person if view.vetoed else None,
        "ended_because": _why(view),
    }


def _why(view: RequestView) -> str | None:
    if view.vetoed is not None:
        return view.vetoed.reason or "vetoed"
    if view.lapsed is not None:
        return view.lapsed.text or view.lapsed.why.value
    return None

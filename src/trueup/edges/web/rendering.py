"""How pages are rendered: every value is escaped, and a name that a template does not know is an error."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from trueup.edges.cli import plan_view
from trueup.edges.cli import story as stories
from trueup.edges.cli.journal import words_of
from trueup.edges.cli.output import KIND_OF, WORD_OF, iso, local, took
from trueup.edges.web import api, assets

MEANS: Final = {
    "destroy": "The guest, its disks and its snapshots would be gone for good.",
    "rollback": "All that the guest wrote since the snapshot would be lost.",
    "restore": "The guest's disks would be replaced by those of the backup.",
    "snapshot-delete": "The snapshot would be gone for good; the guest stays as it is.",
    "disk-remove": "The disk, and all that is on it, would be gone for good.",
    "backup-delete": "The backup would be gone for good; the guest stays as it is.",
    "unlock": "The guest's lock would be taken away, whoever holds it.",
    "template": "The guest would become a template, for good.",
}
"""What a request of this kind would do, in a sentence; those that only start or stop a guest say it by their name."""


def coded(text: str) -> Markup:
    """A sentence whose commands stand between backticks, as HTML."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before


_CODE: Final = re.compile("`([^`]+)`")


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("trueup.edges.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cast("dict[str, Any]", made.filters).update(
        {"local": local, "iso": iso, "took": took, "title": stories.title, "words": words_of, "coded": coded}
    )
    cast("dict[str, Any]", made.globals).update(
        {
            "KIND_OF": KIND_OF,
            "WORD_OF": WORD_OF,
            "OP_STATES": api.OP_STATES,
            "op_text": plan_view.op_text,
            "MEANS": MEANS,
            "static": assets.url,
        }
    )
    return made


_JINJA: Final = _environment()


def rendered(name: str, code: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """One template with its values, as an answer."""
    return HTMLResponse(_JINJA.get_template(name).render(values), code, headers)

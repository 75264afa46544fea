"""How pages are rendered: every value is escaped, and a name that a template does not know is an error."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from trueup.edges.cli import plan_view
from trueup.edges.cli import story as stories
from trueup.edges.cli.journal import words_of
from trueup.edges.cli.output import KIND_OF, WORD_OF, iso, local, took
from trueup.edges.web import api, assets


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("trueup.edges.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cast("dict[str, Any]", made.filters).update(
        {"local": local, "iso": iso, "took": took, "title": stories.title, "words": words_of}
    )
    cast("dict[str, Any]", made.globals).update(
        {
            "KIND_OF": KIND_OF,
            "WORD_OF": WORD_OF,
            "OP_STATES": api.OP_STATES,
            "op_text": plan_view.op_text,
            "static": assets.url,
        }
    )
    return made


_JINJA: Final = _environment()


def rendered(name: str, code: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None, **values: Any) -> Response:
    """One template with its values, as an answer."""
    return HTMLResponse(_JINJA.get_template(name).render(values), code, headers)

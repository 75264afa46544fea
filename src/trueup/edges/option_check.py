"""Manifests against what the cluster itself says about guests' options, before anything is planned.

Rule kept here: what the schema speaks against is refused with its place and PVE's own words; a cluster that does not
tell its schema stops nobody, since PVE checks each call itself.
"""

from trueup.adapters.manifests import Manifests
from trueup.adapters.pve_schema import Looked, check_against
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems


def refuse(looked: Looked | None, manifests: Manifests) -> None:
    """Raise BadInput, or ManyProblems, for what the schema speaks against."""
    if looked is None or looked.schema is None:
        return
    problems = check_against(looked.schema, manifests)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        told = problems[: limits.PROBLEMS_MAX]
        if len(problems) > len(told):
            told.append(BadInput(what=f"and {len(problems) - len(told)} more problems"))
        raise ManyProblems(problems=told)

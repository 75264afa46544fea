"""`trueup schema`: the JSON Schema of manifests, for editors."""

import click

from trueup.edges.cli.options import HELP, debug_option
from trueup.edges.cli.output import print_json


@click.command(context_settings=HELP)
@debug_option
def schema() -> int:
    """Print the JSON Schema of manifests; editors check and complete with it."""
    from trueup.adapters.manifests import manifest_schema

    print_json(manifest_schema())
    return 0

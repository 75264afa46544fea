"""`trueup explain`: the pages of ways out of trouble, without a network."""

import click

from trueup.edges.cli.options import HELP, debug_option
from trueup.edges.cli.output import columns


@click.command(context_settings=HELP)
@click.argument("topic", metavar="[TOPIC]", default="")
@debug_option
def explain(topic: str) -> int:
    """Print the page about one kind of trouble: what you see, what is known, what to do, when it is over.

    Without TOPIC, list all of them.
    """
    from trueup.edges import topics

    if topic:
        click.echo(topics.page(topic), nl=False)
        return 0
    for line in columns(list(topics.names().items())):
        click.echo(line)
    return 0

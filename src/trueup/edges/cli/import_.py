"""`trueup import`: manifests for guests that are there already. It writes files, and changes nothing in PVE."""

from collections.abc import Mapping
from pathlib import Path

import click

from trueup.adapters import manifest_writer
from trueup.adapters.file_names import shown
from trueup.edges import importer, incarnation
from trueup.edges.cli.options import HELP, config_option, json_option
from trueup.edges.cli.output import KIND_OF, WORD_OF, Json, columns, dim, print_json, run_async, warn
from trueup.edges.importer import Import, Wish, Written
from trueup.edges.parts import Parts
from trueup.model.ids import Vmid
from trueup.model.settings import Settings


@click.command("import", context_settings=HELP)
@click.argument("vmids", metavar="[VMID]...", nargs=-1, type=click.IntRange(min=100))
@config_option
@click.option("--all", "everything", is_flag=True, help="All guests that no manifest declares yet.")
@click.option("--tag", default="", help="Only guests with this tag; they go into a file of its name.")
@click.option("--node", default="", help="Only guests on this node.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder to write into, if not that of manifests.")
@json_option
@click.pass_obj
def import_(parts: Parts, config: Path, vmids: tuple[int, ...], folder: Path | None, **options: object) -> int:
    """Write manifests for guests that are there already, one file for each node.

    Nothing is adopted and nothing is changed in PVE: a plan afterwards compares the guests, and is empty. No file is
    overwritten. Exits 1 if a guest that was asked for could not be described.
    """
    if bool(vmids) == bool(options["everything"] or options["tag"] or options["node"]):
        raise click.UsageError("name guests, or give --all, --tag or --node")
    settings = parts.settings(config)
    incarnation.say(settings.warnings, warn)
    wish = Wish(vmids=tuple(Vmid(vmid) for vmid in vmids), tag=str(options["tag"]), node=str(options["node"]))
    found = run_async(_look(parts, settings, wish))
    files = _write(found, folder or settings.manifests.path)
    if options["as_json"]:
        print_json(_json(found, files))
    else:
        _show(found, files)
    return 0 if all(skipped.fine for skipped in found.skipped) else 1


async def _look(parts: Parts, settings: Settings, wish: Wish) -> Import:
    if not settings.manifests.path.exists():
        settings.manifests.path.mkdir(parents=True, exist_ok=True)
    manifests = parts.manifests(settings.manifests.path)()
    async with (
        incarnation.journal_for_reading(parts, settings) as journal,
        incarnation.sight(parts, settings, journal, warn) as seen,
    ):
        return await importer.look(seen.pve, manifests, wish)


def _write(found: Import, folder: Path) -> Mapping[Vmid, Path]:
    """Write the files; the answer is where each guest went."""
    files: dict[Vmid, Path] = {}
    for name, members in importer.groups(found.written).items():
        group = manifest_writer.Group(name=name, documents=tuple(one.document for one in members))
        paths = manifest_writer.write(folder, [group])
        for at, one in enumerate(members):
            files[one.seen.vmid] = paths[at // manifest_writer.GUESTS_PER_FILE]
    return files


def _json(found: Import, files: Mapping[Vmid, Path]) -> Json:
    return {
        "files": [str(path) for path in dict.fromkeys(files.values())],
        "imported": [_guest(one, files[one.seen.vmid]) for one in found.written],
        "skipped": [{"vmid": one.vmid, "name": one.name, "why": one.why} for one in found.skipped],
    }


def _guest(one: Written, file: Path) -> Json:
    seen = one.seen
    return {
        "vmid": seen.vmid,
        "name": seen.name,
        "kind": KIND_OF[seen.type],
        "node": seen.node,
        "file": str(file),
        "notes": list(one.notes),
    }


def _show(found: Import, files: Mapping[Vmid, Path]) -> None:
    rows = [
        (
            click.style(one.seen.name, bold=True),
            f"{WORD_OF[one.seen.type]} {one.seen.vmid} on {one.seen.node}",
            shown(files[one.seen.vmid]),
        )
        for one in found.written
    ]
    for line in columns(rows):
        click.echo(line)
    for one in found.written:
        for note in one.notes:
            click.echo(f"{dim('note')}  {one.seen.name}: {note}")
    for skipped in found.skipped:
        head = dim("skipped") if skipped.fine else click.style("not imported", fg="red")
        click.echo(f"{head}  {skipped.name or skipped.vmid} ({skipped.vmid}): {skipped.why}")
    if not found.written:
        click.echo("Nothing was written.")
        return
    count = len(found.written)
    click.echo(f"{count} guest{'s' if count > 1 else ''} in {len(set(files.values()))} files. Nothing was adopted.")
    click.echo("Next: `trueup plan` compares them, `trueup adopt --all` takes them over.")

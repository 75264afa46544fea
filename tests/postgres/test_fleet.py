"""Two clusters of one agent in one database: a journal and a lease for each, and one lost lease stops one of them."""

import asyncio
from pathlib import Path

import asyncpg

from tests.fleet.running import names_in, running
from tests.fleet.worlds import cluster, settings_file
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import parse

NAMES = ["lab", "shop"]
MUTATIONS = 2


async def steal(database: str) -> None:
    """Somebody else has the lease of one of them for a while."""
    other = await asyncpg.connect(database)
    try:
        stolen = await other.execute(
            "UPDATE trueup.lease SET session = 'another', holder = 'elsewhere:1',"
            " lease_until = clock_timestamp() + interval '2 s'"
            " WHERE journal = (SELECT journal FROM trueup.journals WHERE name = 'lab')"
        )
    finally:
        await other.close()
    assert stolen == "UPDATE 1"


def test_each_cluster_has_a_journal_and_a_lease_of_its_own(tmp_path: Path, database: str, capfd) -> None:
    file = settings_file(tmp_path, NAMES, f'[store]\nurl = "{database}"\nlease = "4s"\n')
    file.write_text(file.read_text().replace('"error"', '"info"\nformat = "json"'))

    async def story() -> None:
        worlds = {name: cluster(number) for number, name in enumerate(NAMES)}
        async with running(file, worlds, set()) as fleet:

            async def phases() -> dict[str, tuple[str, int | None]]:
                return {name: (row["phase"], row["epoch"]) for name, row in (await fleet.rows()).items()}

            async def converged() -> bool:
                done = all(len(world.world.mutations()) == MUTATIONS for world in worlds.values())
                return done and set((await phases()).values()) == {("leading", 1)}

            await fleet.until(converged)
            await steal(database)
            seen: list[dict[str, tuple[str, int | None]]] = []

            async def leads_again() -> bool:
                seen.append(await phases())
                return seen[-1]["lab"] == ("leading", 2)

            await fleet.until(leads_again)
        assert {phase for phase, _ in (one["lab"] for one in seen)} - {"leading"}  # it did stop
        assert {one["shop"] for one in seen} == {("leading", 1)}  # and the other one did not
        for name, world in worlds.items():
            assert len(world.world.mutations()) == MUTATIONS
            assert names_in(world) == {"debian-12", f"{name}-web", f"{name}-db"}

    asyncio.run(story())
    records = {name: asyncio.run(audit.verify(parse(database, name))) for name in NAMES}
    assert all(found.ok and found.records > MUTATIONS for found in records.values())
    assert len({found.head for found in records.values()}) == len(NAMES)
    assert '"cluster": "lab", "text": "nothing is changed from here any more' in capfd.readouterr().err

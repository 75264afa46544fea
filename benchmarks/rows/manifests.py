"""Reading 10,000 manifests that have not changed, as the daemon does before each pass, against hashing their bytes."""

from hashlib import sha256
from pathlib import Path

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size, Stopwatch, compared, in_turn
from trueup.adapters import manifests

GOAL = Goal(bound=5)


async def measure(size: Size) -> list[Figure]:
    """Warm loads through one cache; the cold one is told beside."""
    count = size.of(32, 10_000, 10_000)
    with stage.scratch() as folder:
        fleet.write_manifests(folder, range(count))
        cache = manifests.ManifestCache()
        with Stopwatch() as cold:
            manifests.load(folder, cache=cache)

        async def ours() -> float:
            with Stopwatch() as watch:
                found = manifests.load(folder, cache=cache)
            if len(found.guests) != count:
                raise RuntimeError(len(found.guests))
            return watch.wall_s

        async def hashed() -> float:
            with Stopwatch() as watch:
                for path in sorted(Path(folder).rglob("*.yaml")):
                    sha256(path.read_bytes()).digest()
            return watch.wall_s

        await ours()
        loads, hashes = await in_turn(size.of(1, 5, 15), ours, hashed)
    return [
        compared(
            f"manifests/{count}",
            f"reading {count:,} unchanged manifests",
            Sample(name="manifests.load", values=loads),
            Sample(name="finding and hashing the files", values=hashes),
            GOAL,
            {"cold_s": cold.wall_s},
        )
    ]

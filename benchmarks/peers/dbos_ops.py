"""Workflows of one step by DBOS on SQLite: dbos_ops.py FILE COUNT AT_ONCE TIMES. Prints workflows a second, as JSON."""

import asyncio
import json
import logging
import os
import sys
import time

try:
    import pysqlite3  # pyright: ignore[reportMissingImports] - DBOS needs SQLite 3.42, and Debian 12 has 3.40

    sys.modules["sqlite3"] = pysqlite3
except ImportError:
    pass

from dbos import DBOS, DBOSConfig  # pyright: ignore[reportMissingImports] - see requirements.txt

FILE, COUNT, AT_ONCE, TIMES = sys.argv[1], *map(int, sys.argv[2:])
config: DBOSConfig = {
    "name": "bench",
    "system_database_url": f"sqlite:///{FILE}",
    "run_admin_server": False,
    "log_level": "ERROR",
    "enable_otlp": False,
}
DBOS(config=config)


@DBOS.step()
async def step(number: int) -> str:
    """One step."""
    return f"UPID:{number}"


@DBOS.workflow()
async def workflow(number: int) -> str:
    """A workflow of it."""
    return await step(number)


async def rate() -> float:
    """Workflows a second."""
    todo = iter(range(COUNT))

    async def work() -> None:
        for number in todo:
            await workflow(number)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return COUNT / (time.perf_counter() - began)


async def main() -> None:
    """Measure and print."""
    DBOS.launch()
    await workflow(0)
    rates = [await rate() for _ in range(TIMES)]
    print(json.dumps(rates), flush=True)
    os._exit(0)  # its threads are of no interest


logging.disable(logging.CRITICAL)
asyncio.run(main())

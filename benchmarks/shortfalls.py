"""Why a goal is missed, by the key of its row; only what was found out stands here."""

from typing import Final

REASONS: Final[dict[str, str]] = {
    "journal/": (
        "an op takes 0.15 ms of CPU, and all wait for the commit meanwhile; the bare loop takes 0.03 with its disk. A"
        " third of it keeps the derived tables: without any of them it would be 0.1, and the goal still be missed"
    ),
    "recovery/1000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/wall": "each op is decoded twice (by the reader, by the store), and 20,000 records are admitted",
    "pass/10000/cpu": "a seventh is decoding, the rest TLS and HTTP, and a few steps of Python for each guest",
    "apply/": (
        "a new process imports for 0.3 s of CPU (click, asyncio, pydantic, aiohttp); each task is first asked for after"
        " 0.1 s, is confirmed, and its guest read again; and the cluster is looked at before and after"
    ),
    "gate/": (
        "a request takes 0.5 ms of CPU (strict JSON, rules, files, three records, asyncio), the bare check of a"
        " signature 0.11; the library holds Python's lock meanwhile, so threads do not help"
    ),
    "idle/": "87 MB are there without guests, most of it code; each guest takes 6 kB: config, manifest, plan, row",
}

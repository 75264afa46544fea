"""Why a goal is missed, by the key of its row; only what was found out stands here."""

from typing import Final

REASONS: Final[dict[str, str]] = {
    "journal/": (
        "an op takes 0.14 ms of CPU (loop and group 0.03, encode and read back 0.01, chain and admission 0.03, derived"
        " tables 0.045, the commit's pages 0.025) while all wait for the commit, the bare loop 0.03 with its disk;"
        " without any derived table it would be 0.1"
    ),
    "recovery/1000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/wall": "each op is decoded twice (by the reader, by the store), and 20,000 records are admitted",
    "pass/10000/cpu": "a third is decoding, the rest the network and some steps of Python for each guest",
    "apply/": (
        "a new process imports for 0.3 s of CPU (click, asyncio, pydantic, aiohttp); each task is first asked for after"
        " 0.1 s, is confirmed, and its guest read again; and the cluster is looked at before and after"
    ),
    "gate/": (
        "a request takes 0.45 ms of CPU on the loop, the bare check of a signature 0.15; the rest is the JSON of"
        " envelope and request, rules, files, three records, asyncio. The library holds Python's lock meanwhile"
    ),
    "idle/": "100 MB are there without guests, most of it code; each guest takes 4.5 kB: config, manifest, plan, row",
}

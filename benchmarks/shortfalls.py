"""Why a goal is missed, by the key of its row; only what was found out stands here."""

from typing import Final

REASONS: Final[dict[str, str]] = {
    "journal/": (
        "a commit of 64 records writes 60 pages of tables and indexes to the log, the bare loop 40 kB to a file; and"
        " each op takes 0.17 ms of CPU (encode and read back, chain, admission, tables), while all wait for the commit"
    ),
    "recovery/1000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/status": "the stand-in answers a status call at once: one costs 0.3 ms in the client and no more",
    "recovery/10000/wall": "each op is decoded twice more (by the looker, by the store), and 20,000 records admitted",
    "pass/10000/cpu": "two rows of each guest become values of our own, and are compared with the ones before",
    "apply/": "the command's start, a look before and after, and the confirmation of each end come on top of the tasks",
    "gate/": (
        "a request takes 0.7 ms of CPU (strict JSON, three records, rules, files), the bare check of a signature 0.11;"
        " the library holds Python's lock meanwhile, so threads do not help"
    ),
    "idle/": "the first load holds all parsed YAML documents at once, and the allocator keeps the room afterwards",
}

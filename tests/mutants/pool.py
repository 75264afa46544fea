"""Children by fork, a few at a time, each with one mistake; what a child says comes back over a pipe."""

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Job = TypeVar("Job")
SAID = 2000


@dataclass(frozen=True)
class Said:
    """How a child ended: its exit code (negative: the signal), and the test that failed, '' where it named none."""

    code: int
    test: str


def in_children(
    jobs: Sequence[Job], work: Callable[[Job, Callable[[str], None]], int], workers: int, cpu_s: Callable[[Job], float]
) -> Iterator[tuple[Job, Said]]:
    """Run `work(job, say)` for each job in a child of its own, which ends when it has used its seconds of CPU."""
    waiting = list(reversed(jobs))
    alive: dict[int, tuple[Job, int]] = {}
    while waiting or alive:
        while waiting and len(alive) < workers:
            job = waiting.pop()
            hear, tell = os.pipe()
            pid = os.fork()
            if not pid:
                os.close(hear)
                _child(job, work, tell, cpu_s(job))
            os.close(tell)
            alive[pid] = job, hear
        pid, status = os.wait()
        if pid not in alive:
            continue
        job, hear = alive.pop(pid)
        text = os.read(hear, SAID).decode()
        os.close(hear)
        yield job, Said(os.waitstatus_to_exitcode(status), text)


def _child(job: Job, work: Callable[[Job, Callable[[str], None]], int], tell: int, cpu_s: float) -> None:
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        used = resource.getrusage(resource.RUSAGE_SELF)
        whole = int(used.ru_utime + used.ru_stime + cpu_s) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 5))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        code = work(job, lambda test: (os.write(tell, test.encode()[:SAID]), None)[1])
    finally:
        os._exit(code)

"""The memory of `trueup agent`, the whole daemon, that looks after 10,000 guests on which nothing changes."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import fleet, stage
from benchmarks.measure import Figure, Goal, Sample, Size

GOAL = Goal(bound=150, unit="MB")
PASSES = 3
SETTLED_S = 0.4
"""After a pass, of which there is one a second; it is what an agent keeps between passes that is asked for."""


async def measure(size: Size) -> list[Figure]:
    """Resident memory after a few passes: what it needed most, and what it keeps."""
    guests = size.of(32, 10_000, 10_000)
    with stage.scratch() as folder, stage.StandIn(folder, guests=guests) as stand_in:
        lab = folder / "lab"
        stage.write_lab(lab, stand_in)
        settings = lab / "trueup.toml"
        settings.write_text(settings.read_text() + '[reconcile]\ninterval = "1s"\n[log]\nformat = "json"\n')
        fleet.write_manifests(lab / "manifests", range(guests))
        (lab / "state").mkdir()
        await stage.new_journal(lab / "state" / "journal.db", ours=guests)
        kept, most, log = await asyncio.to_thread(_watched, lab, size)
    what = f"resident memory of an idle `trueup agent` with {guests:,} guests"
    sample = Sample(name="after each pass", values=kept or [0.0], unit="MB")
    if len(kept) < PASSES:
        return [Figure(key="idle/memory", what=what, goal=GOAL, missing=f"it made {len(kept)} passes: {log[-200:]}")]
    return [Figure(key="idle/memory", what=what, value=kept[-1], goal=GOAL, ours=sample, notes={"most_mb": most})]


def _watched(lab: Path, size: Size) -> tuple[list[float], float, str]:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("trueup")), "agent"],
        cwd=lab, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    kept: list[float] = []
    said = ""
    try:
        for line in process.stderr or ():
            said = line
            if "unchanged" in line and _is_pass(line):
                time.sleep(SETTLED_S)
                kept.append(stage.rss_mb(process.pid))
            if len(kept) >= size.of(PASSES, PASSES, 2 * PASSES):
                break
        status = Path(f"/proc/{process.pid}/status").read_text() if process.poll() is None else "VmHWM: 0"
        most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return kept, most / 1000, said


def _is_pass(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False

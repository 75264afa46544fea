"""`python -m pvesim`: a simulated PVE cluster over HTTPS, until it is told to stop.

Rule kept here: with --json the first and only line on standard output says how to reach it, once it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from pvesim.guests_file import DEFAULT_GUESTS
from pvesim.properties import new_uuid
from pvesim.server import serve
from pvesim.world import World

DEFAULT_ID = "root@pam!trueup"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pvesim", description="A simulated Proxmox VE cluster over HTTPS.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, 0 takes a free one")
    parser.add_argument("--guests", type=Path, help="guests file (JSON)")
    parser.add_argument("--faults", type=Path, help="faults, one JSON object a line")
    parser.add_argument("--time-scale", type=float, default=1.0, help="factor on task durations and waits")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when it listens")
    return parser.parse_args(argv)


def _world(args: argparse.Namespace) -> tuple[World, str, str]:
    """The world with its token's id and secret."""
    spec: dict[str, object] = {"guests": list(DEFAULT_GUESTS)}
    if args.guests is not None:
        parsed: object = json.loads(cast("Path", args.guests).read_text(encoding="utf-8"))
        if not isinstance(parsed, dict):
            raise ValueError("the guests file must hold one JSON object")
        spec = cast("dict[str, object]", parsed)
    seed = cast("int", args.seed) if args.seed is not None else secrets.randbits(62)
    tokens = cast("list[dict[str, object]]", spec.get("tokens") or [])
    if not tokens:
        tokens = [{"id": DEFAULT_ID, "secret": new_uuid(random.Random(seed))}]
    world = World.build(
        {**spec, "tokens": tokens}, seed=seed, now=time.time(), time_scale=cast("float", args.time_scale)
    )
    if args.faults is not None:
        for line in cast("Path", args.faults).read_text(encoding="utf-8").splitlines():
            if line.strip():
                world.add_fault(cast("dict[str, object]", json.loads(line)))
    return world, str(tokens[0]["id"]), str(tokens[0]["secret"])


async def _run(args: argparse.Namespace) -> int:
    try:
        world, token_id, secret = _world(args)
    except (OSError, ValueError, KeyError) as error:
        print(f"pvesim: {error}", file=sys.stderr)
        return 2
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="pvesim-") as folder:
        try:
            running = await serve(world, host=str(args.host), port=int(args.port), folder=Path(folder))
        except OSError as error:
            print(f"pvesim: {error}", file=sys.stderr)
            return 2
        found = {"url": running.url, "ca_file": str(running.ca_file), "token_id": token_id, "token_secret": secret}
        if args.json:
            print(json.dumps(found), flush=True)
        else:
            print(f"pvesim listens on {running.url}")
            print(f"  CA file  {running.ca_file}")
            print(f"  token    {token_id}={secret}")
            print("  stop it with Ctrl-C", flush=True)
        await stop.wait()
        await running.close()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code is 0 then."""
    return asyncio.run(_run(_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())

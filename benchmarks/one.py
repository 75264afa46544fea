"""Measure one row, in a process of its own: `python -m benchmarks.one NAME SIZE`. Prints its figures as JSON."""

import asyncio
import importlib
import sys

import msgspec

from benchmarks.measure import Figure, Size


def measured(name: str, size: Size) -> list[Figure]:
    """The figures of one row."""
    return asyncio.run(importlib.import_module(f"benchmarks.rows.{name}").measure(size))


def main() -> None:
    """Measure the row that is named."""
    name, size = sys.argv[1:]
    sys.stdout.write(msgspec.json.encode(measured(name, Size(size))).decode() + "\n")


if __name__ == "__main__":
    main()

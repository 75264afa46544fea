"""Asynchronous work for callers that are not: on a loop of its own, in a thread of its own.

Commands ask about the journal as a whole, some of them from within a loop; none does anything else meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class _Ended(Exception):
    """There are no more values; a future takes no StopAsyncIteration for an answer."""


def run(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Do it and return its result, or raise what it raises."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal") as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def each(source: Callable[[], AsyncGenerator[T]]) -> Iterator[T]:
    """The values of a generator, one by one, as they come."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal") as pool:
        runner = asyncio.Runner()
        values = source()
        try:
            while True:
                try:
                    yield pool.submit(runner.run, _next(values)).result()
                except _Ended:
                    return
        finally:
            pool.submit(runner.run, values.aclose()).result()
            pool.submit(runner.close).result()


async def _next(values: AsyncGenerator[T]) -> T:
    try:
        return await anext(values)
    except StopAsyncIteration:
        raise _Ended from None

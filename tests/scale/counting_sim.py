"""The simulator as a server, which also counts: `GET /_count` lists method, path and number of all calls so far."""

import sys
from collections import Counter

from aiohttp import web

from pvesim import __main__ as program
from pvesim import server

calls: Counter[tuple[str, str]] = Counter()
make_app = server.make_app


@web.middleware
async def count(request: web.Request, handler) -> web.StreamResponse:
    if request.path == "/_count":
        return web.json_response([[method, path, number] for (method, path), number in calls.items()])
    if request.path.startswith(server.API):
        calls[request.method, request.path.removeprefix(server.API)] += 1
    return await handler(request)


def make_counting_app(world) -> web.Application:
    app = make_app(world)
    app.middlewares.append(count)
    return app


if __name__ == "__main__":
    server.make_app = make_counting_app
    sys.exit(program.main())

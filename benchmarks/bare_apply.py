"""Make and start guests with nothing around it: `python -m benchmarks.bare_apply URL CA_FILE COUNT`."""

import asyncio
import ssl
import sys

import aiohttp

from benchmarks import fleet

POLL_S = 0.1


async def _task(session: aiohttp.ClientSession, url: str, path: str, form: dict[str, str]) -> None:
    async with session.post(f"{url}/api2/json{path}", data=form) as answer:
        upid = (await answer.json())["data"]
    while True:
        await asyncio.sleep(POLL_S)
        async with session.get(f"{url}/api2/json/nodes/{upid.split(':')[1]}/tasks/{upid}/status") as answer:
            state = (await answer.json())["data"]
        if state["status"] == "stopped":
            if state["exitstatus"] != "OK":
                raise RuntimeError(state)
            return


async def _guest(session: aiohttp.ClientSession, url: str, number: int) -> None:
    node, vmid = fleet.node_of(number), fleet.vmid_of(number)
    form = {"vmid": str(vmid), "name": f"new-{vmid}", "cores": "2", "memory": "2048"}
    await _task(session, url, f"/nodes/{node}/qemu", form)
    await _task(session, url, f"/nodes/{node}/qemu/{vmid}/status/start", {})


async def _main(url: str, ca_file: str, count: int) -> None:
    headers = {"Authorization": f"PVEAPIToken={fleet.TOKEN}={fleet.SECRET}"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca_file))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await asyncio.gather(*(_guest(session, url, number) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

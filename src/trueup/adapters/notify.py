"""Messages to people by way of Apprise, which knows a hundred services; the only module that imports it.

Rules kept here: an URL may hold a password, so no text of ours ever has one, only its number; and Apprise works in a
thread that nobody waits for at the end of the process, since a service that hangs must not hold the agent.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from trueup.model.errors import BadInput
from trueup.model.settings import Secret

_INSTALL: Final = "install trueup[notify], or empty [notify] urls"
_COMPARE: Final = "compare with https://github.com/caronc/apprise/wiki"


def problems(urls: Sequence[Secret]) -> tuple[BadInput, ...]:
    """What is wrong with these URLs; nothing is sent."""
    try:
        found = _understood(urls)
    except BadInput as error:
        return (error,)
    return tuple(
        BadInput(what=f"number {number} of [notify] urls is no URL that Apprise understands", remedy=_COMPARE)
        for number, service in enumerate(found, start=1)
        if service is None
    )


class AppriseNotifier:
    """`edges.parts.Notifier` over Apprise. URLs that it does not understand are left out; `problems` names them."""

    def __init__(self, urls: Sequence[Secret]) -> None:
        """Understand the URLs. Raises BadInput: Apprise is not installed."""
        self._services = [
            (number, service) for number, service in enumerate(_understood(urls), start=1) if service is not None
        ]

    async def tell(self, title: str, text: str) -> tuple[str, ...]:
        """Tell all of them; the answer names those that could not be told. Never raises but when it is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[str, ...]] = loop.create_future()

        def hand_back(failed: tuple[str, ...]) -> None:
            if not done.done():
                done.set_result(failed)

        def work() -> None:
            failed = tuple(
                f"number {number} of [notify] urls could not be told"
                for number, service in self._services
                if not _told(service, title, text)
            )
            try:
                loop.call_soon_threadsafe(hand_back, failed)
            except RuntimeError:
                return  # the loop has ended meanwhile, and nobody waits

        threading.Thread(target=work, name="notify", daemon=True).start()
        return await done


def _told(service: object, title: str, text: str) -> bool:
    """Whether the service took it. Whatever a plugin raises is a failure to tell, and nothing else."""
    try:
        return bool(getattr(service, "notify")(title=title, body=text))  # noqa: B009 - plugins have no common type
    except Exception:  # noqa: BLE001 - a hundred plugins, each with errors of its own
        return False


def _understood(urls: Sequence[Secret]) -> list[object | None]:
    """A service for each URL, None for those that are not understood."""
    apprise = _library()
    found: list[object | None] = []
    for url in urls:
        service: object | None
        try:
            service = apprise.Apprise.instantiate(url.reveal(), suppress_exceptions=True)
        except Exception:  # noqa: BLE001 - as above
            service = None
        found.append(service or None)
    return found


def _library() -> ModuleType:
    try:
        import apprise  # noqa: PLC0415 - an extra that may be missing, and slow to start
    except ModuleNotFoundError as error:
        raise BadInput(what="notifications need the Apprise library", remedy=_INSTALL) from error
    logger = logging.getLogger("apprise")
    logger.propagate = False  # its lines may name an URL
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return apprise

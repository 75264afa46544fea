"""The pages on which people sign with security keys: which addresses may stand in `[http] origins`, and for which site.

Rule kept here: what browsers would not do anyway is refused when the settings are read, with what to write instead. A
browser lets a key sign only on a secure page (https, or http on localhost), and only for a domain, never for a number.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from trueup.adapters.complaints import wrong
from trueup.model.keyring import RelyingParty

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_LOCAL: Final = "localhost"
_PORTS: Final = {"http": 80, "https": 443}


def origin(value: str) -> str:
    """An address as browsers name a page's origin. Raises a complaint of pydantic's."""
    remedy = "write https://trueup.example, with :PORT if it is not 443; to try it here, http://localhost:8640"
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise wrong(f"origin {value[:80]!r} is no address of a page", remedy, at="origins") from None
    if _is_number(host):
        what = f"origin {value[:80]!r} has a number for its host, and security keys sign for names only"
        raise wrong(what, "write the name by which people open the page, like http://localhost:8640", at="origins")
    written = f"{url.scheme}://{host}" + (f":{port}" if port not in {None, _PORTS.get(url.scheme)} else "")
    if value != written or _NAME.fullmatch(host) is None:
        raise wrong(f"origin {value[:80]!r} is not written as browsers write it", remedy, at="origins")
    if url.scheme != "https" and not (url.scheme == "http" and _is_local(host)):
        raise wrong(f"origin {value[:80]!r} is not https: no browser lets a security key sign there", remedy)
    return value


def relying_party(origins: list[str], rp_id: str | None) -> RelyingParty:
    """Who a browser's signature is made for. Raises a complaint: the pages are not all of one site."""
    hosts = [urlsplit(one).hostname or "" for one in origins]
    if not hosts:
        if rp_id is not None:
            raise wrong("rp_id says nothing without origins", "write origins too, or take rp_id out", at="rp_id")
        return RelyingParty()
    site = hosts[0] if rp_id is None else rp_id
    if _NAME.fullmatch(site) is None or _is_number(site):
        raise wrong(f"rp_id {site[:80]!r} is no domain", "write the domain that all origins are in", at="rp_id")
    for host in hosts:
        if host != site and not host.endswith(f".{site}"):
            what = f"origin {host!r} is not in the domain {site!r}, which the security keys are for"
            raise wrong(what, "write rp_id, the domain that all origins are in", at="origins")
    return RelyingParty(rp_id=site, origins=tuple(origins))


def _is_local(host: str) -> bool:
    return host == _LOCAL or host.endswith(f".{_LOCAL}")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.replace(".", "").isdigit()  # browsers read 127.1 and 2130706433 as addresses too
    return True

"""The pages on which security keys may sign: what browsers would refuse is refused when the settings are read."""

import pytest
from pydantic_core import PydanticCustomError

from trueup.edges.settings_origins import origin, relying_party
from trueup.model.keyring import RelyingParty


@pytest.mark.parametrize(
    "good",
    ["https://trueup.example", "https://trueup.example:8640", "http://localhost:8640", "http://a.localhost", "https://pve1"],
)  # fmt: skip
def test_origins_as_browsers_write_them(good: str) -> None:
    assert origin(good) == good
    host = good.partition("//")[2].partition(":")[0]
    assert relying_party([good], None) == RelyingParty(rp_id=host, origins=(good,))


@pytest.mark.parametrize(
    "bad",
    [
        "", "trueup.example", "http://trueup.example", "https://trueup.example/", "https://trueup.example/page",
        "https://Trueup.example", "HTTPS://trueup.example", "https://trueup.example:443", "http://localhost:80",
        "https://user@trueup.example", "https://trueup.example?x", "https://trueup.example#x", "https://trueup.example:x",
        "https://127.0.0.1:8640", "http://127.0.0.1:8640", "https://[::1]:8640", "http://127.1:8640", "https://2130706433",
        "https://*.example", "https://trueup..example", "https://-a.example", "https://ü.example",
        "https://trueup.example ", "null",
        "ftp://localhost", "http://notlocalhost:8640", "http://localhost.example:8640", "https://[::1",
    ],
)  # fmt: skip
def test_what_is_no_origin(bad: str) -> None:
    with pytest.raises(PydanticCustomError):
        origin(bad)


def test_several_pages_are_of_one_site() -> None:
    pages = ["https://a.trueup.example", "https://b.trueup.example:8640"]
    assert relying_party(pages, "trueup.example") == RelyingParty(rp_id="trueup.example", origins=tuple(pages))
    assert relying_party([], None) == RelyingParty()
    for origins, rp_id in (
        (pages, None),
        (pages, "a.trueup.example"),
        (pages, "rueup.example"),
        (pages, "Trueup.example"),
        (pages, ""),
        (["https://evil-trueup.example"], "trueup.example"),
        (["http://localhost:1"], "127.0.0.1"),
        ([], "trueup.example"),
    ):
        with pytest.raises(PydanticCustomError):
            relying_party(origins, rp_id)

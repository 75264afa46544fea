"""The page: who is let in, what a browser may not be tricked into, and that each page is sound HTML without scripts."""

from html.parser import HTMLParser

import pytest

from tests.web.client import Client, csrf_of

PAGES = (
    "/",
    "/guests/101",
    "/guests/102",
    "/guests/9000",
    "/ops",
    "/ops?state=failed&vmid=",
    "/requests",
    "/keys",
    "/journal",
)

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Sound(HTMLParser):
    """Fails on what is not well-formed, on anything inline, and on ids that are not unique."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.seen: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), attrs
        assert "style" not in given, tag
        assert not any(name.startswith("on") for name in given), attrs
        assert tag != "style"
        if tag == "script":
            assert given.get("src", ""), "an inline script"
        if (name := given.get("id")) is not None:
            assert name not in self.ids, name
            self.ids.add(name)
        for name in ("href", "src", "action", "hx-get"):
            target = given.get(name)
            if target is not None:
                assert target.startswith(("/", "#")), target
                assert not target.startswith("//"), target
                self.links.append(target)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            assert not data.strip(), data


@pytest.fixture
def person(client: Client) -> Client:
    browser = client.browser()
    assert browser.log_in(client.token).status == 303
    return browser


def test_a_person_logs_in_and_out(client: Client) -> None:
    browser = client.browser()
    asked = browser.page("/guests/101?x=1")
    assert (asked.status, asked.headers["location"]) == (303, "/login?after=/guests/101%3Fx%3D1")
    assert browser.page("/login").status == 200

    wrong = browser.log_in("not-the-token")
    assert wrong.status == 403
    assert "That is not the token" in wrong.text
    assert browser.page("/").status == 303

    right = browser.log_in(client.token, after="/guests/101")
    assert (right.status, right.headers["location"]) == (303, "/guests/101")
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"))
    assert client.token not in cookie
    page = browser.page("/guests/101")
    assert page.status == 200
    assert browser.get("/v1/status").status == 200

    session = dict(browser.cookies)
    out = browser.post("/logout", {"csrf": csrf_of(page.text)})
    assert (out.status, out.headers["location"]) == (303, "/login")
    browser.cookies = session  # somebody kept a copy
    assert browser.page("/").status == 303
    assert browser.get("/v1/status").status == 401


def test_a_login_leads_nowhere_else(client: Client) -> None:
    for after in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y"):
        assert client.browser().log_in(client.token, after=after).headers["location"] == "/", after


def test_nothing_is_posted_without_the_pages_token(client: Client, person: Client) -> None:
    good = csrf_of(person.page("/journal").text)
    assert person.post("/journal/verify", {"csrf": good}).status == 303
    other = client.browser()
    other.log_in(client.token)
    foreign = csrf_of(other.page("/journal").text)
    assert foreign != good
    for csrf in ("", "x", foreign, good + "x", "é"):
        assert person.post("/journal/verify", {"csrf": csrf}).status == 403, csrf
        assert person.post("/logout", {"csrf": csrf}).status == 403, csrf
    for site in ("cross-site", "same-site"):
        assert person.post("/journal/verify", {"csrf": good}, **{"Sec-Fetch-Site": site}).status == 403
        assert person.post("/logout", {"csrf": good}, **{"Sec-Fetch-Site": site}).status == 403
    assert person.ask("POST", "/v1/requests", body=b"{}").problem()["status"] == 403
    api = person.ask("POST", "/v1/requests", body=b"{}", headers={"X-CSRF-Token": good})
    assert api.problem()["status"] == 400  # past the doors; the gate says what is wrong
    assert person.page("/").status == 200

    stranger = client.browser()
    assert stranger.post("/login", {"csrf": good, "token": client.token}).status == 403
    assert stranger.post("/journal/verify", {"csrf": good}).status == 401


def test_forms_that_are_none(client: Client, person: Client) -> None:
    for body, kind in ((b"\xff\xfe", "application/x-www-form-urlencoded"), (b"{}", "application/json")):
        answer = person.ask("POST", "/logout", body=body, headers={"Content-Type": kind})
        assert answer.status in {400, 403, 415}
    many = {f"field{number}": "x" for number in range(100)}
    assert person.post("/login", many).status == 400


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_sound(client: Client, person: Client, path: str) -> None:
    page = person.page(path)
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    sound = Sound(page.text)
    assert sound.seen.count("h1") == 1
    assert {"header", "nav", "main"} <= set(sound.seen)
    for link in sound.links:
        if link not in {"/logout", "/journal/verify"} and not link.startswith("#"):
            assert person.page(link).status == 200, link
    assert Sound(client.browser().page("/login").text).seen.count("h1") == 1


def test_an_operation_tells_its_story(client: Client, person: Client) -> None:
    op_id = client.get("/v1/ops?vmid=101").json["ops"][0]["op_id"]
    page = person.page(f"/ops/{op_id}").text
    Sound(page)
    story = client.get(f"/v1/ops/{op_id}").json
    for sentence in (story["title"], *story["to_do"]):
        assert sentence in page


def test_errors_are_pages_for_people(client: Client, person: Client) -> None:
    for path in ("/nothing", "/guests/99", "/guests/150", "/ops/nothing", "/requests/nothing"):
        missing = person.page(path)
        assert (missing.status, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
        Sound(missing.text)
    assert person.page("/ops?state=nonsense").status == 400
    assert person.page("/static/nothing.js").status == 404
    assert person.page("/static/..%2fpages.py").status == 404
    assert person.page("/static/../pages.py").status == 404


def test_the_journal_is_verified_on_demand(person: Client) -> None:
    assert person.post("/journal/verify", {"csrf": csrf_of(person.page("/journal").text)}).status == 303
    page = person.page("/journal").text
    assert "Sound:" in page
    assert "Epoch 1 began" in page


def test_shipped_files_may_be_kept_and_have_their_licence(client: Client) -> None:
    page = Sound(client.browser().page("/login").text)
    for link in page.links:
        if link.startswith("/static/"):
            got = client.browser().get(link)
            assert "immutable" in got.headers["cache-control"]
    assert client.browser().get("/static/page.css").headers["cache-control"] == "no-cache"
    for name in ("htmx", "htmx-ext-sse"):
        assert "BSD" in client.browser().get(f"/static/{name}.LICENSE.txt").text

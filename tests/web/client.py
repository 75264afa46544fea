"""A plain HTTP client of an agent, and a browser that has no scripts."""

import http.client
import json
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from tests.cli.test_crashes import until
from tests.operator.living import Agent

TIMEOUT_S = 60


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def problem(self) -> dict:
        """The problem document that every error of the API is."""
        assert self.headers["content-type"] == "application/problem+json", (self.status, self.body)
        assert self.json["status"] == self.status
        assert self.json["title"]
        return self.json


@dataclass
class Client:
    host: str
    port: int
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, agent: Agent) -> "Client":
        until(lambda: agent.events("listening"), 60)
        url = urlsplit(agent.events("listening")[0]["url"])
        token = (agent.stage.folder / "http.token").read_text().strip()
        return cls(host=url.hostname or "", port=url.port or 0, token=token)

    def browser(self) -> "Client":
        return Client(host=self.host, port=self.port)

    def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=sent)
            got = connection.getresponse()
            answer = Answer(status=got.status, headers=got.headers, body=got.read())
        finally:
            connection.close()
        for header in got.headers.get_all("set-cookie") or []:
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def page(self, path: str) -> Answer:
        return self.get(path, Accept="text/html,application/xhtml+xml")

    def post(self, path: str, form: dict[str, str], **headers: str) -> Answer:
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html", **headers}
        return self.ask("POST", path, body=urlencode(form).encode(), headers=sent)

    def log_in(self, token: str, after: str = "/") -> Answer:
        csrf = csrf_of(self.page("/login").text)
        return self.post("/login", {"csrf": csrf, "token": token, "after": after})

    def raw(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=TIMEOUT_S)

    def stream(self, path: str = "/v1/events") -> socket.socket:
        """An event stream, as a socket that has read nothing yet."""
        opened = self.raw()
        opened.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )
        return opened


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]

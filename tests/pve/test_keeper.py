"""The keeper makes and deletes tokens, and asks each node itself."""

import pytest

from tests.pve.fakes import FakeTransport, died, failing, keeper, ok, script
from tests.pve.servers import run
from trueup.adapters.pve_wire import HttpAnswer, HttpRequest
from trueup.model.errors import InvariantBroken, NotSent, ReadFailed, Refused, Unknown
from trueup.model.ids import NodeName, TokenId

TOKEN = TokenId("agent@pve!epoch7")
PATH = "/access/users/agent%40pve/token/epoch7"
A, B, C = ENDPOINTS = ("https://pve1:8006", "https://pve2:8006", "https://pve3:8006")


def test_a_token_is_made_with_all_rights_of_its_user_and_its_secret_returned() -> None:
    made = ok('{"full-tokenid":"agent@pve!epoch7","value":"the-secret","info":{"privsep":"0"}}')
    transport = failing(made)
    assert run(keeper(transport).create(TOKEN)) == "the-secret"
    (request,) = transport.requests
    assert (request.method, request.path, request.params["privsep"]) == ("POST", PATH, "0")
    assert request.mutation


def test_a_token_without_its_secret_in_the_answer_is_unknown() -> None:
    for answer in (ok("null"), ok('{"value":null}'), HttpAnswer(status=200, body=b"")):
        with pytest.raises(Unknown):
            run(keeper(failing(answer)).create(TOKEN))
    taken = HttpAnswer(
        status=400,
        reason="Parameter verification failed.",
        body=b'{"message":"Parameter verification failed.\\n","errors":{"tokenid":"Token already exists."}}',
    )
    with pytest.raises(NotSent, match="Token already exists"):
        run(keeper(failing(taken)).create(TOKEN))


def test_deleting_a_token_that_is_not_there_is_success_and_anything_else_is_not() -> None:
    run(keeper(failing(ok("null"))).delete(TOKEN))
    run(keeper(failing(died("no such token 'epoch7' for user 'agent@pve'"))).delete(TOKEN))
    with pytest.raises(Refused):
        run(keeper(failing(died("no such user ('agent@pve')"))).delete(TOKEN))
    with pytest.raises(Unknown):
        run(keeper(failing(died("cfs-lock 'file-user_cfg' error: got lock request timeout"))).delete(TOKEN))
    with pytest.raises(NotSent):
        run(keeper(failing(HttpAnswer(status=403, reason="Permission check failed"))).delete(TOKEN))


def test_tokens_of_other_users_are_not_touched() -> None:
    for token in ("root@pam!x1", "agent@pve", "agent@pve!"):
        with pytest.raises(InvariantBroken):
            run(keeper(script()).delete(TokenId(token)))


def cluster(*, silent: str = "") -> FakeTransport:
    async def answer(request: HttpRequest) -> HttpAnswer:
        if request.path == "/cluster/status":
            if request.endpoint == silent:
                return HttpAnswer(status=403, reason="Permission check failed (/, Sys.Audit)")
            local = ENDPOINTS.index(request.endpoint) + 1
            rows = [f'{{"type":"node","name":"pve{n}","online":1,"local":{int(n == local)}}}' for n in (1, 2, 3)]
            return ok(f'[{{"type":"cluster","name":"c","quorate":1}},{",".join(rows)}]')
        return ok(f'[{{"tokenid":"seen-by-{ENDPOINTS.index(request.endpoint) + 1}","expire":0,"privsep":0}}]')

    return FakeTransport(answer)


def test_each_node_is_asked_at_its_own_endpoint() -> None:
    transport = cluster()
    tokens = keeper(transport, ENDPOINTS)
    for number in (3, 1, 2):
        assert run(tokens.listed(NodeName(f"pve{number}"))) == (f"agent@pve!seen-by-{number}",)
    assert sum(request.path == "/cluster/status" for request in transport.requests) == 3


def test_a_node_whose_endpoint_is_not_known_is_asked_for_at_the_entry() -> None:
    assert run(keeper(cluster(silent=B), ENDPOINTS).listed(NodeName("pve2"))) == ("agent@pve!seen-by-1",)
    transport = cluster()
    assert run(keeper(transport, (A,)).listed(NodeName("pve2"))) == ("agent@pve!seen-by-1",)
    assert [request.path for request in transport.requests] == ["/access/users/agent%40pve/token"]


def test_a_list_that_cannot_be_read_is_no_empty_list() -> None:
    for answer in (ok("null"), ok('[{"id":"x"}]'), HttpAnswer(status=595), died("anything")):
        with pytest.raises(ReadFailed):
            run(keeper(failing(answer)).listed(NodeName("pve1")))
    assert run(keeper(failing(ok("[]"))).listed(NodeName("pve1"))) == ()

"""Calls about API tokens.

Rule kept here: making and removing tokens needs the right to modify the user; a node without quorum cannot do it.
"""

from __future__ import annotations

from pvesim.guests import Hand
from pvesim.machine import Call, Machine
from pvesim.tokens import make_token
from pvesim.wire import Json, bad_parameters, forbidden


def _allowed(m: Machine, call: Call) -> str:
    user = call.names["userid"]
    m.tokens.need_user(user)
    if not call.who.may_for_user(user, "User.Modify"):
        raise forbidden(" (/access/groups, User.Modify)" if call.method == "GET" else "")
    return user


def _writable(m: Machine, call: Call) -> None:
    m.guests.need_writable(call.node, "user.cfg", Hand(pid=call.pid))


def list_tokens(m: Machine, call: Call) -> Json:
    """GET /access/users/U/token."""
    return [token.row() for token in m.tokens.of_user(_allowed(m, call))]


def get_token(m: Machine, call: Call) -> Json:
    """GET /access/users/U/token/T."""
    row = m.tokens.need(_allowed(m, call), call.names["tokenid"]).row()
    del row["tokenid"]
    return row


def create_token(m: Machine, call: Call) -> Json:
    """POST /access/users/U/token/T: the only time the secret is shown."""
    user, tokenid = _allowed(m, call), call.names["tokenid"]
    if f"{user}!{tokenid}" in m.tokens.tokens:
        raise bad_parameters({"tokenid": "Token already exists."})
    _writable(m, call)
    token = make_token((user, tokenid), call.params, m.rng)
    m.tokens.add(token)
    call.hand().touched()
    info = {key: value for key, value in token.row().items() if key != "tokenid"}
    return {"full-tokenid": token.full_id, "value": token.secret, "info": info}


def update_token(m: Machine, call: Call) -> Json:
    """PUT /access/users/U/token/T."""
    token = m.tokens.need(_allowed(m, call), call.names["tokenid"])
    _writable(m, call)
    if "expire" in call.params:
        token.expire = int(call.params["expire"])
    token.comment = call.params.get("comment", token.comment)
    if "privsep" in call.params:
        token.privsep = call.flag("privsep")
    call.hand().touched()
    row = token.row()
    del row["tokenid"]
    return row


def delete_token(m: Machine, call: Call) -> Json:
    """DELETE /access/users/U/token/T: every request still under way with it ends in 401."""
    token = m.tokens.need(_allowed(m, call), call.names["tokenid"])
    _writable(m, call)
    del m.tokens.tokens[token.full_id]
    call.hand().touched()
    return None

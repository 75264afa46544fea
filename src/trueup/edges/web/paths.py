"""Where a site is: at `/`, or below a prefix where one agent serves several clusters (`web.hall`)."""

from starlette.requests import HTTPConnection


def own_path(connection: HTTPConnection) -> str:
    """The path of a request as its site knows it, without the prefix that the site is at."""
    path, root = connection.url.path, str(connection.scope.get("root_path", ""))
    return path[len(root) :] or "/" if root and path.startswith((f"{root}/",)) else path

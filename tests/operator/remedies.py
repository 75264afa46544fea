"""Finds every remedy in the source: what a message tells its reader to do.

Read from the syntax, so that none is left out: the value of `remedy=`, of names with "remedy" in them, of the tables of
what is to be done about an operation, of the constants that stand where a remedy is wanted, and the last argument of
calls that complain. What is put in at run time is `{}`.
"""

import ast
import gc
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "trueup"
COMPLAINTS = {"wrong": 2, "_wrong": 2, "tell": 3, "_tell": 3, "_fits": 2, "GateRefused": 3, "_refusal": 5}
"""Functions whose last argument is a remedy, if there are so many: with fewer, `tell` is the engine's news."""


@cache
def parsed() -> Mapping[Path, ast.Module]:
    """The syntax of each of our sources.

    Garbage is left alone meanwhile: a connection found in it is complained about with a traceback, for which Python
    3.11 parses the lines that it shows, and its parser does not bear being called from within itself.
    """
    gc.collect()
    gc.disable()
    try:
        return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    finally:
        gc.enable()


def remedies() -> dict[str, list[str]]:
    """Each remedy, with the modules that have it."""
    trees = parsed()
    constants: dict[str, ast.expr] = {}
    for tree in trees.values():
        constants |= {name: value for node in tree.body for name, value in _assigned(node)}
    found: dict[str, list[str]] = {}
    for path, tree in trees.items():
        own = constants | {name: value for node in tree.body for name, value in _assigned(node)}
        for value in _places(tree):
            for text in _texts(value, own, 0):
                modules = found.setdefault(text, [])
                if (module := str(path.relative_to(SOURCE))) not in modules:
                    modules.append(module)
    return {text: modules for text, modules in found.items() if text.strip("{} ,.")}


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign | ast.AugAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value


def _places(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "remedy":
            yield node.value
        for name, value in _assigned(node):
            if "remed" in name.lower() or name.startswith("TO_DO"):
                yield value
        if isinstance(node, ast.Call) and len(node.args) > 1:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in COMPLAINTS and len(node.args) >= COMPLAINTS[called]:
                yield node.args[-1]


def _texts(node: ast.expr, constants: dict[str, ast.expr], depth: int) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=values):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in values)]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one, constants, depth) + _texts(other, constants, depth)
        case ast.BoolOp(values=values) | ast.Dict(values=values):
            return [text for value in values for text in _texts(value, constants, depth)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            heads, tails = _texts(left, constants, depth) or ["{}"], _texts(right, constants, depth) or ["{}"]
            return [head + tail for head in heads for tail in tails]
        case ast.Call(func=ast.Name(id="MappingProxyType"), args=[only]):
            return _texts(only, constants, depth)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.isupper() and name in constants and depth < 3:
            return _texts(constants[name], constants, depth + 1)
        case _:
            return []

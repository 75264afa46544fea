"""Makes small mistakes in a module, one at a time: a comparison turned round, a member of an enumeration mixed up, a
part of a condition left out.

Whole modules are mutated, since decisions here stand in tables at module level as often as in functions. Texts for
people are left alone, and so are docstrings and annotations.
"""

import ast
import copy
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

NEGATED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
SWAPPED: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One mistake: the name of what it is in, and the change as text."""

    where: str
    change: str
    line: int
    function: int
    """First line of the outermost function whose body it is in (as in `co_firstlineno`); 0: it runs at the import."""
    _module: ast.Module
    _node: ast.expr
    _wrong: ast.expr

    @property
    def tree(self) -> ast.Module:
        """The whole module with the mistake in it; made when it is asked for, since there are many."""
        return _with(self._module, self._node, self._wrong)


def first_line(function: ast.FunctionDef) -> int:
    """Where Python says that a function begins: at its first decorator."""
    return min(node.lineno for node in (function, *function.decorator_list))


def functions(source: str) -> dict[int, tuple[int, str]]:
    """The outermost functions and methods of a module: first line -> last line and name."""
    found: dict[int, tuple[int, str]] = {}

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                found[first_line(child)] = child.end_lineno or child.lineno, child.name
            else:
                walk(child)

    walk(ast.parse(source))
    return found


def mutants(source: str, module: ModuleType) -> Iterator[Mutant]:
    """All mistakes, in the order of the lines; equal changes in one place are told apart by a number."""
    tree = ast.parse(source)
    seen: dict[tuple[str, str], int] = {}
    for where, function, node in _places(tree):
        for wrong in _wrong(node, module):
            before, after = ast.unparse(node), ast.unparse(wrong)
            change = f"{_short(before)} -> {_short(after)}"
            seen[where, change] = number = seen.get((where, change), 0) + 1
            name = change if number == 1 else f"{change} #{number}"
            yield Mutant(where, name, getattr(node, "lineno", 0), function, tree, node, wrong)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:60]}…{line[-29:]}"


def _places(tree: ast.Module) -> Iterator[tuple[str, int, ast.expr]]:
    """Each expression, with the name of what it is in, and the first line of the function that runs it, 0 for none."""

    def walk(node: ast.AST, where: str, function: int) -> Iterator[tuple[str, int, ast.expr]]:
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases", "type_params", "keywords"} and (
                name != "keywords" or isinstance(node, ast.ClassDef)
            ):
                continue
            inside = function
            if isinstance(node, ast.FunctionDef) and name == "body":
                inside = function or first_line(node)
            if isinstance(node, ast.Call) and name == "args" and ast.unparse(node.func) == "cast":
                value = value[1:]  # the first names a type  # noqa: PLW2901
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or _is_text(child):
                    continue
                if isinstance(child, ast.expr):
                    yield where, inside, child
                yield from walk(child, _named(child, where), inside)

    yield from walk(tree, "", 0)


def _is_text(node: ast.AST) -> bool:
    """Docstrings, what is said to people (`why="..."`, `remedy="..."` and the like), and names for linters only."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.keyword) and node.arg in {"why", "what", "remedy", "settles_by", "where"}:
        return True
    return isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _named(node: ast.AST, where: str) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return f"{where}.{node.name}".strip(".")
    if isinstance(node, ast.Assign | ast.AnnAssign) and not where:
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return target.id if isinstance(target, ast.Name) else where
    return where


def _wrong(node: ast.expr, module: ModuleType) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in NEGATED:
            yield ast.Compare(left=left, ops=[NEGATED[type(op)]()], comparators=[right])
        case ast.Compare(left=left, ops=ops, comparators=comparators) if len(ops) > 1:
            for index, op in enumerate(ops):
                if type(op) in NEGATED:
                    changed = [*ops[:index], NEGATED[type(op)](), *ops[index + 1 :]]
                    yield ast.Compare(left=left, ops=changed, comparators=comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(op=ast.Or() if isinstance(op, ast.And) else ast.And(), values=values)
            for index in range(len(values)):
                left = values[:index] + values[index + 1 :]
                yield left[0] if len(left) == 1 else ast.BoolOp(op=op, values=left)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test=test, body=orelse, orelse=body)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in SWAPPED and not _joins_text(left, right):
            yield ast.BinOp(left=left, op=SWAPPED[type(op)](), right=right)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value=value + 1)
        case ast.Constant(value=str() as value) if value.replace("_", "").replace("-", "").isalnum():
            yield ast.Constant(value=f"{value}X")
        case ast.Set(elts=elts) if len(elts) > 1:
            for index in range(len(elts)):
                yield ast.Set(elts=elts[:index] + elts[index + 1 :])
        case ast.Call(func=ast.Name(id="all"), args=args):
            yield ast.Call(func=ast.Name(id="any", ctx=ast.Load()), args=args, keywords=[])
        case ast.Call(func=ast.Name(id="any"), args=args):
            yield ast.Call(func=ast.Name(id="all", ctx=ast.Load()), args=args, keywords=[])
        case ast.Attribute(value=ast.Name(id=kind), attr=member):
            other = _other_member(getattr(module, kind, None), member)
            if other:
                yield ast.Attribute(value=ast.Name(id=kind, ctx=ast.Load()), attr=other, ctx=ast.Load())
        case _:
            pass


def _joins_text(*sides: ast.expr) -> bool:
    return any(isinstance(side, ast.JoinedStr | ast.List | ast.Tuple) for side in sides) or any(
        isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides
    )


def _other_member(kind: object, member: str) -> str:
    """The member that stands behind this one, '' if this is no member of an enumeration."""
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return ""
    names = list(kind.__members__)
    return names[(names.index(member) + 1) % len(names)] if member in names and len(names) > 1 else ""


def _with(tree: ast.Module, node: ast.expr, wrong: ast.expr) -> ast.Module:
    """A copy of the module in which one node is another one."""
    marked = copy.deepcopy(tree, memo := {})
    twin = memo[id(node)]

    class Put(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return copy.deepcopy(wrong) if node is twin else super().visit(node)

    Put().visit(marked)
    return ast.fix_missing_locations(marked)

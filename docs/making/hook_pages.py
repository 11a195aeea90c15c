"""The page of each hook: its specification, what its arguments are, and what the plugin hands over."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from skillneurons import hookspecs

from making.blocks import markdown, table

# What a hook is about, where its annotation does not name the class.
ABOUT = {"register_attributions": "skillneurons.statistics.Accumulator"}
# What goes through a hook's functions besides.
BESIDES = {"register_tasks": ("skillneurons.types.Example",), "register_metrics": ("skillneurons.types.Output",)}
FOUND_IN = ("skillneurons.types", "skillneurons.results")


def hooks() -> dict[str, Callable[..., Any]]:
    """Return the hook specifications by name, in the order in which they are written."""
    mark = f"{hookspecs.PROJECT}_spec"
    return {name: found for name, found in vars(hookspecs).items() if hasattr(found, mark)}


def hook(name: str) -> str:
    """Return the block of one hook: signature, docstring, arguments, and the class that goes through it."""
    function = hooks()[name]
    node = _definition(function)
    node.body = [ast.Expr(ast.Constant(...))]
    lines = ["```python", ast.unparse(node).replace(":\n    ...", ": ..."), "```", "", markdown(_doc(function)), ""]
    rows = [(f"`{one.arg}`", f"`{_text(one.annotation)}`", _told(one.annotation)) for one in node.args.args]
    lines += [table(("argument", "type", "what it is"), rows)]
    about = _class_of(name, node)
    for one in [*([about] if about else []), *map(_found, BESIDES.get(name, ()))]:
        lines += ["", *_class_lines(one)]
    return "\n".join(lines)


def hook_index() -> str:
    """Return the table of all hooks, each with its page."""
    rows = [
        (f"[`{name}`]({name}.md)", markdown(_doc(function)).partition("\n\n")[0]) for name, function in hooks().items()
    ]
    return table(("hook", "what it is for"), rows)


def new_page(name: str) -> str:
    """Return a page for a hook that has none yet."""
    return f"# {name}\n\n<!-- generated: hook {name} -->\n<!-- end of generated -->\n\n## A plugin\n"


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    tree = ast.parse(inspect.getsource(function))
    node = next(one for one in tree.body if isinstance(one, ast.FunctionDef))
    node.decorator_list = []
    return node


def _doc(found: Any) -> str:
    return inspect.cleandoc(found.__doc__ or "")


def _text(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(annotation)


def _taken(annotation: ast.expr | None) -> list[str] | None:
    """Return what a function takes, by ``Callable[[...], ...]``; None for what is no function."""
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Callable"):
        return None
    inner = annotation.slice
    takes = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
    return [ast.unparse(one) for one in takes.elts] if isinstance(takes, ast.List) else []


def _told(annotation: ast.expr | None) -> str:
    taken = _taken(annotation)
    if taken is None:
        return f"`{_text(annotation)}`, described below"
    return f"a function: call it with {' and '.join(f'`{one}`' for one in taken)}, as often as you like"


def _class_of(name: str, node: ast.FunctionDef) -> type | None:
    """Return the class that a hook's plugin hands over, or is handed."""
    if name in ABOUT:
        return _found(ABOUT[name])
    words = [word for one in node.args.args for word in (_taken(one.annotation) or [_text(one.annotation)])]
    for module in map(importlib.import_module, FOUND_IN):
        for word in words:
            if isinstance(getattr(module, word, None), type):
                return getattr(module, word)  # type: ignore[no-any-return]
    return None


def _found(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def _class_lines(about: type) -> list[str]:
    lines = [f"## {about.__name__}", "", markdown(_doc(about)), ""]
    if dataclasses.is_dataclass(about):
        rows = [(f"`{one.name}`", f"`{one.type}`", _default(one)) for one in dataclasses.fields(about)]
        return [*lines, table(("field", "type", "default"), rows)]
    methods = {
        name: found for name, found in vars(about).items() if inspect.isfunction(found) and not name.startswith("_")
    }
    rows = [(f"`{name}{_call(found)}`", markdown(_doc(found)).partition("\n\n")[0]) for name, found in methods.items()]
    return [*lines, table(("method", "what it does"), rows)]


def _call(function: Callable[..., Any]) -> str:
    return f"({', '.join(list(inspect.signature(function).parameters)[1:])})"


def _default(one: dataclasses.Field[Any]) -> str:
    if one.default is not dataclasses.MISSING:
        return f"`{getattr(one.default, '__name__', repr(one.default))}`"
    if one.default_factory is not dataclasses.MISSING:
        made = one.default_factory()
        return f"`{made!r}`" if isinstance(made, (dict, list, tuple)) else f"`{type(made).__name__}()`"
    return "required"

"""Names of recipes and schemes for help pages and shells, read from their sources: to import these takes PyTorch, and seconds."""

from __future__ import annotations

import ast
from importlib import resources
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand

__all__ = ["ListsRecipes", "ListsSchemes", "recipe_names", "recipes", "scheme_names", "schemes"]


def recipes() -> dict[str, str]:
    """Recipes of `edge-tse train` by name, each with the first line of its docstring."""
    tree = _source("recipes.py")
    made = {f.name: (ast.get_docstring(f) or "").partition("\n")[0] for f in tree.body if isinstance(f, ast.FunctionDef)}
    tuples = [n.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Tuple)]
    names = [each.id for listed in tuples for each in listed.elts if isinstance(each, ast.Name)]
    return {name: made[name] for name in names if name in made}


def schemes() -> tuple[str, ...]:
    """Schemes of `edge-tse quantize`."""
    for node in _source("quantize.py").body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "SCHEMES":
            assert isinstance(node.value, ast.Dict)
            return tuple(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    return ()


def recipe_names(incomplete: str) -> list[tuple[str, str]]:
    """Recipes that begin so, with what they are, for a shell."""
    return [(name, what) for name, what in recipes().items() if name.startswith(incomplete)]


def scheme_names(incomplete: str) -> list[str]:
    """Schemes that begin so, for a shell."""
    return [name for name in schemes() if name.startswith(incomplete)]


class ListsRecipes(TyperCommand):
    """A verb whose help page lists the recipes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page; only now are the recipes looked for."""
        listed = (f"{name}: {what.replace('``', '`')}" for name, what in recipes().items())
        self.epilog = escape("\n".join(["Recipes:", *listed]))
        super().format_help(ctx, formatter)


class ListsSchemes(TyperCommand):
    """A verb whose help page lists the schemes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page; only now are the schemes looked for."""
        self.epilog = f"Schemes: {', '.join(schemes())}."
        super().format_help(ctx, formatter)


def _source(name: str) -> ast.Module:
    # Found by name: a package that the command line does not depend on.
    return ast.parse((resources.files("quantization") / name).read_text(encoding="utf-8"))

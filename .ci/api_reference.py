"""The API reference: pages in build/docs from the docstrings of edge_tse. Fails where a reference or a link leads nowhere.

Docstrings refer to names as Sphinx does: ``:func:`extract```, relative to their class and module, with a leading dot to any module.
"""

from __future__ import annotations

import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pdoc
import pdoc.doc
import pdoc.render

PACKAGE = "edge_tse"
LEFT_OUT = ("edge_tse.cli.", "edge_tse.nn.", "edge_tse._front.", "edge_tse.__main__.")
"""The command line has --help, and the float networks need a laboratory."""

_ROLE = re.compile(r":(?:mod|func|data|const|class|meth|attr|exc|obj):`~?([^`]+)`")


def documented(package: str) -> dict[str, pdoc.doc.Module]:
    """Modules of the reference by name."""
    home = import_module(package)
    for name in home.__all__:
        getattr(home, name)  # loaded on first use, and pdoc sees what is loaded
    # Not pdoc's own walk: it ends where a package names what it exports.
    found = pkgutil.walk_packages(home.__path__, f"{package}.")
    names = (each.name for each in found if not f"{each.name}.".startswith(LEFT_OUT))
    return {name: pdoc.doc.Module.from_name(name) for name in (package, *sorted(names))}


def members(namespace: pdoc.doc.Namespace[Any]) -> Iterator[pdoc.doc.Doc[Any]]:
    """Everything that a module or a class holds, at any depth, but not other modules."""
    for each in namespace.members.values():
        if isinstance(each, pdoc.doc.Module):
            continue
        yield each
        if isinstance(each, pdoc.doc.Class):
            yield from members(each)


def resolve(target: str, context: str, known: set[str]) -> str | None:
    """Full name of what a docstring of ``context`` means by ``target``; None if there is no such thing."""
    if target.startswith("."):
        found = sorted((name for name in known if name.endswith(target)), key=len)
        return found[0] if found else None
    around = context
    while around:
        if f"{around}.{target}" in known:
            return f"{around}.{target}"
        if (value := held(f"{around}.{target}")) is not None:
            # Imported there, or kept out of the reference.
            home = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
            return home if home in known else target
        around = around.rpartition(".")[0]
    return target if target in known or held(target) is not None else None


def held(name: str) -> Any:
    """What can be imported by a name, or by the beginning of it and what that holds; None if there is nothing."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:i]))
        except ImportError:
            continue
        for part in parts[i:]:
            value = getattr(value, part, None)
        return value
    return None


def link_names(modules: dict[str, pdoc.doc.Module]) -> list[str]:
    """Replace references in docstrings by full names, which become links; one line for each that leads nowhere."""
    every: list[pdoc.doc.Doc[Any]] = [each for module in modules.values() for each in (module, *members(module))]
    known = {each.fullname for each in every}
    lost = []
    for each in every:

        def full(match: re.Match[str], each: pdoc.doc.Doc[Any] = each) -> str:
            # A name that is exported where it is not defined is written as where it is defined.
            for home in (".".join(each.taken_from), each.fullname):
                if name := resolve(match[1], home, known):
                    return f"`{name}`"
            lost.append(f"{each.fullname}: {match[0]} leads nowhere")
            return match[0]

        each.docstring = _ROLE.sub(full, each.docstring)
    return lost


class _Page(HTMLParser):
    """Names and links of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: set[str] = set()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.names.add(value)
            if value and name in ("href", "src"):
                self.links.add(value)


def broken_links(folder: Path) -> list[str]:
    """One line for each link of a page that leads to no page, or to no place on it. Other servers are not asked."""
    pages = {path: _Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = pages.get(to)
            if not to.is_file() or (parts.fragment and there is not None and unquote(parts.fragment) not in there.names):
                broken.append(f"{path.relative_to(folder)}: {link} leads nowhere")
    return broken


def write(folder: Path) -> list[str]:
    """Write the pages; one line for each thing that is wrong with them."""
    pdoc.render.configure(docformat="restructuredtext", footer_text="edge-tse")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        # Types that are imported for type checkers alone are shown as they are written.
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        modules = documented(PACKAGE)
        wrong = link_names(modules)
        for name, module in modules.items():
            page = folder / f"{name.replace('.', '/')}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(pdoc.render.html_module(module, modules))
        (folder / "index.html").write_text(pdoc.render.html_index(modules))
        (folder / "search.js").write_text(pdoc.render.search_index(modules))
    wrong += sorted({f"{warning.filename}: {warning.message}" for warning in told})
    return wrong + broken_links(folder)


def main() -> None:
    """Write the pages and end with 1 if anything is wrong with them."""
    folder = Path(sys.argv[1]).resolve()
    wrong = write(folder)
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    pages = len(list(folder.rglob("*.html")))
    print(f"docs: {pages} pages in {sys.argv[1]}, {len(wrong)} references or links lead nowhere")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

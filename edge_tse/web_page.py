"""Pages for a browser: one HTML file with everything inside it, in the one style that all pages share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

__all__ = ["cards", "document", "fragment", "rows_table"]


def document(title: str, body: str) -> str:
    """The whole file; ``body`` is HTML, ``title`` text for the window."""
    style = (resources.files("edge_tse") / "assets" / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}</title>\n'
        f"<style>\n{style}</style></head><body>\n{body}</body></html>\n"
    )


def fragment(folder: str, name: str) -> Template:
    """Part of a page, with places to fill in, from ``assets/FOLDER/NAME``."""
    return Template((resources.files("edge_tse") / "assets" / folder / name).read_text(encoding="utf-8"))


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Cards with the figures that matter, large: ``(value, label)`` each."""
    return "".join(f"<div><strong>{escape(value)}</strong><span>{escape(label)}</span></div>" for value, label in figures)


def rows_table(rows: Mapping[str, str]) -> str:
    """Rows of a table of two columns: name and value."""
    return "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())

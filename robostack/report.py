"""One self-contained HTML page out of headings, sentences, tables and pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563eb; }}
body {{ font: 15px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto;
       padding: 0 1.2rem; }}
h1 {{ font-size: 1.7rem; margin-bottom: .2rem; }}
h2 {{ font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }}
.lead {{ font-size: 1.1rem; }}
table {{ border-collapse: collapse; margin: .8rem 0; }}
th, td {{ text-align: left; padding: .3rem .9rem .3rem 0;
          border-bottom: 1px solid var(--line); vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
pre {{ background: var(--soft); padding: .8rem 1rem; overflow-x: auto;
       border-left: 3px solid var(--accent); }}
img {{ max-width: 100%; background: #fff; border-radius: 4px; }}
.strip {{ display: flex; gap: 4px; flex-wrap: wrap; }}
.strip figure {{ margin: 0; }} .strip img {{ width: 7.1rem; display: block; }}
figcaption {{ font-size: .75rem; opacity: .7; }}
</style></head><body>
{body}
</body></html>
"""


class Report:
    """Collects parts in order; `write` makes the page."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def lead(self, text: str) -> None:
        """Add the sentence that says it all."""
        self._parts.append(f'<p class="lead">{html.escape(text)}</p>')

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """Add commands to copy."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; cells that are numbers stand on the right."""
        cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        self._parts.append(f"<table><tr>{cells}</tr>{body}</table>")

    def picture(self, png: bytes, caption: str) -> None:
        """Add a picture."""
        source = _data(png, "image/png")
        text = html.escape(caption)
        self._parts.append(f'<img alt="{text}" src="{source}">')

    def strip(self, jpegs: Sequence[tuple[str, bytes]]) -> None:
        """Add a row of small pictures, each with its caption."""
        figures = "".join(_figure(caption, jpeg) for caption, jpeg in jpegs)
        self._parts.append(f'<div class="strip">{figures}</div>')

    def write(self, path: Path) -> None:
        """Write the page to `path`, whole or not at all."""
        page = _PAGE.format(title=html.escape(self._title), body="\n".join(self._parts))
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)


def _cell(value: object) -> str:
    kind = ' class="number"' if isinstance(value, int | float) else ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"<td{kind}>{html.escape(text)}</td>"


def _figure(caption: str, jpeg: bytes) -> str:
    text, source = html.escape(caption), _data(jpeg, "image/jpeg")
    image = f'<img alt="{text}" src="{source}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _data(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"

"""Markdown as pages show it: raw HTML escaped, formulas as MathML, ids unique."""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from commoncanvas.core.errors import CommonCanvasError


class PageRenderer(IPythonRenderer):
    """Markdown to HTML with unique heading ids, MathML and no raw HTML."""

    def __init__(self, taken: set[str]) -> None:
        super().__init__(
            escape=True, allow_harmful_protocols=False, exclude_anchor_links=True
        )
        self.taken = taken
        self.headings: list[dict[str, str]] = []

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        """Give a heading an id of its own; `##` headings are the contents."""
        plain = html.unescape(re.sub(r"<[^>]+>", "", text))
        identity = free(re.sub(r"\W+", "-", plain.lower()).strip("-"), self.taken)
        if level == 2:
            self.headings.append({"id": identity, "text": plain})
        return f'<h{level} id="{identity}">{text}</h{level}>\n'

    def inline_math(self, body: str) -> str:
        """Turn `$…$` into MathML."""
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """Turn `$$…$$` into MathML on a line of its own."""
        return f'<div class="formula">{_mathml(body, "block")}</div>\n'

    def latex_environment(self, name: str, body: str) -> str:
        """Turn a LaTeX environment into MathML on a line of its own."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Show a picture only where it lies in the page and is described."""
        if not text or not url.startswith(("data:", "attachment:")):
            raise CommonCanvasError(
                f"a text cell shows the picture {url[:60]!r} with alt text {text!r}; a"
                " page fetches nothing. Show it by commoncanvas.analysis.figures."
            )
        return super().image(text, url, title)


def prose(source: str, renderer: PageRenderer) -> str:
    """Return Markdown as HTML, tables in a box that scrolls, the two voices marked."""
    text = MarkdownWithMath(renderer=renderer).render(source)
    for voice in ("Paper", "Here"):
        text = re.sub(
            rf"<p>(?=<strong>{voice} ·)", f'<p class="voice {voice.lower()}">', text
        )
    text = text.replace("<table>", '<div class="cc-table"><table>')
    return text.replace("</table>", "</table></div>")


def free(wanted: str, taken: set[str]) -> str:
    """Return an id that is not taken, and take it."""
    wanted = wanted or "section"
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}-{count}"
    taken.add(name)
    return name


def _mathml(body: str, display: str) -> str:
    try:
        formula = convert(body.strip(), display=display)
    except Exception:  # latex2mathml raises many kinds, none with a common base
        formula = "\\"
    if "\\" in formula:  # a command that it does not know stays as it was
        raise CommonCanvasError(
            f"the formula {body.strip()!r} cannot be set; LaTeX that latex2mathml"
            " reads is expected. Write it more simply."
        )
    return formula.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def first_sentence(markdown: str) -> str:
    """Return the first sentence of Markdown as plain text."""
    plain = " ".join(re.sub(r"[*`_#]|\[([^]]*)\]\([^)]*\)", r"\1", markdown).split())
    return re.split(r"(?<=[.!?])\s", plain, maxsplit=1)[0]

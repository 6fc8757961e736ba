"""What a page would fetch from elsewhere: a page of ours is complete in itself."""

import re
from html.parser import HTMLParser

# Attributes that a browser fetches by itself, of all elements but a link, and CSS.
FETCHED = {"src", "srcset", "data", "poster", "background", "href", "xlink:href"}
LINKS = {"a", "area"}
REMOTE = re.compile(r"(\w+:)?//", re.IGNORECASE)
REMOTE_CSS = re.compile(
    r"""(url\(|@import)\s*["']?\s*(\w+:)?//[^)"';]*""", re.IGNORECASE
)


class Fetches(HTMLParser):
    """Collects, in `found`, the addresses elsewhere that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes of an element."""
        self.is_style = tag == "style"
        for name, value in attrs:
            if name == "style":
                self.handle_css(value or "")
            elif name in FETCHED and tag not in LINKS:
                parts = (value or "").split(",") if name == "srcset" else [value or ""]
                self.found += [part for part in parts if REMOTE.match(part.strip())]

    def handle_endtag(self, tag: str) -> None:
        """End a style sheet."""
        self.is_style = False

    def handle_data(self, data: str) -> None:
        """Look at what a style sheet holds; other text fetches nothing."""
        if self.is_style:
            self.handle_css(data)

    def handle_css(self, css: str) -> None:
        """Look for addresses in CSS."""
        self.found += [one[0] for one in REMOTE_CSS.finditer(css)]


def fetches(text: str) -> list[str]:
    """Return the addresses elsewhere that a browser would fetch to show a page."""
    parser = Fetches()
    parser.feed(text)
    parser.close()
    return parser.found

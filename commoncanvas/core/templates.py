"""Templates of pages, which escape whatever strangers wrote."""

import base64
import hashlib
from collections.abc import Callable

import jinja2

from commoncanvas.core import paths


def page_template(name: str, **filters: Callable[..., str]) -> jinja2.Template:
    """Return a template of `reports/template/`, with more filters, by their names."""
    loader = jinja2.FileSystemLoader(paths.TEMPLATE)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    environment.filters |= filters
    return environment.get_template(name)


def assets(more: str = "") -> dict[str, str]:
    """Return style and script of every page, with the script's hash.

    Args:
        more: a page's own style and script, `<more>.css` and `<more>.js`; "" for none.
    """
    own = [more] if more else []

    def joined(names: list[str]) -> str:
        files = [paths.TEMPLATE / name for name in names]
        return "\n".join(file.read_text(encoding="utf-8") for file in files)

    style = joined(["style.css", *(f"{name}.css" for name in own)])
    script = joined(["page.js", *(f"{name}.js" for name in own)])
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    # The page's own script is the only one that its security policy lets run.
    allowed = base64.b64encode(digest).decode("ascii")
    return {"style": style, "script": script, "script_hash": allowed}

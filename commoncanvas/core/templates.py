"""Templates of pages, which escape whatever strangers wrote."""

import jinja2

from commoncanvas.core import paths


def page_template(name: str) -> jinja2.Template:
    """Return a template of `reports/template/`."""
    loader = jinja2.FileSystemLoader(paths.TEMPLATE)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(name)

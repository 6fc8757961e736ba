"""Templates of pages, which escape whatever strangers wrote."""

from collections.abc import Callable

import jinja2

from commoncanvas.core import paths


def page_template(name: str, **filters: Callable[..., str]) -> jinja2.Template:
    """Return a template of `reports/template/`, with more filters, by their names."""
    loader = jinja2.FileSystemLoader(paths.TEMPLATE)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    environment.filters |= filters
    return environment.get_template(name)

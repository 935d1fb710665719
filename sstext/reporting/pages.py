"""HTML pages from templates: each is one file, with its style and script inside."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sstext.plain import plain_text
from sstext.reporting.svg import css_variables


def render_page(template: str, script: str | None = None, **values: Any) -> str:
    """A page. Texts and names in it are escaped.

    Args:
        template: name of the template; it includes `head.html`.
        script: name of the only script that the page may run. Default: it runs none.
        values: what the template reads.
    """
    loader = PackageLoader("sstext.reporting")
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )

    def source(name: str) -> str:
        return loader.get_source(templates, name)[0]

    code = source(script) if script is not None else ""
    return templates.get_template(template).render(
        **values,
        style=source("report.css"),
        variables=css_variables(),
        script=code,
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )


def _shown(value: Any) -> Any:
    """What a page shows of a value: texts and names have no control characters, and markup of ours is as it is."""
    return plain_text(value) if type(value) is str else value

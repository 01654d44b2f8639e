"""HTML pages from templates. Jinja escapes every value; `shown` also makes invisible characters visible."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.views import words


def render(template: str, **values: Any) -> str:
    """The page that a template of views/templates/ gives with these values."""
    return _environment().get_template(template).render(values)


def asset(name: str) -> str:
    """The text of a style sheet or script of views/assets/."""
    return files("pipeline.views").joinpath("assets", name).read_text()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = lambda name: Markup(asset(name))  # our own files
    environment.filters |= {
        name: getattr(words, name)
        for name in ("change", "count", "duration", "large", "moment", "money", "number", "short", "shown", "size")
    }
    return environment

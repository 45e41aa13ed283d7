"""HTML from templates, everything put into it escaped."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def template(package: str, name: str) -> Any:
    """One of a package's templates; what is put into it is escaped."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)

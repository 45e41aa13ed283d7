"""Measurements, figures and localizers that other installed packages bring."""

from importlib.metadata import entry_points

from localize.errors import LocalizeError, first_line

GROUP = "localize"
"""Of entry points: each names a module that registers something when it is imported."""


def load_plugins() -> None:
    """Import every module that installed packages name in the entry points of this group.

    In another package's `pyproject.toml`: `[project.entry-points.localize]`, `mine = "my_package.my_module"`; the module calls
    `localize.register`.

    Raises:
        LocalizeError: If one cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # whatever it raises is told with its name
            raise LocalizeError(
                f"plugin {point.name} ({point.value}): {type(error).__name__}: {first_line(error)}."
            ) from error

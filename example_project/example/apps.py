"""The app of the example."""

from django.apps import AppConfig


class ExampleConfig(AppConfig):
    """Connects the receivers."""

    name = "example"

    def ready(self) -> None:
        """Import the receivers, as Django's documentation of signals suggests."""
        from example import receivers  # noqa: F401

"""An example shop."""

from importlib.util import find_spec

# Import it, so that web processes use the broker (Celery, "First steps with Django").
if find_spec("celery"):
    from example.celery import app as celery_app

    __all__ = ["celery_app"]

"""The Celery app of the tests."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.engines.settings")

from tests.engines.settings import BROKER, NAME

app = Celery("tests", broker=BROKER)
app.conf.update(
    task_default_queue=NAME,
    broker_connection_retry_on_startup=True,
    # Redis delivers tasks of a killed worker again after this time (default: one hour).
    broker_transport_options={"visibility_timeout": 3600}
    if BROKER.startswith("redis")
    else {},
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
)

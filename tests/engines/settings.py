"""Settings of the tests with real workers; ``TEST_ENGINE`` chooses the task engine.

``tasks_db`` (the default, no service), ``tasks_rq`` (Redis), ``celery_redis`` or
``celery_rabbitmq``. Workers read the same settings, with the database of the tests.
"""

from __future__ import annotations

import os

from django_turbosmtp._lib.versions import HAS_MAILERS
from tests.conftest import BACKEND, CREDENTIALS
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

ENGINE = os.environ.get("TEST_ENGINE", "tasks_db")
#: Simultaneous test runs use different queues of the broker.
NAME = os.environ.get("TEST_QUEUE_NAME", "turbosmtp-tests")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/9")
RABBITMQ = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
if ENGINE == "tasks_rq":
    INSTALLED_APPS += ["django_rq"]
    RQ_QUEUES = {NAME: {"URL": REDIS}}
    TASKS = {"default": {"BACKEND": "django_tasks_rq.RQBackend", "QUEUES": [NAME]}}
else:
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
BROKER = RABBITMQ if ENGINE == "celery_rabbitmq" else REDIS

# Workers use the test database.
if database := os.environ.get("TEST_DATABASE_OF_WORKER"):
    for one in DATABASES.values():
        one["NAME"] = database
DATABASES.pop("second")
if HAS_MAILERS:
    MAILERS = {"default": {"BACKEND": BACKEND}}
else:
    EMAIL_BACKEND = BACKEND
SANDBOX = os.environ.get("TEST_SANDBOX", "http://127.0.0.1:1")
TURBOSMTP = {
    **CREDENTIALS[2],
    "SEND_URL": f"{SANDBOX}/api/v2",
    "API_URL": f"{SANDBOX}/api/v2",
    "QUEUE": "celery" if ENGINE.startswith("celery") else True,
    "TIMEOUT": (5, 10),
    "RATE": os.environ.get("TEST_RATE"),
}

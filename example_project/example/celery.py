"""The Celery app, for ``TURBOSMTP_QUEUE=celery``: ``celery -A example worker``."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.settings")

app = Celery("example")
app.config_from_object("django.conf:settings", namespace="CELERY")
# ``celery -A example beat`` runs it.
app.conf.beat_schedule = {
    "turbosmtp-run-due": {"task": "django_turbosmtp.run_due", "schedule": 60.0}
}

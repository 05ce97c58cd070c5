"""Settings of a site that sends through the queues of other packages."""

import os
import tempfile

SECRET_KEY = "for the tests only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "mailer",
    "post_office",
    "djcelery_email",
    "django_turbosmtp",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        # A file, because post_office and Celery send from threads.
        "TEST": {"NAME": f"{tempfile.gettempdir()}/p{os.getpid()}.sqlite3"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DEFAULT_FROM_EMAIL = "shop@example.com"
BACKEND = "django_turbosmtp.backends.EmailBackend"
EMAIL_BACKEND = BACKEND
MAILER_EMAIL_BACKEND = BACKEND
MAILER_USE_FILE_LOCK = False
MAILER_ERROR_HANDLER = "shop_mail.handle_error"
POST_OFFICE = {"BACKENDS": {"default": BACKEND}}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
    },
    {
        "BACKEND": "post_office.template.backends.post_office.PostOfficeTemplates",
        "APP_DIRS": True,
    },
]
CELERY_EMAIL_BACKEND = BACKEND
CELERY_EMAIL_TASK_CONFIG = {"base": "shop_tasks.EmailTask", "default_retry_delay": 0}
CELERY_EMAIL_MESSAGE_EXTRA_ATTRIBUTES = ["tags", "metadata", "reference_id"]

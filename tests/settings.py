"""Settings of the test project: SQLite and no service.

``TEST_DATABASE=postgresql`` or ``mariadb`` uses a server on this machine. Use different
values of ``TEST_DATABASE_NAME`` for several runs at the same time.
"""

import os
import tempfile
from pathlib import Path

from tests.worlds import WORLD

SECRET_KEY = "for the tests only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_turbosmtp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
# Counts of one test are not shown in the next.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
# Secure hashing is slow, and no test needs it.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_FILE = str(Path(tempfile.gettempdir(), f"turbosmtp-{os.getpid()}.sqlite3"))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "turbosmtp": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": _FILE.replace("sqlite3", "files")},
    },
}
DATABASES = {
    "default": {
        "sqlite": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:",
            # A file: Django never closes a thread's connection to shared memory.
            "TEST": {"NAME": _FILE},
            # The database need not survive a power failure.
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
        },
        "postgresql": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get("TEST_DATABASE_NAME", "turbosmtp"),
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "USER": os.environ.get("PGUSER", "postgres"),
        },
        "mariadb": {
            "ENGINE": "django.db.backends.mysql",
            "NAME": os.environ.get("TEST_DATABASE_NAME", "turbosmtp"),
            "HOST": "127.0.0.1",
            "USER": os.environ.get("MYSQL_USER", "root"),
            "TEST": {"CHARSET": "utf8mb4"},
        },
    }[os.environ.get("TEST_DATABASE", "sqlite")]
}
# The same database with a separate connection.
DATABASES["second"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
DEFAULT_FROM_EMAIL = "shop@example.com"
# For the webhook of tests/urls.py.
TURBOSMTP = {"WEBHOOK_SECRET": "tests:password"}

TURBOSMTP |= WORLD.options
WORLD.change(globals())

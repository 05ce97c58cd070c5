"""Settings of the example project, read from the environment and a ``.env`` file.

``.env.example`` lists all variables. Without any of them, the project needs no account,
network or service: it uses SQLite, and the sandbox instead of turboSMTP.
"""

from pathlib import Path
from urllib.parse import quote

import django
import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
# Variables of the environment have precedence. An empty ENV_FILE means no file.
env_file = env.str("ENV_FILE", default=str(BASE_DIR / ".env"))
if env_file and Path(env_file).is_file():
    env.read_env(env_file)

DEBUG = env.bool("DJANGO_DEBUG", default=True)
# With DEBUG off, you must set a secret key: there is no default.
SECRET_KEY = (
    env.str("DJANGO_SECRET_KEY", default="insecure: for the example only")
    if DEBUG
    else env.str("DJANGO_SECRET_KEY")
)
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_turbosmtp",
    # The queue's tasks are rows of the database.
    "django_tasks_db",
    "example",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "example.urls"
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
STATIC_URL = "static/"
# Quoted, because the name of a folder may contain special characters of URLs.
SQLITE_URL = f"sqlite:///{quote((BASE_DIR / 'db.sqlite3').as_posix())}"
DATABASES = {"default": env.db("DATABASE_URL", default=SQLITE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
LOGIN_URL = "admin:login"

# --- Mail. This is the part to copy. ---

# Django 6.1 and later use MAILERS instead of EMAIL_BACKEND.
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django_turbosmtp.backends.EmailBackend"}}
else:
    EMAIL_BACKEND = "django_turbosmtp.backends.EmailBackend"

DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str(
    "DEFAULT_FROM_EMAIL", default="Example Shop <shop@example.com>"
)

# Mail is sent through turboSMTP if TURBOSMTP_CONSUMER_KEY is set and SANDBOX_URL is
# not. Otherwise, it is sent to the sandbox.
SANDBOX_URL = env.str("SANDBOX_URL", default="").rstrip("/")
SENDS_FOR_REAL = bool(env.str("TURBOSMTP_CONSUMER_KEY", default="")) and not SANDBOX_URL

if SENDS_FOR_REAL:
    TURBOSMTP = {
        "CONSUMER_KEY": env.str("TURBOSMTP_CONSUMER_KEY"),
        "CONSUMER_SECRET": env.str("TURBOSMTP_CONSUMER_SECRET"),
        "REGION": env.str("TURBOSMTP_REGION", default="global"),
    }
    if webhook_secret := env.str("TURBOSMTP_WEBHOOK_SECRET", default=""):
        TURBOSMTP["WEBHOOK_SECRET"] = webhook_secret
else:
    SANDBOX_URL = SANDBOX_URL or "http://127.0.0.1:8025"
    TURBOSMTP = {
        # The sandbox's credentials, which are not secret.
        "CONSUMER_KEY": "sandbox-key",
        "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": f"{SANDBOX_URL}/api/v2",
        "API_URL": f"{SANDBOX_URL}/api/v2",
        # For python -m django_turbosmtp.sandbox --webhook (see the demo).
        "WEBHOOK_SECRET": "sandbox:webhook",
    }
if guard := env.list("TURBOSMTP_RECIPIENT_GUARD", default=[]):
    TURBOSMTP["RECIPIENT_GUARD"] = guard

# --- The queue, off by default: "tasks" (Django's tasks) or "celery" ---

if queue := env.str("TURBOSMTP_QUEUE", default=""):
    TURBOSMTP["QUEUE"] = queue

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
# For example/celery.py.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL)

TASKS_BACKEND = env.str("TASKS_BACKEND", default="django_tasks_db.DatabaseBackend")
TASKS = {"default": {"BACKEND": TASKS_BACKEND}}
if TASKS_BACKEND == "django_tasks_rq.RQBackend":
    INSTALLED_APPS += ["django_rq"]
    RQ_QUEUES = {"default": {"URL": REDIS_URL}}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        # DEBUG logs accepted messages, WARNING and above log all others.
        "django_turbosmtp": {
            "handlers": ["console"],
            "level": env.str("TURBOSMTP_LOG_LEVEL", default="DEBUG"),
        }
    },
}

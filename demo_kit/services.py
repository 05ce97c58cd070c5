"""Starts the sandbox, the example project, and a worker of its queue."""

from __future__ import annotations

from demo_kit.browser import answers
from demo_kit.processes import PROJECT, child, run, wait_until

MIGRATE_SECONDS = 120

#: Creates the admin user, or sets its password. The password is in the environment,
#: because all processes of the machine can read arguments.
ADMIN = """
import os
from django.contrib.auth.models import User
user, _ = User.objects.get_or_create(
    username=os.environ["DEMO_ADMIN_USER"],
    defaults={"is_staff": True, "is_superuser": True},
)
if not user.check_password(os.environ["DEMO_ADMIN_PASSWORD"]):
    user.set_password(os.environ["DEMO_ADMIN_PASSWORD"])
    user.save()
"""


def start_sandbox(stack, python, *, port, logs, env, webhook):
    """Start the sandbox, and return its URL. ``webhook``: the URL for events."""
    port_file = logs / "sandbox.port"
    port_file.unlink(missing_ok=True)
    sandbox = stack.enter_context(
        child(
            "The sandbox",
            [
                *(str(python), "-m", "django_turbosmtp.sandbox"),
                *("--port", str(port), "--port-file", str(port_file)),
                *("--webhook", webhook),
            ],
            log=logs / "sandbox.log",
            env=env,
        )
    )
    wait_until(port_file.exists, sandbox)
    url = f"http://127.0.0.1:{port_file.read_text()}"
    wait_until(lambda: answers(f"{url}/sandbox/messages"), sandbox)
    return sandbox, url


def prepare_database(python, *, logs, env):
    """Migrate the example project's database, and create the admin user."""
    manage = [str(python), str(PROJECT / "manage.py")]
    for name, command in (
        ("Creating the database", ["migrate", "--verbosity", "0"]),
        ("Creating the admin user", ["shell", "--command", ADMIN]),
    ):
        run(
            name,
            manage + command,
            log=logs / "migrate.log",
            env=env,
            seconds=MIGRATE_SECONDS,
        )


def start_site(stack, python, *, port, logs, env):
    """Start the example project, and return its URL."""
    manage = [str(python), str(PROJECT / "manage.py")]
    site = stack.enter_context(
        child(
            "The example project",
            [*manage, "runserver", "--noreload", f"127.0.0.1:{port}"],
            log=logs / "site.log",
            env=env,
        )
    )
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/"), site)
    return site, url


def start_worker(stack, python, *, logs, env):
    """Start a worker of Django's tasks, which sends the queued messages."""
    manage = [str(python), str(PROJECT / "manage.py")]
    worker = [*manage, "db_worker", "--no-reload", "--interval", "0.2"]
    return stack.enter_context(
        child("The worker", worker, log=logs / "worker.log", env=env)
    )

"""Task engines: Django's tasks, and Celery.

Tasks are found by their names, as the engines find them: the modules
`django_turbosmtp.tasks` and `django_turbosmtp.celery` import this package.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.text import shorten
from django_turbosmtp._lib.versions import has_tasks, load_tasks
from django_turbosmtp.conf.settings import list_values, read_mailer, read_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

logger = get_logger("django_turbosmtp.queue")

#: A task sends at most this many messages: enough to keep all connections busy, and few
#: enough to end within the time limits that sites set.
TASK_SIZE: Final = 500

#: Leave later messages to `run_due`: Celery's workers hold such tasks in memory, and
#: Redis delivers them again after an hour.
_LATEST_FOR_CELERY = timedelta(minutes=30)


def find_engine(mailer: str) -> str:
    """Return the engine of this mailer's ``QUEUE``, "" without a queue."""
    return read_queue(read_mailer(mailer).get("QUEUE"))


def find_task_backend() -> Any:
    """Return the site's task backend: the one named "turbosmtp", or the default."""
    backends = load_tasks().task_backends
    return backends["turbosmtp" if "turbosmtp" in backends.settings else "default"]


def _choose_queue(backend: Any) -> str:
    """Return the queue of a task backend: "turbosmtp" if it exists, or "default"."""
    for name in ("turbosmtp", "default"):
        if name in backend.queues:
            return name
    return min(backend.queues, default="default")


def decorate_task(function: Callable[..., None]) -> Any:
    """Return the task that runs a function on the site's task backend."""
    backend = find_task_backend()
    queue = _choose_queue(backend)
    return load_tasks().task(backend=backend.alias, queue_name=queue)(function)


def can_defer(engine: str) -> bool:
    """Return whether the engine can run a task later."""
    if engine == "celery":
        return True
    return engine == "tasks" and find_task_backend().supports_defer


def split(keys: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    """Yield the keys of each task."""
    for start in range(0, len(keys), TASK_SIZE):
        yield keys[start : start + TASK_SIZE]


def enqueue(
    engine: str,
    keys: Sequence[UUID],
    *,
    run_after: datetime | None = None,
    priority: int = 0,
) -> bool:
    """Enqueue one task that sends these messages; return whether that was possible.

    ``run_after``: aware; None for now. Errors are logged: the messages are stored, and
    `run_due` enqueues them.
    """
    return _enqueue(
        engine, "send_queued", [[str(key) for key in keys]], run_after, priority
    )


def enqueue_run_due(engine: str, run_after: datetime | None = None) -> bool:
    """Enqueue the task ``run_due``; return whether that was possible."""
    return _enqueue(engine, "run_due", [], run_after, 0)


def _enqueue(
    engine: str,
    name: str,
    arguments: list[Any],
    run_after: datetime | None,
    priority: int,
) -> bool:
    if run_after is not None and run_after <= datetime.now(UTC):
        run_after = None
    try:
        if run_after is not None and not can_defer(engine):
            return False
        if engine == "celery":
            return _enqueue_in_celery(name, arguments, run_after)
        _enqueue_in_tasks(name, arguments, run_after, priority)
    except Exception as error:  # noqa: BLE001 - engines raise their own exceptions
        raise_interrupt(error)
        logger.error(  # noqa: TRY400 - a traceback may show a broker's password
            "The task %s could not be enqueued; messages wait until run_due enqueues"
            " them. %s: %s",
            name,
            type(error).__name__,
            shorten(str(error)),
        )
        return False
    return True


def _enqueue_in_tasks(
    name: str, arguments: list[Any], run_after: datetime | None, priority: int
) -> None:
    backend = find_task_backend()
    task: Any = import_string(f"django_turbosmtp.tasks.{name}")
    options: dict[str, Any] = {
        "backend": backend.alias,
        "queue_name": _choose_queue(backend),
    }
    if run_after is not None:
        options["run_after"] = run_after
    if priority and backend.supports_priority:
        options["priority"] = priority
    task.using(**options).enqueue(*arguments)


def _enqueue_in_celery(
    name: str, arguments: list[Any], run_after: datetime | None
) -> bool:
    if run_after and run_after > datetime.now(UTC) + _LATEST_FOR_CELERY:
        return False
    task: Any = import_string(f"django_turbosmtp.celery.{name}")
    # By default, a broker is tried again for minutes; this may be in a request.
    policy = {"max_retries": 1, "interval_start": 0.2, "interval_max": 0.2}
    task.apply_async(args=arguments, eta=run_after, retry=True, retry_policy=policy)
    return True


def uses_celery() -> bool:
    """Return whether Celery is installed, and ``QUEUE`` names it for any mailer."""
    try:
        return "celery" in list_values("QUEUE") and find_spec("celery") is not None
    except ImproperlyConfigured:
        # TURBOSMTP is not a dict: a system check reports that.
        return False


def require_engine(engine: str) -> None:
    """Raise ImproperlyConfigured if the engine is not installed."""
    if engine == "tasks" and has_tasks():
        return
    if engine == "celery" and find_spec("celery"):
        return
    package = "django-tasks" if engine == "tasks" else "celery"
    raise ImproperlyConfigured(
        f"TURBOSMTP['QUEUE'] needs {package}, which is not installed. Run: pip install"
        f" 'django-turbosmtp[{engine}]' (turbosmtp.E032)"
    )

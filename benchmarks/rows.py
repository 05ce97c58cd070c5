"""The benchmarks, their rows and their bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row: the name of a measurement in ``measure.py`` and its parameters."""

    label: str
    work: str
    params: Mapping[str, Any] = field(default_factory=dict)
    #: The number of runs of this row in each repetition.
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound on the medians of one benchmark."""

    label: str
    value: Callable[[Callable[[str, str], float]], float]
    limit: float
    at_least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    title: str
    #: The name of the figure, its unit in the table, and the number of decimals.
    figure: tuple[str, str, int]
    variants: Mapping[str, Variant]
    bounds: Sequence[Bound] = ()
    #: Further figures of each row, shown after the first.
    also: Sequence[tuple[str, str, int]] = ()


_OURS = "django_turbosmtp.backends.EmailBackend"
_ANYMAIL = "anymail.backends.postmark.EmailBackend"
_SMTP = "django.core.mail.backends.smtp.EmailBackend"
_LATENCY = 0.04


def _batch(label: str, way: str, **params: Any) -> Variant:
    return Variant(label=label, work="batch", params={"way": way, **params})


def _single(label: str, way: str, **params: Any) -> Variant:
    return Variant(label=label, work="single", params={"way": way, **params})


def _queue(label: str, work: str, **params: Any) -> Variant:
    return Variant(label=label, work=work, params={"messages": 1000, **params})


def _late(variants: Mapping[str, Variant]) -> dict[str, Variant]:
    return {
        name: Variant(
            label=variant.label,
            work=variant.work,
            params={"latency": _LATENCY, **variant.params},
            times=variant.times,
        )
        for name, variant in variants.items()
    }


_FILES = {"work": "attachments"}

BENCHMARKS: dict[str, Benchmark] = {
    "batch": Benchmark(
        title="{messages} small messages at once, 40 ms an answer",
        figure=("rate", "messages/s", 1),
        also=[("connections", "connections", 0)],
        variants=_late(
            {
                "ours": _batch("django-turbosmtp, send_messages()", _OURS),
                "ours-1": _batch(
                    "django-turbosmtp, MAX_CONNECTIONS 1", _OURS, connections=1
                ),
                "session": Variant(label="requests.Session, a loop", work="session"),
                "session-8": Variant(
                    label="requests.Session, 8 threads",
                    work="session",
                    params={"threads": 8},
                ),
                "anymail": _batch("django-anymail, send_messages()", _ANYMAIL),
                "smtp": _batch("Django's SMTP backend, send_messages()", _SMTP),
                "post-office": Variant(
                    label="post_office, send_queued_mail over SMTP",
                    work="drain",
                    params={"way": "post_office"},
                ),
                "mailer": Variant(
                    label="django-mailer, send_mail over SMTP",
                    work="drain",
                    params={"way": "mailer"},
                ),
            }
        ),
        bounds=[
            Bound(
                label="times the rate of one connection",
                value=lambda m: m("ours", "rate") / m("ours-1", "rate"),
                limit=7,
                at_least=True,
            ),
            Bound(
                label="connections",
                value=lambda m: m("ours", "connections"),
                limit=8,
            ),
        ],
    ),
    "single": Benchmark(
        title="{messages} send_mail() one by one, 40 ms an answer",
        figure=("rate", "messages/s", 1),
        also=[("connections", "connections", 0)],
        variants=_late(
            {
                "ours": _single("django-turbosmtp", _OURS),
                "ours-4": _single("django-turbosmtp, 4 threads", _OURS, threads=4),
                "anymail": _single("django-anymail", _ANYMAIL),
                "smtp": _single("Django's SMTP backend", _SMTP),
            }
        ),
        bounds=[
            Bound(
                label="connections", value=lambda m: m("ours", "connections"), limit=1
            ),
            Bound(
                label="connections of 4 threads",
                value=lambda m: m("ours-4", "connections"),
                limit=4,
            ),
        ],
    ),
    "fork": Benchmark(
        title="send_mail() before, in, and after os.fork()",
        figure=("of_child", "connections of the child", 0),
        also=[
            ("of_parent_after", "more of the parent", 0),
            ("connections", "in all", 0),
        ],
        variants={"ours": Variant(label="django-turbosmtp", work="fork")},
        bounds=[
            Bound(
                label="connections in all",
                value=lambda m: m("ours", "connections"),
                limit=2,
            ),
            Bound(
                label="connections of the child's own",
                value=lambda m: m("ours", "of_child"),
                limit=1,
                at_least=True,
            ),
        ],
    ),
    "cpu": Benchmark(
        title="CPU of {messages} small messages, answers without delay",
        figure=("cpu_ms", "ms/message", 3),
        also=[("rate", "messages/s", 0)],
        variants={
            "ours": _batch("django-turbosmtp, send_messages()", _OURS),
            "ours-1": _batch(
                "django-turbosmtp, MAX_CONNECTIONS 1", _OURS, connections=1
            ),
            "anymail": _batch("django-anymail, send_messages()", _ANYMAIL),
            "ours-single": _single("django-turbosmtp, send_mail()", _OURS),
            "anymail-single": _single("django-anymail, send_mail()", _ANYMAIL),
            "smtp": _batch("Django's SMTP backend, send_messages()", _SMTP),
            "session": Variant(label="requests.Session, a loop", work="session"),
            "session-8": Variant(
                label="requests.Session, 8 threads",
                work="session",
                params={"threads": 8},
            ),
            "prepared": Variant(
                label="requests, one prepared request", work="prepared"
            ),
        },
        bounds=[
            Bound(
                label="of django-anymail's, send_messages()",
                value=lambda m: m("ours", "cpu_ms") / m("anymail", "cpu_ms"),
                limit=1,
            ),
            Bound(
                label="of django-anymail's, send_mail()",
                value=lambda m: (
                    m("ours-single", "cpu_ms") / m("anymail-single", "cpu_ms")
                ),
                limit=1,
            ),
        ],
    ),
    "attachments": Benchmark(
        title="One message with 3 x 5 MB attached: growth of memory",
        figure=("growth", "of the payload", 3),
        also=[("cpu_ms", "ms CPU", 0), ("requests", "requests", 0)],
        variants={
            "ours": Variant(label="django-turbosmtp", params={"way": _OURS}, **_FILES),
            "ours-trace": Variant(
                label="django-turbosmtp, by tracemalloc",
                params={"way": _OURS, "trace": True},
                **_FILES,
            ),
            "ours-429": Variant(
                label="django-turbosmtp, after a 429 and a 503",
                params={"way": _OURS, "refuse": "429,503"},
                **_FILES,
            ),
            "dumps": Variant(
                label="json.dumps and requests",
                params={"way": "dumps"},
                **_FILES,
            ),
            "dumps-trace": Variant(
                label="json.dumps and requests, by tracemalloc",
                params={"way": "dumps", "trace": True},
                **_FILES,
            ),
            "anymail": Variant(
                label="django-anymail", params={"way": _ANYMAIL}, **_FILES
            ),
        },
        bounds=[
            Bound(
                label="of the payload, at the peak",
                value=lambda m: m("ours", "growth"),
                limit=0.3,
            ),
            Bound(
                label="of the payload, by tracemalloc",
                value=lambda m: m("ours-trace", "growth"),
                limit=0.3,
            ),
            Bound(
                label="of the payload, after a 429 and a 503",
                value=lambda m: m("ours-429", "growth"),
                limit=0.3,
            ),
            Bound(
                label="arrived complete after them",
                value=lambda m: m("ours-429", "complete"),
                limit=1,
                at_least=True,
            ),
            Bound(
                label="of the CPU of json.dumps",
                value=lambda m: m("ours", "cpu_ms") / m("dumps", "cpu_ms"),
                limit=0.4,
            ),
        ],
    ),
    "import": Benchmark(
        title="Import in a fresh process",
        figure=("ms", "ms", 1),
        also=[("added_ms", "ms of them its own", 1)],
        variants={
            "base": Variant(
                label="django, requests, django.core.mail", work="imports", times=5
            ),
            "ours": Variant(
                label="and django_turbosmtp.backends",
                work="imports",
                params={"way": _OURS},
                times=5,
            ),
            "anymail": Variant(
                label="or anymail.backends.postmark",
                work="imports",
                params={"way": _ANYMAIL},
                times=5,
            ),
        },
        bounds=[
            Bound(
                label="ms added",
                # Measured within one process, because the difference of two medians
                # would contain the noise of both, which is larger than the result.
                value=lambda m: m("ours", "added_ms"),
                limit=50,
            ),
        ],
    ),
    "threads": Benchmark(
        title="Threads that one send_messages() starts",
        figure=("threads", "threads", 0),
        variants=_late(
            {
                "one": Variant(
                    label="1 message", work="threads", params={"messages": 1}
                ),
                # Shows that threads are counted.
                "many": Variant(
                    label="20 messages", work="threads", params={"messages": 20}
                ),
            }
        ),
        bounds=[
            Bound(
                label="threads for one message",
                # One in addition to the main thread, in which signal handlers run.
                value=lambda m: m("one", "threads"),
                limit=1,
            ),
            Bound(
                label="threads for many",
                value=lambda m: m("many", "threads"),
                limit=1,
                at_least=True,
            ),
        ],
    ),
    "log": Benchmark(
        title="{messages} small messages with the log on, answers without delay",
        figure=("cpu_ms", "ms CPU/message", 3),
        also=[("statements", "statements/message", 3), ("rate", "messages/s", 0)],
        variants={
            "unlogged": _batch("django-turbosmtp, no log, send_messages()", _OURS),
            "ours": Variant(label="django-turbosmtp, send_messages()", work="logged"),
            "anymail": _batch("django-anymail, no log, send_messages()", _ANYMAIL),
            "unlogged-single": _single("django-turbosmtp, no log, send_mail()", _OURS),
            "ours-single": Variant(
                label="django-turbosmtp, send_mail()",
                work="logged",
                params={"single": True},
            ),
            "anymail-single": _single("django-anymail, no log, send_mail()", _ANYMAIL),
            "post-office": Variant(
                label="post_office, its queue and log, the command",
                work="drain",
                params={"way": "post_office"},
            ),
            "mailer": Variant(
                label="django-mailer, its queue and log, the command",
                work="drain",
                params={"way": "mailer"},
            ),
        },
        bounds=[
            Bound(
                label="statements a message, send_messages()",
                value=lambda m: m("ours", "statements"),
                # Seven parts of a window of 500, seven statements each.
                limit=0.1,
            ),
            Bound(
                label="statements of one send_mail()",
                value=lambda m: m("ours-single", "statements"),
                limit=6,
            ),
            Bound(
                label="ms of CPU added, send_messages()",
                value=lambda m: m("ours", "cpu_ms") - m("unlogged", "cpu_ms"),
                limit=1,
            ),
            Bound(
                label="of django-anymail's CPU without a log, send_messages()",
                value=lambda m: m("ours", "cpu_ms") / m("anymail", "cpu_ms"),
                limit=0.9,
            ),
        ],
    ),
    "log-rate": Benchmark(
        title="{messages} small messages at once, 40 ms an answer, log on",
        figure=("rate", "messages/s", 1),
        also=[("connections", "connections", 0)],
        variants=_late(
            {
                "unlogged": _batch("django-turbosmtp, no log", _OURS),
                "ours": Variant(label="django-turbosmtp, log on", work="logged"),
            }
        ),
        bounds=[
            Bound(
                label="of the rate without a log",
                value=lambda m: m("ours", "rate") / m("unlogged", "rate"),
                limit=0.95,
                at_least=True,
            ),
        ],
    ),
    "log-memory": Benchmark(
        title="Memory with the log on: growth",
        figure=("growth_mb", "MiB", 1),
        also=[("seconds", "s", 0)],
        variants={
            "20k": Variant(
                label="20,000 messages of 30 KB from a generator",
                work="memory",
                params={"messages": 20_000},
            ),
            "100k": Variant(
                label="100,000 messages of 30 KB from a generator",
                work="memory",
                params={"messages": 100_000},
            ),
            "blind": Variant(
                label="300 blind copies alone with a file of 1 MiB", work="blind"
            ),
        },
        bounds=[
            Bound(
                label="MiB for 20,000", value=lambda m: m("20k", "growth_mb"), limit=80
            ),
            Bound(
                label="MiB for 100,000",
                value=lambda m: m("100k", "growth_mb"),
                limit=80,
            ),
        ],
    ),
    "prune": Benchmark(
        title="Pruning 100,000 messages",
        figure=("seconds", "s", 1),
        also=[("longest", "s, longest transaction", 2), ("growth_mb", "MiB", 1)],
        variants={
            "ours": Variant(
                label="turbosmtp_prune", work="pruning", params={"messages": 100_000}
            ),
        },
        bounds=[
            Bound(
                label="s, the longest transaction",
                value=lambda m: m("ours", "longest"),
                limit=1,
            ),
            Bound(label="MiB", value=lambda m: m("ours", "growth_mb"), limit=50),
        ],
    ),
    "queue-enqueue": Benchmark(
        title="1,000 messages in one call, stored in the queue",
        figure=("rate", "messages/s", 0),
        also=[("cpu_ms", "ms CPU/message", 3), ("statements", "statements", 0)],
        variants={
            "ours": _queue("django-turbosmtp", "enqueue", way="ours"),
            "post-office": _queue("django-post_office", "enqueue", way="post_office"),
            "mailer": _queue("django-mailer", "enqueue", way="mailer"),
        },
        bounds=[
            Bound(
                label="statements", value=lambda m: m("ours", "statements"), limit=15
            ),
            Bound(
                label="times the rate of django-post_office",
                value=lambda m: m("ours", "rate") / m("post-office", "rate"),
                limit=10,
                at_least=True,
            ),
        ],
    ),
    "queue-drain": Benchmark(
        title="1,000 messages sent from the queue, 40 ms an answer",
        figure=("rate", "messages/s", 1),
        also=[("connections", "connections", 0), ("cpu_ms", "ms CPU/message", 3)],
        variants=_late(
            {
                "threads": Variant(
                    label="requests.Session, 8 threads, no queue",
                    work="session",
                    params={"threads": 8, "messages": 1000},
                ),
                "ours": _queue("django-turbosmtp, one worker", "drain", way="ours"),
                "one": _queue(
                    "django-turbosmtp, MAX_CONNECTIONS 1",
                    "drain",
                    way="ours",
                    connections=1,
                ),
                "two": _queue(
                    "django-turbosmtp, two workers", "drain", way="ours", workers=2
                ),
                "rate": _queue(
                    "django-turbosmtp, two workers, RATE 100/s",
                    "drain",
                    way="ours",
                    workers=2,
                    rate="100/s",
                ),
                "post-office": _queue(
                    "django-post_office, its command", "drain", way="post_office"
                ),
                "mailer": _queue("django-mailer, its command", "drain", way="mailer"),
            }
        ),
        bounds=[
            Bound(
                label="of the rate of 8 threads",
                value=lambda m: m("ours", "rate") / m("threads", "rate"),
                limit=0.9,
                at_least=True,
            ),
            Bound(
                label="times a worker that sends one by one",
                value=lambda m: m("ours", "rate") / m("one", "rate"),
                limit=6,
                at_least=True,
            ),
            Bound(
                label="times django-mailer, one by one",
                value=lambda m: m("ours", "rate") / m("mailer", "rate"),
                limit=6,
                at_least=True,
            ),
            Bound(
                label="of the rate of 8 threads, two workers together",
                value=lambda m: m("two", "rate") / m("threads", "rate"),
                limit=0.9,
                at_least=True,
            ),
            Bound(
                label="messages/s of two workers with RATE 100/s",
                # The rate counts messages until a second after they were sent.
                value=lambda m: m("rate", "rate"),
                limit=75,
                at_least=True,
            ),
        ],
    ),
    "queue-waiting": Benchmark(
        title="While 100,000 messages wait",
        figure=("claim_ms", "ms for a claim of 80", 1),
        also=[
            ("longest_claim_ms", "ms the longest", 1),
            ("sweep_ms", "ms for each 500 of run_due", 1),
        ],
        variants={
            "ours": _queue("django-turbosmtp", "waiting", way="ours", messages=100_000),
        },
        bounds=[
            Bound(
                label="ms for a claim", value=lambda m: m("ours", "claim_ms"), limit=50
            ),
            Bound(
                label="ms for a window of run_due",
                value=lambda m: m("ours", "sweep_ms"),
                limit=50,
            ),
        ],
    ),
    "queue-memory": Benchmark(
        title="A worker sends 100,000 messages, answers at once: growth",
        figure=("growth_mb", "MiB", 1),
        also=[("rate", "messages/s", 0)],
        variants={
            "ours": _queue(
                "django-turbosmtp", "worker_memory", way="ours", messages=100_000
            ),
        },
        bounds=[
            Bound(label="MiB", value=lambda m: m("ours", "growth_mb"), limit=30),
        ],
    ),
}

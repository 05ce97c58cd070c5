"""Posts events to the project like turboSMTP, in different JSON forms."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.sandbox.state.store import Received

#: The events that can be posted, and the labels of their buttons.
WORDS = {
    "PROCESSED": "sent",
    "DELIVERED": "delivered",
    "DEFERRED": "deferred",
    "BOUNCED": "bounced",
    "DROPPED": "rejected",
    "OPENED": "opened",
    "CLICKED": "clicked",
    "UNSUBSCRIBED": "unsubscribed",
    "REPORT": "complained",
}

#: The events of a message by the part before the @. Others are delivered.
RULES: dict[str, tuple[str, ...]] = {
    "bounce": ("PROCESSED", "BOUNCED"),
    "full": ("PROCESSED", "DEFERRED", "BOUNCED"),
    "defer": ("PROCESSED", "DEFERRED", "DELIVERED"),
    "drop": ("DROPPED",),
    "open": ("PROCESSED", "DELIVERED", "OPENED"),
    "click": ("PROCESSED", "DELIVERED", "OPENED", "CLICKED"),
    "spam": ("PROCESSED", "DELIVERED", "REPORT"),
    "unsubscribe": ("PROCESSED", "DELIVERED", "OPENED", "UNSUBSCRIBED"),
    # In reverse order, and each twice.
    "disorder": ("PROCESSED", "DELIVERED", "OPENED"),
    "silent": (),
}
_OTHERS = ("PROCESSED", "DELIVERED")

_REASONS = {
    "BOUNCED": "550 5.1.1 The mailbox does not exist",
    "DROPPED": "Dropped due to complaining recipient",
    "DEFERRED": "450 4.2.0 Greylisted, try again later",
}
_FULL = "552 5.2.2 The mailbox is full"
_BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/128.0"
_TIMEOUT = 10.0
_KEPT = 500


@dataclass(frozen=True, kw_only=True)
class PostedEvent:
    """One event that was posted. ``answer``: the HTTP status, or the error."""

    mid: str
    status: str
    address: str
    answer: str


class Webhook:
    """Posts events to one URL, one after the other, in a separate thread."""

    def __init__(self, url: str | None) -> None:
        """``url``: ``http://user:password@127.0.0.1:8000/path``, or None."""
        self.url = url
        self.posted: deque[PostedEvent] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        # Events are posted after the send is answered, as turboSMTP does.
        self._queue: SimpleQueue[tuple[str, str, str, Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._done = threading.Condition()
        self._waiting = 0

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        parts = urlsplit(self.url or "")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def follow(self, received: Received) -> None:
        """Post the events of a message, depending on the recipients' addresses."""
        for _, address in received.recipients:
            # With plus addressing, a test can have several recipients with the same
            # rule.
            name = address.partition("@")[0].partition("+")[0].lower()
            self.post(
                received,
                RULES.get(name, _OTHERS),
                address,
                in_disorder=name == "disorder",
            )

    def post(
        self,
        received: Received,
        words: Iterable[str],
        address: str,
        *,
        in_disorder: bool = False,
    ) -> None:
        """Post events for one recipient, in order or not."""
        if self.url is None:
            return
        with self._lock:
            # Started late, because most sandboxes never post an event.
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="turbosmtp-sandbox-webhook", daemon=True
                )
                self._thread.start()
        events = [(word, self.build_event(received, word, address)) for word in words]
        if in_disorder:
            events = [event for event in reversed(events) for _ in range(2)]
        for word, event in events:
            with self._done:
                self._waiting += 1
            self._queue.put((received.mid, word, address, event))

    def wait(self, seconds: float = _TIMEOUT) -> bool:
        """Wait until all events are posted; return False after the time-out."""
        with self._done:
            return self._done.wait_for(lambda: not self._waiting, seconds)

    def stop(self) -> None:
        """Stop posting, and wait for the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(_TIMEOUT)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            mid, word, address, event = item
            answer = self._post(event)
            self.posted.append(
                PostedEvent(mid=mid, status=word, address=address, answer=answer)
            )
            with self._done:
                self._waiting -= 1
                self._done.notify_all()

    def build_event(self, received: Received, word: str, address: str) -> Any:
        """Return an event like turboSMTP's, which are not always in the same form."""
        number = next(self._numbers)
        # The documentation and real events differ; both forms must be accepted.
        odd = number % 2
        event: dict[str, Any] = {
            "id": str(5_943_799_000 + number),
            "mid": int(received.mid) if odd else received.mid,
            "status": "SPAM" if word == "REPORT" and odd else word,
            "email": address,
            "subject": received.details.subject if odd else None,
            ("Timestamp" if odd else "timestamp"): str(int(time.time()))
            if odd
            else int(time.time()),
        }
        if received.reference_id is not None:
            event["reference_id"] = received.reference_id
        if word in _REASONS:
            text = _FULL if address.startswith("full") else _REASONS[word]
            event["reason"] = (
                text if word == "DEFERRED" else {"0": text, "response": text}
            )
        if word == "DEFERRED":
            event["attempt"] = 1
        if word in {"OPENED", "CLICKED"}:
            event |= {"useragent": _BROWSER, "ip": "192.0.2.7"}
        if word == "CLICKED":
            event["url"] = "https://www.example.com/"
        return [event] if odd else event

    def _post(self, event: Any) -> str:
        parts = urlsplit(self.url or "")
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers = {
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
        }
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or 80, timeout=_TIMEOUT
        )
        try:
            connection.request("POST", parts.path or "/", json.dumps(event), headers)
            return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

"""Requests and answers of the sandbox, and the JSON forms of turboSMTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from email.message import Message

Manner = Literal["answer", "close", "drop", "reset", "slow_headers", "slow_body"]
HeaderPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request with its body."""

    method: str
    target: str
    headers: Message
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def segments(self) -> list[str]:
        """The path's parts, percent-decoded one by one."""
        return [unquote(part) for part in self.path.split("/")[1:]]

    @property
    def query(self) -> dict[str, str]:
        """The query string; if a name is repeated, the last value is used."""
        text = self.target.partition("?")[2]
        return dict(parse_qsl(text, keep_blank_values=True))

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        value = self.headers.get("Content-Type") or ""
        return value.partition(";")[0].strip().lower()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP answer, and the way in which it is sent, or not."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: HeaderPairs = ()
    manner: Manner = "answer"
    # Seconds before the answer is sent, or the duration of a slow answer.
    wait: float = 0.0
    # For a send: whether the message was accepted, and the fault.
    accepted: bool = False
    fault: str = ""

    @property
    def recorded_status(self) -> int | None:
        """The status for the request log, None if there is no answer."""
        return None if self.manner in {"drop", "reset"} else self.status

    def render(self, *, with_body: bool = True, closing: bool = False) -> bytes:
        """Return the answer as the bytes of HTTP/1.1."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        lines.append(f"Content-Length: {len(self.body)}")
        lines.append(f"Connection: {'close' if closing else 'keep-alive'}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return head + self.body if with_body else head


class Refusal(Exception):  # noqa: N818  (not an error of ours: an answer)
    """Refuses a request."""

    def __init__(self, response: Reply) -> None:
        super().__init__(response.status)
        self.response = response


def answer_json(value: Any, *, status: int = 200, headers: HeaderPairs = ()) -> Reply:
    """Return a JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status=status, body=body, headers=headers)


def refuse(*errors: str, status: int = 400, details: str = "") -> Refusal:
    """Return turboSMTP's refusal with its list of errors."""
    payload: dict[str, Any] = {"message": "error", "errors": list(errors)}
    if details:
        payload["details"] = details
    return Refusal(answer_json(payload, status=status))


def refuse_credentials(message: str, *, details: str, code: int = 3) -> Refusal:
    """Return turboSMTP's 401."""
    payload = {"errorCode": code, "message": message, "details": details}
    return Refusal(answer_json(payload, status=401))


def answer_message(message: str, *, status: int) -> Reply:
    """Return the main host's short answer: a JSON object with one message."""
    return answer_json({"message": message}, status=status)

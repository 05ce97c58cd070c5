"""Reads the contents of a message once, and refuses unreadable ones. Pure."""

from __future__ import annotations

import copy
from email.message import Message
from functools import lru_cache
from numbers import Number
from typing import Any

from django.core.mail import EmailMessage
from django.utils.functional import Promise

from django_turbosmtp._lib.text import shorten
from django_turbosmtp.exceptions import MessageError

#: The file of Django's message classes, even if their methods are replaced later.
_DJANGOS_FILE = EmailMessage.attach_file.__code__.co_filename

_WORDS = ("from_email", "subject", "body")
_LISTS = ("to", "cc", "bcc", "reply_to")
_READ = frozenset({*_WORDS, *_LISTS})

_HINT = "Read it first: content.read(), response.content, json.dumps(...)."


def freeze(message: Any) -> Any:
    """Return the message, or a copy with the current values of all lazy attributes.

    Lazy strings and properties of a subclass may have another value when they are read
    again. The envelope and the headers would then differ.
    """
    if not isinstance(message, EmailMessage):
        return message
    cls: Any = type(message)
    computed = _list_computed(cls)
    now: dict[str, Any] = {}
    for name in _WORDS:
        value = getattr(message, name, None)
        if name in computed or _is_lazy(value):
            now[name] = _settle(value)
    for name in _LISTS:
        value = getattr(message, name, None)
        if value is None or isinstance(value, str):
            continue
        # A subclass of list may also return other values at the next reading.
        if name in computed or type(value) is not list or any(map(_is_lazy, value)):
            now[name] = [_settle(item) for item in value]
    if not now:
        return message
    frozen = copy.copy(message)
    vars(frozen).update(now)
    # Attributes of a new subclass override the properties.
    hidden = {name: value for name, value in now.items() if name in computed}
    if hidden:
        # Setting the instance's attribute would call the setter of a property, or fail
        # without one.
        frozen.__class__ = type(cls.__name__, (cls,), hidden)
    return frozen


@lru_cache(maxsize=64)
def _list_computed(cls: type) -> frozenset[str]:
    """Return the attributes that the class defines, usually as properties."""
    return frozenset(name for name in _READ if hasattr(cls, name))


def _is_lazy(value: Any) -> bool:
    # isinstance() reports a lazy string as str, but its type is a proxy.
    cls = type(value)
    if cls is str:
        return False
    return isinstance(value, (str, Promise)) and not issubclass(cls, str)


def _settle(value: Any) -> Any:
    return str(value) if _is_lazy(value) else value


def are_djangos_own(*methods: Any) -> bool:
    """Return whether all these methods of a message are Django's. None is ignored.

    The file of the code decides: a wrapper may have the name of the wrapped function.
    """
    return all(
        getattr(getattr(method, "__code__", None), "co_filename", "") == _DJANGOS_FILE
        for method in methods
        if method is not None
    )


def read_words(value: Any, where: str) -> str:
    """Return the text of a header: of a str, a number, or an object with ``__str__``.

    Raise `MessageError` for an object without it.
    """
    if isinstance(value, (str, Promise, Number)):
        return str(value)
    describes = type(value).__str__ is object.__str__  # type: ignore[comparison-overlap]
    if describes or is_bytes_like(value):
        raise MessageError(f"{where} is of type {type(value).__name__}, not text.")
    return str(value)


def require_contents(message: Any) -> Any:
    """Return the message, or a copy whose attachments Django can read, too.

    Raise `MessageError` for a body or an attachment that is neither text nor bytes: the
    recipient would read ``<_io.BytesIO object at 0x7f...>``.
    """
    if not isinstance(message.body, (str, Promise, bytes, type(None))):
        raise MessageError(
            f"body is of type {type(message.body).__name__}, not text. {_HINT}"
        )
    for content, mimetype in getattr(message, "alternatives", None) or ():
        _require_content(content, mimetype, f"The alternative of type {mimetype}")
    attachments = list(message.attachments or ())
    odd = False
    for attachment in attachments:
        if isinstance(attachment, Message):
            continue
        name, content, mimetype = read_attachment(attachment)
        _require_content(content, mimetype, f"attachment {shorten(str(name))!r}")
        odd = odd or _is_odd(content, mimetype)
    return _with_bytes(message, attachments) if odd else message


def read_attachment(attachment: Any) -> tuple[Any, Any, Any]:
    """Return name, content and type of an attachment; missing values are None."""
    return (*attachment, None, None)[:3]


def is_bytes_like(value: Any) -> bool:
    """Return whether a value supports the buffer protocol, as bytes do."""
    try:
        # The only test for the buffer protocol before Python 3.12 (PEP 688).
        memoryview(value)
    except TypeError:
        return False
    return True


def _require_content(content: Any, mimetype: Any, where: str) -> None:
    if isinstance(content, (str, Promise)) or is_bytes_like(content):
        return
    if isinstance(content, (Message, EmailMessage)) and _is_message(mimetype):
        return
    raise MessageError(
        f"{where} is of type {type(content).__name__}, not text or bytes. {_HINT}"
    )


def _is_message(mimetype: Any) -> bool:
    return str(mimetype).lower().startswith("message/")


def _is_odd(content: Any, mimetype: Any) -> bool:
    """Return whether Django, Python or our code cannot use these bytes as they are."""
    if isinstance(content, (bytes, str, Promise)) or not is_bytes_like(content):
        return False
    if not isinstance(content, (bytearray, memoryview)):
        return True
    return str(mimetype).lower().startswith(("text/", "message/", "multipart/"))


def _with_bytes(message: Any, attachments: list[Any]) -> Any:
    clone = copy.copy(message)
    clone.attachments = []
    for attachment in attachments:
        if not isinstance(attachment, Message):
            name, content, mimetype = read_attachment(attachment)
            if _is_odd(content, mimetype):
                # Django decodes bytes whose type is text.
                content = memoryview(content).tobytes()
                EmailMessage.attach(clone, name, content, mimetype)
                continue
        clone.attachments.append(attachment)
    return clone

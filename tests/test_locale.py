"""The translations are complete, compiled, and have the same placeholders."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polib
import pytest
from django.conf import locale as django_locale
from django.utils import translation
from django.utils.translation import template

import django_turbosmtp

PACKAGE = Path(django_turbosmtp.__file__).parent
LOCALE = PACKAGE / "locale"
LANGUAGES = ["de", "es", "fr", "it"]

#: For each function: the positions of context, text and plural.
MARKS = {
    "_": (None, 0, None),
    "gettext": (None, 0, None),
    "gettext_lazy": (None, 0, None),
    "gettext_noop": (None, 0, None),
    "ngettext": (None, 0, 1),
    "ngettext_lazy": (None, 0, 1),
    "pgettext": (0, 1, None),
    "pgettext_lazy": (0, 1, None),
    "npgettext": (0, 1, 2),
    "npgettext_lazy": (0, 1, 2),
}

every_language = pytest.mark.parametrize("language", LANGUAGES)


def read_marks(code: str) -> Iterator[tuple[str | None, str, str | None]]:
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        function: Any = node.func
        name = getattr(function, "id", getattr(function, "attr", ""))
        if name in MARKS:
            yield tuple(  # type: ignore[misc]
                None if at is None else ast.literal_eval(node.args[at])
                for at in MARKS[name]
            )


def find_marked() -> set[tuple[str | None, str, str | None]]:
    """Return context, text and plural of all marked strings."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found |= set(read_marks(path.read_text("utf-8")))
    for path in PACKAGE.rglob("*.html"):
        # As makemessages does: the text between the calls is not Python.
        code = template.templatize(path.read_text("utf-8"))
        calls = re.findall(r"\bn?p?gettext\(.*?\) |\b_\(.*?\) ", code, re.DOTALL)
        for call in calls:
            found |= set(read_marks(re.sub(r",\s*count\)", ", 0)", call.strip())))
    return found


def read_catalogue(language: str) -> polib.POFile:
    return polib.pofile(LOCALE / language / "LC_MESSAGES" / "django.po")


def test_every_language_has_a_catalogue() -> None:
    assert len(find_marked()) > 230
    assert sorted(path.name for path in LOCALE.iterdir()) == LANGUAGES
    assert set(LANGUAGES) <= set(django_locale.LANG_INFO)


@every_language
def test_no_marked_string_is_missing(language: str) -> None:
    entries = read_catalogue(language)
    known = {
        (entry.msgctxt, entry.msgid, entry.msgid_plural or None): entry
        for entry in entries
    }
    assert find_marked() == set(known)
    assert entries.untranslated_entries() == []
    assert entries.fuzzy_entries() == []
    assert entries.obsolete_entries() == []


@every_language
def test_placeholders_match(language: str) -> None:
    place = re.compile(r"%\(\w+\)[.\d]*[a-z]|%[a-z]")
    for entry in read_catalogue(language):
        texts = entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]
        originals = {entry.msgid, entry.msgid_plural or entry.msgid}
        wanted = [sorted(place.findall(original)) for original in originals]
        for text in texts:
            assert sorted(place.findall(text)) in wanted, text
            # Both end with the same full stop, question mark or colon, or neither does.
            ends = [end for end in ".:?" if entry.msgid.endswith(end)]
            assert not ends or text.endswith(ends[0]), text


@every_language
def test_the_compiled_catalogue_matches_the_text(language: str) -> None:
    def read(entries: Any) -> dict[Any, Any]:
        return {
            (entry.msgctxt, entry.msgid): entry.msgstr_plural or entry.msgstr
            for entry in entries
        }

    compiled = polib.mofile(LOCALE / language / "LC_MESSAGES" / "django.mo")
    assert read(compiled) == read(read_catalogue(language))


@every_language
def test_django_s_translations_are_not_changed(language: str) -> None:
    """A catalogue applies to the whole site, including other pages of the admin."""
    django_s = Path(django_locale.__file__).parents[2]
    theirs = {}
    for folder in ("conf", "contrib/admin"):
        path = django_s / folder / "locale" / language / "LC_MESSAGES" / "django.po"
        theirs |= {(e.msgctxt, e.msgid): e.msgstr for e in polib.pofile(path)}
    # The name of an app, which no page shows.
    del theirs[None, "Messages"]
    ours = {(e.msgctxt, e.msgid): e.msgstr for e in read_catalogue(language)}
    common = theirs.keys() & ours.keys()
    assert len(common) > 5
    assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}


@every_language
def test_the_admin_is_translated(
    language: str, logged: Any, sandbox: Any, admin_client: Any
) -> None:
    from django_turbosmtp.backends import EmailBackend
    from tests.messages import new

    EmailBackend().send_messages([new()])
    entries = {entry.msgid: entry.msgstr for entry in read_catalogue(language)}
    logged.MIDDLEWARE = [
        *logged.MIDDLEWARE,
        "django.middleware.locale.LocaleMiddleware",
    ]
    url = "/admin/turbosmtp/message/"
    # The middleware's language stays active in this thread.
    with translation.override(language):
        text = admin_client.get(url, headers={"Accept-Language": language}).text
        assert entries["Dashboard"] in text
        assert entries["Needs attention"] in text
        assert (
            translation.gettext("It was not sent: turboSMTP refused the message.")
            != "It was not sent: turboSMTP refused the message."
        )

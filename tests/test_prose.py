"""The prose of the project is plain: docstrings, comments, messages and documents.

Each habit below makes sentences hard to read at first sight. All of them have fair
uses, so each is allowed in a few of a thousand sentences, about as often as it occurs
in Django, django-anymail and django-cors-headers. If there are more, the test lists the
sentences.

Linters for prose do not fit: Vale's package downloads its program when it is first run,
and proselint looks for other things, such as clichés.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import docutils.core
import docutils.nodes
import pytest

import django_turbosmtp

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDERS = (
    Path(django_turbosmtp.__file__).parent,
    *(ROOT / name for name in ("benchmarks", "demo_kit", "example_project", "tests")),
)

#: Patterns, and the number of hits that is allowed in a thousand sentences.
HABITS = {
    # A clause in place of a noun: "What was sent is logged."
    "question words first": (r"^(What|Who|Whom|Whoever|Whatever|Where)\b(?!.*\?$)", 2),
    "what": (r"\b[Ww]hat\b(?!.*\?$)", 8),
    # Instead of "if".
    "where": (
        r"(?:,|;| ) ?where (?:it|there|that|they|an?|the|none|nothing|nobody|no|all)\b",
        4,
    ),
    # Not technical verbs: report, log, raise, require, arrive.
    "tell": (r"\b(tells?|told|telling)\b", 2),
    "say": (r"\b(says?|said)\b", 3),
    "take": (r"\b(takes?|took|taken)\b", 9),
    "come": (r"\b(comes?|came)\b", 3),
    "stand": (r"\b(stands?|stood)\b", 1),
    # Instead of "only".
    "alone": (r"\balone\b", 1),
    # Instead of "because".
    "for": (r", for (?!example|instance|each|every|errors|security)\w", 5),
    "own": (r"\bof (?:its|their|your|our) own\b|\bof ours\b", 1),
    "nobody": (r"\b([Nn]obody|[Nn]othing|[Ss]omebody)\b", 7),
    "so": (r"\bso many\b|\b(?:of|as) such\b| so\.$|\bbegins so\b", 1),
    # A recipient is "they".
    "she": (r"\b(she|hers?|whom)\b", 0.5),
}

#: Longer sentences have to be read twice.
MOST_WORDS = 45

_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"“(])")
_NO_PROSE = re.compile(r"#\s*(?:noqa|type:|fmt:|!)")
_TRANSLATED = re.compile(
    r"{%\s*blocktrans(?:late)?[^%]*%}(.*?){%\s*end|{%\s*trans(?:late)?\s+[\"'](.*?)[\"']",
    re.DOTALL,
)
#: Calls whose texts are read by people.
_SPEAKING = {
    *("_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext_lazy"),
    *("debug", "info", "warning", "error", "exception", "write", "add_argument"),
    *("Error", "Warning", "CommandError", "ImproperlyConfigured"),
}


class Sentence(NamedTuple):
    """A sentence and its place."""

    path: str
    line: int
    text: str


def split(text: str) -> list[str]:
    """Return the sentences of a text that have at least four words."""
    flat = " ".join(text.split())
    found = _END_OF_SENTENCE.split(flat)
    return [sentence for sentence in found if len(_WORD.findall(sentence)) > 3]


def read_paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of reStructuredText, without literal blocks."""
    tree = docutils.core.publish_doctree(
        text, settings_overrides={"report_level": 5, "file_insertion_enabled": False}
    )
    for node in tree.findall(docutils.nodes.paragraph):
        if not isinstance(node.parent, docutils.nodes.system_message):
            yield node.rawsource


def read_docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of the paragraphs of each docstring, without tables."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (docstring := ast.get_docstring(node)):
            for paragraph in docstring.split("\n\n"):
                if not paragraph.startswith((" ", "==")):
                    yield node.body[0].lineno, paragraph


def read_messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of the strings that are shown, logged or raised."""
    for node in ast.walk(tree):
        calls = [node.exc] if isinstance(node, ast.Raise) else [node]
        for call in calls:
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if not isinstance(node, ast.Raise) and name not in _SPEAKING:
                continue
            for argument in ast.walk(call):
                if isinstance(argument, ast.Constant):
                    yield argument.lineno, str(argument.value)


def read_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each comment; lines below each other are one comment."""
    first = last = column = 0
    parts: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or _NO_PROSE.match(token.string):
            continue
        if token.start != (last + 1, column):
            yield first, " ".join(parts)
            first, column = token.start
            parts = []
        last = token.start[0]
        parts.append(token.string.lstrip("#: "))
    yield first, " ".join(parts)


def read_python(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of all prose of a module."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    yield from read_docstrings(tree)
    yield from read_comments(source)
    if ROOT / "tests" not in path.parents:
        yield from read_messages(tree)


@cache
def read_all() -> tuple[Sentence, ...]:
    """Return all sentences of the project."""
    found: dict[tuple[str, str], Sentence] = {}

    def add(path: Path, line: int, text: str) -> None:
        name = path.name if ROOT not in path.parents else str(path.relative_to(ROOT))
        for sentence in split(text):
            found.setdefault((name, sentence), Sentence(name, line, sentence))

    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            # The habits are listed here.
            if path != Path(__file__):
                for line, text in read_python(path):
                    add(path, line, text)
        for path in sorted(folder.rglob("*.html")):
            for pair in _TRANSLATED.findall(path.read_text("utf-8")):
                add(path, 1, "".join(pair))
    pages = (*ROOT.glob("*.rst"), *ROOT.glob("docs/*.rst"), *ROOT.glob("*/README.rst"))
    for path in sorted(pages):
        for text in read_paragraphs(path.read_text("utf-8")):
            add(path, 1, text)
    return tuple(found.values())


def list_hits(pattern: str, sentences: tuple[Sentence, ...]) -> list[Sentence]:
    """Return the sentences that match a pattern."""
    return [sentence for sentence in sentences if re.search(pattern, sentence.text)]


def show(sentences: list[Sentence]) -> str:
    """Return the sentences with their places, one on each line."""
    return "\n".join(f"{s.path}:{s.line}: {s.text}" for s in sentences)


@pytest.mark.parametrize("name", HABITS)
def test_habits_are_rare(name: str) -> None:
    pattern, allowed = HABITS[name]
    sentences = read_all()
    hits = list_hits(pattern, sentences)
    rate = 1000 * len(hits) / len(sentences)
    assert rate <= allowed, f"{rate:.1f} in 1,000, {allowed} allowed:\n{show(hits)}"


def test_sentences_are_not_too_long() -> None:
    long = [s for s in read_all() if len(_WORD.findall(s.text)) > MOST_WORDS]
    assert not long, show(long)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("question words first", "What was sent is in the log."),
        ("where", "Return None, where there is no such row."),
        ("nobody", "Nobody has seen this message so far."),
        ("own", "It runs in a process of its own."),
        ("for", "It is not repeated, for it may have been accepted."),
        ("she", "Return the recipient and the message to her."),
    ],
)
def test_the_habits_are_found(name: str, sentence: str) -> None:
    assert list_hits(HABITS[name][0], (Sentence("x.py", 1, sentence),))


def test_every_kind_of_prose_is_read(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""The docstring of this module."""\n'
        "# The first line of a comment, and\n"
        "# its second line follows.\n"
        'raise ValueError(_("This is the text of an error."))\n'
    )
    assert {text for _, text in read_python(path) if text} == {
        "The docstring of this module.",
        "The first line of a comment, and its second line follows.",
        "This is the text of an error.",
    }
    assert len(read_all()) > 4_000
    assert {"README.rst", "docs/queue.rst", "tests/worlds.py"} <= {
        sentence.path for sentence in read_all()
    }

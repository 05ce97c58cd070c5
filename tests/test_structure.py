"""The structure of the package: layers, documentation and import graph."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections import Counter
from importlib import import_module
from pathlib import Path

import django_turbosmtp

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(django_turbosmtp.__file__).parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]

#: Loads the modules of a web process: settings, models, admin, URLs, checks.
SITE = """
import sys
import django
django.setup()
from django.core.checks import run_checks
from django.urls import get_resolver
get_resolver().url_patterns
from django.contrib import admin
admin.autodiscover()
run_checks()
from django.core.mail import EmailMessage
EmailMessage("Subject", "Text", "a@example.com", ["b@example.com"])
loaded = sorted(m for m in sys.modules if m.startswith("django_turbosmtp."))
assert "django_turbosmtp.admin.detail" in loaded, loaded
assert "django_turbosmtp.tracking.view" in loaded, loaded
found = [m for m in loaded if m.startswith("django_turbosmtp.sandbox")]
assert not found, found
assert "http.server" not in sys.modules
# Nothing was sent.
assert "requests" not in sys.modules
"""


def list_layers(contract):
    return [name.strip() for row in contract["layers"] for name in row.split("|")]


def test_a_site_loads_no_sandbox():
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    result = subprocess.run(
        [sys.executable, "-c", SITE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def test_the_table_has_the_order_of_the_contract():
    text = (ROOT / "docs" / "contributing.rst").read_text()
    table = text.split("Structure of the code")[1].split("Translations\n")[0]
    shown = [
        line.split("``")[1]
        for line in table.splitlines()
        if line.startswith("   * - ``")
    ]
    assert shown == list_layers(CONTRACTS[0])


def test_the_top_level_is_small():
    names = {path.stem for path in PACKAGE.iterdir()}
    names -= {"__init__", "__pycache__", "py", "locale", "static", "templates"}
    assert names == set(list_layers(CONTRACTS[0]))
    assert len(names) <= 24


def test_each_package_has_layers():
    containers = {name for c in CONTRACTS for name in c.get("containers", ())}
    packages = {
        path.parent.relative_to(PACKAGE.parent)
        for path in PACKAGE.rglob("__init__.py")
        if "migrations" not in path.parts and "management" not in path.parts
    }
    assert containers == {".".join(path.parts) for path in packages}
    assert all(c["exhaustive"] for c in CONTRACTS if c["type"] == "layers")


def test_no_import_cycles():
    """Includes imports under TYPE_CHECKING and inside functions."""
    graph = {}
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for name, path in names.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    imported.add(full if full in names else node.module)
        graph[name] = (imported & names.keys()) - {name}
    assert len(graph) > 100
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(graph[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_class_names_are_unique():
    """No two classes have the same name."""
    named = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        if "migrations" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    # Django requires these names.
    djangos = {"Command", "Media", "Meta"}
    assert sorted(name for name, n in named.items() if n > 1) == sorted(djangos)


class TimeLimit(Exception):  # noqa: N818 - their word
    """As in Celery and RQ."""


#: Exceptions of signal handlers: time limits, the end of the process, Ctrl-C.
INTERRUPTS = (TimeLimit, TimeoutError, ConnectionResetError, SystemExit)

#: Handlers that do not raise interrupts, and the reason.
NEED_NOT = {
    "delivery/transmit.py": "a worker thread, in which Python runs no signal handler",
    "management/commands/turbosmtp_erase.py": "it ends with a CommandError anyway",
    "management/commands/turbosmtp_suppressions.py": "it ends with a CommandError, too",
}


def list_handlers():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(("sandbox/", "testing/", "migrations/")):
            continue
        handlers = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.ExceptHandler)
        ]
        if not handlers:
            continue
        dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = import_module(f"django_turbosmtp.{dotted}")
        for node in handlers:
            yield name, node, find_classes(node, module)


def find_classes(handler, module):
    """Return the names of the classes that an ``except`` catches."""
    if handler.type is None:
        return (BaseException,)
    try:
        found = eval(ast.unparse(handler.type), vars(module))
    except NameError:
        return ()  # Imported in functions: Django's exceptions, which are narrow.
    return found if isinstance(found, tuple) else (found,)


def passes_interrupts(handler):
    """Return whether a handler raises an interrupt before it does anything else."""
    first, last = handler.body[0], handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return True
    call = first.value if isinstance(first, ast.Expr) else None
    name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
    return name in {"raise_interrupt", "self._pass_interrupt"}


def test_broad_handlers_do_not_hide_time_limits():
    """Narrow handlers do not call it, because they never catch an interrupt."""
    broad = narrow = 0
    wrong = []
    for name, node, classes in list_handlers():
        catches = any(
            issubclass(interrupt, cls) for interrupt in INTERRUPTS for cls in classes
        )
        broad, narrow = broad + catches, narrow + (not catches)
        if catches and not passes_interrupts(node) and name not in NEED_NOT:
            wrong.append(f"{name}:{node.lineno} swallows {ast.unparse(node.type)}")
        if not catches and "interrupt(" in ast.unparse(node):
            wrong.append(f"{name}:{node.lineno} asks for nothing")
    assert wrong == []
    assert broad > 15
    assert narrow > 30

"""Run the sandbox with `manage.py turbosmtp_sandbox`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_turbosmtp.sandbox import cli

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Serve a stand-in turboSMTP until Ctrl-C."""

    help = cli.DESCRIPTION
    # It stands in for a service: a half-finished project may run it, too.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the options of `python -m django_turbosmtp.sandbox`."""
        cli.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve, and exit with an error if the port is taken."""
        code = cli.run(options, self._write)
        if code:
            sys.exit(code)

    def _write(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

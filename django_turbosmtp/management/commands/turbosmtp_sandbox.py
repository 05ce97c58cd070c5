"""Run the sandbox with `manage.py turbosmtp_sandbox`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from django_turbosmtp.sandbox import cli

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Serves a simulated turboSMTP until Ctrl-C."""

    help = cli.DESCRIPTION
    # It replaces a service, so a project with failing checks may run it, too.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the options of `python -m django_turbosmtp.sandbox`."""
        cli.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve; exit with an error if the port is in use."""
        code = cli.run(options, self._write)
        if code:
            sys.exit(code)

    def _write(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

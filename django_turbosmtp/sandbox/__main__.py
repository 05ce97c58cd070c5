"""Run the sandbox with `python -m django_turbosmtp.sandbox`; it needs no settings."""

from __future__ import annotations

import sys

from django_turbosmtp.sandbox.cli import main

sys.exit(main())

#!/usr/bin/env python3
"""Start the example project and the sandbox: no account, no network mail.

    python3 example_project/demo.py            a form and an inbox, until Ctrl-C
    python3 example_project/demo.py --check    send, compare every byte, and exit

How the mail is sent: ``example/mail.py`` composes it, ``example/views.py`` sends it,
and ``example/receivers.py`` receives its events. ``example/settings.py`` configures the
backend ("This is the part to copy"). The rest of the demo is in ``demo_kit/``.

It only needs Python 3.11 or later.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    # Before the import below, so that an older Python does not show a traceback.
    sys.exit("The demo needs Python 3.11 or later; this is " + sys.version)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo_kit.main import main

if __name__ == "__main__":
    sys.exit(main())

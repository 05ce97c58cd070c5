"""An e-mail backend and reusable Django app for turboSMTP.

Importing this package imports neither Django nor requests, so that
``python -m django_turbosmtp.sandbox`` and build tools start fast.
"""

__version__ = "0.1.0"

"""turboSMTP for Django: an e-mail backend that loses nothing and sends nothing twice.

Importing this package imports neither Django nor requests, so that
``python -m django_turbosmtp.sandbox`` and build tools stay light.
"""

__version__ = "0.1.0"

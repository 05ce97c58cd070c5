"""turboSMTP's HTTP API, v2 and v1: one client, typed answers, typed errors."""

from django_turbosmtp.api.client import Client
from django_turbosmtp.api.results import Login, Response, SendResult

__all__ = ["Client", "Login", "Response", "SendResult"]

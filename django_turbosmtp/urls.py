"""Include it: ``path("turbosmtp/", include("django_turbosmtp.urls"))``."""

from __future__ import annotations

from django.urls import path

from django_turbosmtp.tracking.view import webhook

app_name = "turbosmtp"
urlpatterns = [
    path("webhook/", webhook, name="webhook"),
    # The same address where a site includes this at its root.
    path("turbosmtp/webhook/", webhook, name="webhook_at_root"),
    # As often entered in turboSMTP's dashboard: a redirect would lose a POST's body.
    path("webhook", webhook, name="webhook_without_slash"),
    path("turbosmtp/webhook", webhook, name="webhook_at_root_without_slash"),
]

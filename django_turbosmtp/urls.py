"""URLs of the webhook: ``path("turbosmtp/", include("django_turbosmtp.urls"))``."""

from __future__ import annotations

from django.urls import path

from django_turbosmtp.tracking.view import webhook

app_name = "turbosmtp"
urlpatterns = [
    path("webhook/", webhook, name="webhook"),
    # The same address if a site includes this at its root.
    path("turbosmtp/webhook/", webhook, name="webhook_at_root"),
    # Often entered without the slash in turboSMTP's dashboard. Django's redirect would
    # lose the body of the POST.
    path("webhook", webhook, name="webhook_without_slash"),
    path("turbosmtp/webhook", webhook, name="webhook_at_root_without_slash"),
]

"""URLs of the example project."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from example import views

urlpatterns = [
    path("", views.page, name="page"),
    path("send/", views.send, name="send"),
    path("send-plain/", views.send_plain, name="send_plain"),
    path("admin/", admin.site.urls),
]
if settings.TURBOSMTP.get("WEBHOOK_SECRET"):
    # turboSMTP posts events here.
    urlpatterns.append(path("turbosmtp/", include("django_turbosmtp.urls")))

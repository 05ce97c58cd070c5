"""URLs of the test site: the admin and the webhook."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("turbosmtp/", include("django_turbosmtp.urls")),
    # Every browser requests it.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
]

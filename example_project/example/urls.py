"""Addresses of the example project."""

from django.contrib import admin
from django.urls import path

from example import views

urlpatterns = [
    path("", views.page, name="page"),
    path("send/", views.send, name="send"),
    path("send-plain/", views.send_plain, name="send_plain"),
    path("admin/", admin.site.urls),
]

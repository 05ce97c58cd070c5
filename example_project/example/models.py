"""Parcels, whose customers get a message."""

from django.db import models


class Parcel(models.Model):
    """A parcel on its way."""

    email = models.EmailField()
    #: The last event that turboSMTP reported, in django-anymail's words.
    news = models.CharField(max_length=16, blank=True)

    def __str__(self) -> str:
        return f"Parcel {self.pk} to {self.email}"

"""The test mail, and the form for its recipient and mailer."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.mail import EmailMultiAlternatives
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from django_turbosmtp._lib.versions import list_mailers
from django_turbosmtp.backends import import_our_backend

#: The campaign of test mails.
CAMPAIGN = "test"


class TestMailForm(forms.Form):
    """The recipient and, if there are several, the mailer."""

    # This is not a test class, although pytest would assume so from its name.
    __test__ = False

    to = forms.EmailField(label=pgettext_lazy("recipient", "To"))
    mailer = forms.ChoiceField(label=gettext_lazy("Mailer"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = list_our_mailers()
        if names:
            self.fields["mailer"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        else:
            del self.fields["mailer"]


def list_our_mailers() -> list[str]:
    """Return the aliases of the mailers that use our backend (Django 6.1)."""
    return [
        alias
        for alias, config in list_mailers().items()
        if alias is not None
        and import_our_backend(config.get("BACKEND", "")) is not None
    ]


def build_test_mail(to: str, host: str) -> EmailMultiAlternatives:
    """Return the test mail of the site at ``host``, from DEFAULT_FROM_EMAIL."""
    text = _("This is a test mail from %s, sent through turboSMTP.") % host
    message = EmailMultiAlternatives(_("Test mail"), text, to=[to])
    message.attach_alternative(format_html("<p>{}</p>", text), "text/html")
    message.tags = [CAMPAIGN]  # type: ignore[attr-defined]
    return message

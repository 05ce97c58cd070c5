"""Who is not written to, and why: to be read, entered and lifted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.models import Suppression
from django_turbosmtp.payload.addresses import normalize_address, parse
from django_turbosmtp.statuses import Reason

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    _ModelForm = forms.ModelForm[Suppression]
    _ModelAdmin = admin.ModelAdmin[Suppression]
else:
    _ModelForm = forms.ModelForm
    _ModelAdmin = admin.ModelAdmin


class SuppressionForm(_ModelForm):
    """Takes an address in any writing, and keeps it as it is compared."""

    class Meta:
        model = Suppression
        fields = ("address", "reason", "note")

    def clean_address(self) -> str:
        """Return the address in lower case, its domain as it is sent."""
        try:
            mailbox = parse(self.cleaned_data["address"], "address")
        except InvalidAddress as error:
            raise forms.ValidationError(str(error)) from None
        return mailbox.addr_spec.lower()


@admin.register(Suppression)
class SuppressionAdmin(_ModelAdmin):
    """Deleting lifts: the address is written to again. Nothing is changed by hand."""

    form = SuppressionForm
    list_display = ("address", "reason", "source", "since", "short_note")
    list_filter = ("reason",)
    search_fields = ("address__exact",)
    search_help_text = _("A whole address.")
    ordering = ("-since", "-pk")
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["turbosmtp/admin.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let nobody: what somebody is suppressed for was so, or is lifted."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        """Find a whole address, in any writing."""
        address = normalize_address(search_term)
        return super().get_search_results(request, queryset, address)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Offer what is entered by hand."""
        return {"reason": Reason.MANUAL, **super().get_changeform_initial_data(request)}

    def save_model(
        self, request: HttpRequest, obj: Suppression, form: Any, change: bool
    ) -> None:
        """Say who entered it."""
        obj.source = request.user.get_username()[:100]
        super().save_model(request, obj, form, change)

    @admin.display(description=_("note"))
    def short_note(self, suppression: Suppression) -> str:
        """Return the beginning of the note."""
        return suppression.note[:80]

"""The admin of suppressed addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.validators import EmailValidator
from django.utils.translation import gettext_lazy as _

from django_turbosmtp._lib.hashes import list_hashes, show_address
from django_turbosmtp.conf.log import choose_log_database
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
    """Accepts an address in any spelling, and stores it normalized."""

    class Meta:
        model = Suppression
        fields = ("address", "reason", "note")

    def clean_address(self) -> str:
        """Return the address in lower case, its domain in IDNA."""
        try:
            mailbox = parse(self.cleaned_data["address"], "address")
        except InvalidAddress:
            # Django's sentence, because ours is in English and for developers.
            raise forms.ValidationError(EmailValidator.message) from None
        address = mailbox.addr_spec.lower()
        # Django's check would use the database from which the router reads.
        rows = Suppression.objects.using(choose_log_database())
        if rows.filter(address__in=[address, *list_hashes(address)]).exists():
            raise self.instance.unique_error_message(Suppression, ("address",))
        return address

    def validate_unique(self) -> None:
        """Do nothing: `clean_address` checks it."""


@admin.register(Suppression)
class SuppressionAdmin(_ModelAdmin):
    """Suppressions are added or deleted, never edited. Deleting allows mail again."""

    form = SuppressionForm
    list_display = ("shown_address", "reason", "source", "since", "short_note")
    list_filter = ("reason",)
    search_fields = ("address__exact",)
    search_help_text = _("Enter a complete address.")
    ordering = ("-since", "-pk")
    show_full_result_count = False

    class Media:
        css: ClassVar = {"all": ["turbosmtp/admin.css"]}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: suppressions are added or deleted, never edited."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Suppression]:
        return super().get_queryset(request).using(choose_log_database())

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether it is the lookup of the filter by reason."""
        # Django would run any other lookup, also slow ones (see `MessageAdmin`).
        return lookup == "reason__exact" and value in set(Reason)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        """Find a whole address, in any spelling; also that of an erased person."""
        if not search_term.strip():
            return queryset, False
        address = normalize_address(search_term)
        names = [address, *list_hashes(address)]
        return queryset.filter(address__in=names), False

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return the default reason."""
        return {"reason": Reason.MANUAL, **super().get_changeform_initial_data(request)}

    def save_model(
        self, request: HttpRequest, obj: Suppression, form: Any, change: bool
    ) -> None:
        """Save in the log's database, with the name of the user as the source."""
        # The length of the column. Usernames may be longer.
        obj.source = request.user.get_username()[:100]
        obj.save(using=choose_log_database())

    def delete_model(self, request: HttpRequest, obj: Suppression) -> None:
        """Delete from the log's database."""
        obj.delete(using=choose_log_database())

    @admin.display(description=_("address"), ordering="address")
    def shown_address(self, suppression: Suppression) -> str:
        """Return the address; for an erased person, only that it was erased."""
        return show_address(suppression.address)

    @admin.display(description=_("note"))
    def short_note(self, suppression: Suppression) -> str:
        """Return the beginning of the note."""
        return suppression.note[:80]

"""The form of the example."""

from django import forms


class MailForm(forms.Form):
    """A message to one person."""

    to = forms.EmailField(label="To")
    subject = forms.CharField(max_length=700)
    # Do not strip it: white space at the ends is part of the text.
    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 7}), strip=False)
    with_files = forms.BooleanField(
        label="With a picture and an attachment", required=False
    )

    def clean_text(self) -> str:
        """Return the text with Python's line ends, because browsers post CRLF."""
        return self.cleaned_data["text"].replace("\r\n", "\n")

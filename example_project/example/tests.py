"""Tests of the example, without a network: python manage.py test"""

from django.test import TransactionTestCase

from django_turbosmtp.exceptions import ConnectionFailed
from django_turbosmtp.testing import OutboxMixin
from example.models import Parcel

MAIL = {"to": "jane@example.com", "subject": "Your parcel", "text": "It is small."}


class SendTests(OutboxMixin, TransactionTestCase):
    """Accepted messages are in the outbox, and are not sent.

    A TransactionTestCase, because the view sends after its commit.
    """

    def test_a_message_has_tags_and_metadata(self):
        """You can filter by the tag in the admin, and events have the metadata."""
        self.client.post("/send/", MAIL)
        message = self.outbox.assert_sent(to="jane@example.com", tag="parcel")
        self.assertEqual(message.metadata, {"parcel": Parcel.objects.get().pk})

    def test_a_refused_message_leaves_its_parcel(self):
        """Mail is sent after the commit, so its errors do not cause a rollback."""
        self.outbox.fail_next(ConnectionFailed("no network"))
        self.client.post("/send/", MAIL)
        self.assertEqual(self.outbox.messages, [])
        self.assertEqual(Parcel.objects.count(), 1)

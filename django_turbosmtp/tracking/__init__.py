"""Tracking: reads events from webhook requests, and updates statuses in the log."""

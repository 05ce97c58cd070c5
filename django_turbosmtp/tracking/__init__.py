"""Tracking: webhook requests to events, and events to statuses in the log."""

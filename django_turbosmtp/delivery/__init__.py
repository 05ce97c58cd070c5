"""Sending: prepare, transmit, conclude and record; and sending again."""

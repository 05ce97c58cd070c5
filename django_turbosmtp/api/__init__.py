"""turboSMTP's HTTP API, v2 and v1: one client, typed answers, typed errors."""

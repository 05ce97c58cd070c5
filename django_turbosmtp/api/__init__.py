"""A client for turboSMTP's HTTP API, v2 and v1, with typed answers and errors."""

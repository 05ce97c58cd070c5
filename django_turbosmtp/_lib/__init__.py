"""General helpers: versions, secrets, threads, logging, text."""

"""The log in the database: its rows, statements, query sets and statistics."""

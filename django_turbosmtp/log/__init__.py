"""The log in the database: rows, statements, query sets and statistics."""

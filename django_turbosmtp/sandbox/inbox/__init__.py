"""What people and tests see: pages for a browser, and JSON."""

"""The sandbox's inbox: pages for a browser, and JSON for tests."""

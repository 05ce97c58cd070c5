"""The demo starts the sandbox and the example project, and checks arrived messages.

It only needs Python's standard library. ``example_project/demo.py`` runs it.
"""

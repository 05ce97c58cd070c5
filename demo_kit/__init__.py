"""The demo: it starts the sandbox and the example project, and checks what arrives.

Only Python's own library. ``example_project/demo.py`` starts it.
"""

"""``settings.TURBOSMTP``: its keys, their checks, and the settings read from them."""

"""turboSMTP's API as the sandbox speaks it: strict, and able to fail."""

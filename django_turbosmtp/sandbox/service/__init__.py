"""turboSMTP's API in the sandbox: strict, and with simulated faults."""

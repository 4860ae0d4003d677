"""Access to the service: its address behind a proxy, tokens, sessions, and the limits of requests."""

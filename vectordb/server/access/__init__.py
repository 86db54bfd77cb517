"""Who may call what: keys, rules, limits, audit log, TLS."""

"""The command line: one module a command, in folders as the help groups them."""

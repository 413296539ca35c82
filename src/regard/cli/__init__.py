"""The command line: one module per group; nothing heavy is imported before a command needs it."""

"""The command line: one file for each subcommand, which parses, wires and shows."""

"""The command line: one file for each sort of verbs; the heavy packages are imported inside of these."""

"""Files that are whole or absent, their names, their hashes, and where else they may lie."""

"""How options are declared, found, checked, and read from YAML and the command line."""

"""One file a command; `loligo.cli` knows which, and imports it only when it is used."""

"""Networks that are loaded or assembled, never trained here."""

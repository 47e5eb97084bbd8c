"""From receipts to one commit: gather, verify, publish."""

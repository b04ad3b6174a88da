"""What you see: Textual. Sends operations, draws sessions."""

"""The parts of the bench screen, one a file; each is shown its slice of the session and asks for nothing."""

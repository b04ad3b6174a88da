"""One file a screen; each is given what it shows and dismisses with what was decided."""

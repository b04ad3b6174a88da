"""What each operation does to a state, a file each."""

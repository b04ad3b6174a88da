"""What pruning needs: how many go, which, and what goes with them."""

"""Finetuning: the loop, what makes it fast and what makes it go on."""

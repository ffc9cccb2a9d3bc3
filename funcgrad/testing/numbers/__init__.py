"""The kinds of number that a program is evaluated with, a file each."""

"""What can be seen of a ledger while runs are made, as it is read, printed and put on a page."""

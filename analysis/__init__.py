"""What the ledger's files say: statistics, tables and figures. Reads finished runs; trains nothing."""

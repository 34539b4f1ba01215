"""The ledger, the folder of finished runs: its files, their forms, what all share that read or write it. No torch."""

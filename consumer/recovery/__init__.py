"""What a person does when the view is in doubt: compare it with the ledger, and have it made anew."""

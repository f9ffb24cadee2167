"""`optout skip`: what nobody can read is passed over, because an operator looked at it and wrote so."""

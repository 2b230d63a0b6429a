"""Who is calling: a credential on a request becomes a Caller. One file for each kind of credential."""

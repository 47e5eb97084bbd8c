"""Writers for a session that the caller owns and commits: no plan, no run, no branch of their own."""

"""What every HTTP conversation here shares: failures named, retries decided, pace kept, sessions made."""

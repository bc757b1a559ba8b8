"""bytes <-> vocabulary; the only folder that knows HTTP and SSE."""

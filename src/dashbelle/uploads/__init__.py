"""Files that callers upload: received, kept, listed and deleted, each seen by its owner's key alone."""

"""From a data plane to the full list of its objects: pure, one file a kind."""

// The page works without this script. It adds what HTML alone can't do.

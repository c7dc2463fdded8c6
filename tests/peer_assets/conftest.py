pytest_plugins = ["support.peer_fixtures"]

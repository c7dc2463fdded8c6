"""Client of the UP42 jobs API: authentication, listing and outputs. Only this package reads its JSON."""

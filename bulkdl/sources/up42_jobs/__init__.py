"""The UP42 API: who we are, what there is, where it can be had. The only place that knows its JSON."""

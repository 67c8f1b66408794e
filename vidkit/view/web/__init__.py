"""The pages themselves: a small web server for this machine's own user, templates, scripts and styles."""

"""Places where datasets lie: folders of this machine, and addresses of object stores and web servers (fsspec)."""
